"""The SDK for JavaScript on backups: another implementation of the protocol, from a vault to restored files."""

import json
import subprocess
from typing import Any

from tests.javascript.npm import javascript
from tests.running import MANAGEMENT, PATIENCE, REGION, ROLE, Member, Running, make_role

from holdfast.cli.tree import compare_trees, make_tree


def test_the_sdk_for_javascript_backs_up_and_restores(dev: Running) -> None:
    us = Member(dev, MANAGEMENT, dev.credentials)
    tree, target = us.sandbox / "tree", us.sandbox / "back"
    make_tree(tree, theme="sdk", files=5)
    arn, role = us.register("tree", tree), make_role(us, ROLE)
    done = subprocess.run(
        ["node", "backup.mjs", dev.url, REGION, arn, role, target.as_uri()],
        cwd=javascript(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    saw: dict[str, Any] = json.loads(done.stdout)
    assert (saw["again"]["name"], saw["again"]["status"]) == ("AlreadyExistsException", 400)
    assert saw["versions"] == [True, True]
    assert saw["schedules"] == ["cron(0 5 ? * * *)", "cron(0 3 ? * * *)"]
    assert saw["runs"] == [3, 3]
    assert saw["plans"] == ["one", "three", "two"]
    assert (saw["selection"], saw["selections"]) == ("test", ["gold"])
    assert saw["inUse"] == {
        "name": "InvalidRequestException",
        "message": "Related backup plan selections must be deleted prior to backup plan deletion",
        "status": 400,
    }
    assert saw["backup"] == {"state": "COMPLETED", "percent": "100.0", "took": True}
    assert (saw["jobs"], saw["points"], saw["restore"]) == ([True], 1, "COMPLETED")
    files, differences = compare_trees(tree, target)
    assert files > 0
    assert differences == []
    assert saw["deleted"]
    assert saw["gone"]["name"] == "ResourceNotFoundException"
