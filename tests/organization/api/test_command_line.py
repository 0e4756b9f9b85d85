"""The AWS CLI as it comes, on organizations and on the extension."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.devserver import MANAGEMENT, DevServer

from holdfast.wire.model import MODEL_DIRECTORY


def aws(server: DevServer, *arguments: str) -> Any:
    """Run the AWS CLI and return what it prints."""
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_DATA_PATH": str(MODEL_DIRECTORY),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    command = [sys.executable, "-m", "awscli", *arguments, "--output", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


def test_the_command_line_makes_lists_and_overviews(server: DevServer, root: str) -> None:
    tags = "Key=team,Value=web"
    unit = aws(
        server, "organizations", "create-organizational-unit", "--parent-id", root, "--name", "Prod", "--tags", tags
    )
    unit_id = unit["OrganizationalUnit"]["Id"]
    for number in range(2):
        account = f"11112222333{number}"
        given = ["--account-id", account, "--name", f"a{number}", "--email", f"a{number}@example.com"]
        aws(server, "holdfast", "import-account", *given, "--parent-id", unit_id)
    accounts = aws(server, "organizations", "list-accounts", "--page-size", "2")["Accounts"]
    assert [account["Id"] for account in accounts] == [MANAGEMENT, "111122223330", "111122223331"]
    nodes = aws(server, "holdfast", "get-organization-tree", "--query", "Nodes[].[Name, AccountCount]")
    assert nodes == [["Root", 1], ["Prod", 2]]
