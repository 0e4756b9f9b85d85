"""The SDK for JavaScript on organizations: another implementation of the same protocol."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.devserver import MANAGEMENT, DevServer

HERE = Path(__file__).parents[2] / "javascript"


@pytest.fixture(scope="module")
def modules() -> Path:
    """The directory with the SDK, which npm puts there in the locked versions."""
    for program in ("node", "npm"):
        assert shutil.which(program), f"{program} is missing. Install it (on Debian: apt-get install nodejs npm)"
    if not (HERE / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True, timeout=600)
    return HERE


@pytest.mark.deep
def test_the_sdk_for_javascript_works_as_boto3_does(server: DevServer, modules: Path) -> None:
    done = subprocess.run(
        ["node", "organizations.mjs", server.url], cwd=modules, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    saw: dict[str, Any] = json.loads(done.stdout)
    assert saw["before"] == {"name": "AWSOrganizationsNotInUseException", "reason": None, "status": 400}
    assert saw["organization"]["MasterAccountId"] == MANAGEMENT
    assert saw["again"]["name"] == "DuplicateOrganizationalUnitException"
    assert saw["parent"]
    assert saw["joined"]
    assert saw["path"]
    assert (saw["pages"], saw["accounts"]) == (2, ["master", "shop", "bank", "mill"])
    assert saw["tags"] == [{"Key": "team", "Value": "größe"}]
    assert saw["effective"]["tags"]["team"]["tag_key"] == "Team"
    assert saw["invitation"] == {
        "name": "InvalidInputException",
        "reason": "INVALID_EMAIL_ADDRESS_TARGET",
        "status": 400,
    }
