"""Random parameters and results for botocore's own shapes, many of them awkward."""

import string
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from holdfast.wire.model import MODEL_DIRECTORY

_LOADER = Loader(extra_search_paths=[str(MODEL_DIRECTORY)])
_AWKWARD = [
    "a b",
    "orgs/5b8e",
    "arn:aws:s3:::b/ü",
    "a%2Fb",
    "a+b",
    "*",
    "?x=1&y#z",
    "<&>\"'",
    "\t\n\r",
    "日本",
    "😀",
    "=",
    "~",
]
_DEEPEST = 5


def described(service: str) -> ServiceModel:
    """Return botocore's own reading of a service's model."""
    return ServiceModel(_LOADER.load_service_model(service, "service-2"), service)


def seeded(seed: int) -> Random:
    """Return a source of choices that Hypothesis can replay by its seed."""
    return Random(seed)  # noqa: S311 - these are examples, not secrets


def value_for(shape: Any, random: Random, *, empty: bool, depth: int = 0) -> Any:
    """Return a value of a shape's type, whatever its constraints; `empty`: lists and structures may be empty."""
    match shape.type_name:
        case "structure":
            return _structure(shape, random, empty=empty, depth=depth)
        case "list":
            count = random.choice([0, 1, 3]) if depth < _DEEPEST else 0
            return [value_for(shape.member, random, empty=empty, depth=depth + 1) for _ in range(count)]
        case "map":
            count = random.choice([0, 1, 3] if empty else [1, 3])
            return {text(random): value_for(shape.value, random, empty=empty, depth=depth + 1) for _ in range(count)}
        case "string" | "character":
            return random.choice(shape.enum) if getattr(shape, "enum", None) else text(random)
        case "blob":
            return random.randbytes(random.choice([0, 1, 40]))
        case "timestamp":
            return datetime(1990, 1, 1, tzinfo=UTC) + timedelta(milliseconds=random.randrange(3 * 10**12))
        case "boolean":
            return random.random() < 0.5
        case "integer" | "long":
            return random.choice([0, -1, 7, 2**31 - 1])
        case "float" | "double":
            return random.choice([0.0, -1.5, 1e300])
        case other:
            raise AssertionError(f"no value for {other}")


def _structure(shape: Any, random: Random, *, empty: bool, depth: int) -> dict[str, Any]:
    names = list(shape.members)
    if getattr(shape, "is_tagged_union", False):
        chosen = [random.choice(names)]
    else:
        share = 0.2 if depth >= _DEEPEST else random.choice([0.3, 1.0])
        labels = {name for name in names if shape.members[name].serialization.get("location") == "uri"}
        chosen = [name for name in names if name in labels or random.random() < share]
        if not chosen and names and depth and not empty:
            chosen = [min(names, key=lambda name: shape.members[name].type_name in {"structure", "map", "list"})]
    return {name: value_for(shape.members[name], random, empty=empty, depth=depth + 1) for name in chosen}


def text(random: Random) -> str:
    """Return a text of at least one character, often an awkward one."""
    if random.random() < 0.5:
        return random.choice(_AWKWARD)
    return "".join(random.choices(string.ascii_letters + string.digits + "-_./", k=random.randrange(1, 12))) + "x"
