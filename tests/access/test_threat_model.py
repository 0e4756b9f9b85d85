"""The threat model names tests; each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model-access.md").read_text(encoding="utf-8")
PROMISED = re.findall(r"`(test_\w+)`", PAGE)


def test_every_test_that_the_threat_model_names_exists() -> None:
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(PROMISED) > 30
    assert [name for name in PROMISED if f"def {name}(" not in written] == []
