"""What deciding costs: the signature checked, the policies gathered, the decision made; prints JSON.

    python bench/access.py [--requests 3000]

One caller is a user with a group, five policies and a boundary, under an organization of four levels with service
control policies at each, asking for a vault with an access policy. `remembered`: nothing changed since the last
request. `anew`: the access version rose, so everything is read and compiled documents are put together again.
"""

import argparse
import hashlib
import json
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Signing
from sqlalchemy import text

from holdfast.access import policy_service, service
from holdfast.access.credentials import create_access_key
from holdfast.access.model.identity import Kind
from holdfast.access.store import raise_access_version
from holdfast.core.clock import SystemClock, SystemMachineTime
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode, Settings
from holdfast.database.connection import Database
from holdfast.database.schema import upgrade
from holdfast.database.values import FOREVER
from holdfast.server.authorize import Authorizer
from holdfast.wire.call import Call, Instance
from holdfast.wire.message import HttpRequest
from holdfast.wire.paging import PageTokens
from holdfast.wire.signature import SigningKeys, read_signature, verify

ACCOUNT, REGION = "111122223333", "eu-north-1"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROOT = RootKey(hashlib.sha256(b"bench").digest())
PATH = ["r-1", "ou-1-a", "ou-1-b", ACCOUNT]


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def insert(tx: sa.Connection, table: str, **values: Any) -> None:
    row = dict(values)
    for column in sa.inspect(tx).get_columns(table):
        if not column["nullable"] and column["name"] not in row and column.get("autoincrement") is not True:
            row[column["name"]] = column["type"].python_type()
    names = ", ".join(row)
    tx.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"), row)


def lay(tx: sa.Connection) -> tuple[str, str]:
    insert(tx, "organization", id="o-1", management_account="999900001111", root_id="r-1", feature_set="ALL")
    insert(tx, "policy_type", organization_id="o-1", type="SERVICE_CONTROL_POLICY", status="ENABLED")
    insert(tx, "account", id=ACCOUNT, name="a", email="a", status="ACTIVE", organization_id="o-1")
    path = "o-1/" + "/".join(PATH[:-1]) + "/"
    insert(tx, "placement", account_id=ACCOUNT, organization_id="o-1", unit_id=PATH[-2], path=path, ends_at=FOREVER)
    contents = {
        "p-full": document(allow("*")),
        "p-deny": document(
            {"Effect": "Deny", "Action": ["backup:DeleteRecoveryPoint", "kms:Schedule*"], "Resource": "*"}
        ),
    }
    for name, content in contents.items():
        insert(tx, "policy", id=name, organization_id="o-1", type="SERVICE_CONTROL_POLICY", name=name, content=content)
        for target in PATH:
            insert(
                tx,
                "attachment",
                organization_id="o-1",
                policy_id=name,
                target_id=target,
                type="SERVICE_CONTROL_POLICY",
                ends_at=FOREVER,
            )
    keeping = {**document_of_vault(), "Principal": {"AWS": ACCOUNT}}
    insert(
        tx, "vault", id="v", account=ACCOUNT, region=REGION, name="Daily", policy=document(keeping), deleted_at=FOREVER
    )
    boundary = policy_service.create_policy(tx, ACCOUNT, "Bound", document(allow("backup:*"), allow("sts:*")), now=NOW)
    service.create_user(tx, ACCOUNT, "maria", boundary=boundary.arn, now=NOW)
    service.create_group(tx, ACCOUNT, "operators", now=NOW)
    service.add_to_group(tx, ACCOUNT, "operators", "maria")
    for arn in ("ReadOnlyAccess", "AWSBackupFullAccess"):
        policy_service.attach(tx, Kind.GROUP, ACCOUNT, "operators", f"arn:aws:iam::aws:policy/{arn}")
    for number in range(3):
        condition = {"IpAddress": {"aws:SourceIp": f"203.0.{number}.0/24"}}
        own = document(allow("s3:Get*", f"arn:aws:s3:::bucket-{number}/*", Condition=condition))
        policy_service.put_inline(tx, Kind.USER, ACCOUNT, "maria", f"own-{number}", own)
    key, made = create_access_key(tx, ROOT, ACCOUNT, "maria", now=NOW)
    return key.id, made.secret


def document_of_vault() -> dict[str, Any]:
    return allow("backup:CopyIntoBackupVault", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})


def signed(key_id: str, secret: str, number: int) -> HttpRequest:
    url = f"http://127.0.0.1:8420/backup-vaults/Daily?n={number}"
    request = AWSRequest("GET", url, headers={"X-Number": str(number)})
    SigV4Auth(Signing(key_id, secret), "backup", REGION).add_auth(request)
    headers = [*request.headers.items(), ("Host", "127.0.0.1:8420")]
    return HttpRequest.of("GET", "/backup-vaults/Daily", f"n={number}", headers, b"", "203.0.1.9")


def figures(measured: list[tuple[int, int]]) -> dict[str, float]:
    """Return the time that passed, and, for a machine with other work, the time that this thread worked."""
    passed = sorted(each for each, _ in measured)
    worked = sorted(each for _, each in measured)
    return {
        "median_ms": round(statistics.median(passed) / 1e6, 4),
        "p99_ms": round(passed[len(passed) * 99 // 100] / 1e6, 4),
        "worked_median_ms": round(statistics.median(worked) / 1e6, 4),
        "worked_p99_ms": round(worked[len(worked) * 99 // 100] / 1e6, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as directory:
        database = Database.open(f"sqlite:///{directory}/control.db")
        upgrade(database)
        settings = Settings(data_dir=Path(directory), mode=Mode.DEV, regions={}, storages={}, sites={})
        machine = SystemMachineTime()
        instance = Instance(settings, ROOT, SystemClock(), machine, database, PageTokens(b"key"))
        with database.transaction() as tx:
            key_id, secret = lay(tx)
        authorizer, keys = Authorizer(instance), SigningKeys()
        requests = [signed(key_id, secret, number) for number in range(count)]

        def decide(request: HttpRequest) -> tuple[int, int]:
            begun, worked = time.perf_counter_ns(), time.thread_time_ns()
            signature = read_signature(request)
            credential = authorizer.credential(signature.access_key_id, signature.session_token)
            assert credential is not None
            verify(request, signature, credential.secret, now=machine.now(), keys=keys)
            with database.reading() as tx:
                call = Call(
                    service="backup",
                    operation="DescribeBackupVault",
                    region=REGION,
                    partition="aws",
                    request_id="r",
                    source_ip="203.0.1.9",
                    user_agent="bench",
                    access_key_id=key_id,
                    caller=credential.principal,
                    now=instance.clock.now(),
                    tx=tx,
                    instance=instance,
                )
                authorizer.authorize(call, {"BackupVaultName": "Daily"})
            return time.perf_counter_ns() - begun, time.thread_time_ns() - worked

        for request in requests[:100]:
            decide(request)
        remembered = [decide(request) for request in requests]
        anew = []
        for request in requests[: count // 10]:
            with database.transaction() as tx:
                raise_access_version(tx)
            anew.append(decide(request))
        database.close()
    print(
        json.dumps(
            {
                "requests": count,
                "remembered": figures(remembered),
                "anew": figures(anew),
                "python": platform.python_version(),
                "machine": platform.machine(),
            },
            indent=2,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
