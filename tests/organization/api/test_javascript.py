"""The SDK for JavaScript on organizations: another implementation of the same protocol."""

import json
import subprocess
from typing import Any

from tests.devserver import MANAGEMENT, DevServer
from tests.javascript.npm import javascript


def test_the_sdk_for_javascript_works_as_boto3_does(server: DevServer) -> None:
    done = subprocess.run(
        ["node", "organizations.mjs", server.url],
        cwd=javascript(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
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
