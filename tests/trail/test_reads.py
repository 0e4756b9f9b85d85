"""Calls that only read are in the trail too, within bounds, and what did not fit is counted."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from sqlalchemy import text
from tests.running import Running, eventually

from holdfast.core.clock import SystemMachineTime
from holdfast.database.connection import Database
from holdfast.trail.reads import Reads
from holdfast.trail.service import Decision, Entry
from holdfast.trail.strangers import Refused, Strangers
from holdfast.wire.application import Application
from holdfast.wire.message import HttpRequest

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def an_entry(operation: str) -> Entry:
    return Entry(NOW, "111122223333", "eu-north-1", "kms", operation, "arn:x", Decision.ALLOWED, "policy", reads=True)


def written(database: Database) -> list[tuple[str, str]]:
    with database.reading() as tx:
        rows = tx.execute(text("SELECT kind, operation FROM audit_entry ORDER BY id")).all()
    return [(row.kind, row.operation) for row in rows]


def write(reads: Reads, database: Database) -> int:
    return reads.write(database, account="111122223333", region="eu-north-1", now=NOW)


def test_reads_are_written_in_their_order(database: Database) -> None:
    reads = Reads()
    assert write(reads, database) == 0
    for name in ("ListKeys", "DescribeKey"):
        reads.note(an_entry(name))
    assert write(reads, database) == 2
    assert written(database) == [("read", "ListKeys"), ("read", "DescribeKey")]


def test_what_does_not_fit_is_counted_and_told(sqlite_database: Database) -> None:
    reads = Reads(holds=2)
    for number in range(5):
        reads.note(an_entry(f"Get{number}"))
    write(reads, sqlite_database)
    assert written(sqlite_database) == [("read", "Get0"), ("read", "Get1"), ("event", "ReadsNotRecorded")]
    with sqlite_database.reading() as tx:
        told = tx.execute(text("SELECT reason FROM audit_entry WHERE kind = 'event'")).scalar_one()
    assert told.startswith("3 calls")


def test_what_could_not_be_written_is_counted_as_well(sqlite_database: Database) -> None:
    reads = Reads()
    reads.note(an_entry("GetKeyPolicy"))
    with sqlite_database.transaction() as tx:
        tx.execute(text("ALTER TABLE audit_entry RENAME TO away"))
    with pytest.raises(sa.exc.OperationalError):
        write(reads, sqlite_database)
    with sqlite_database.transaction() as tx:
        tx.execute(text("ALTER TABLE away RENAME TO audit_entry"))
    write(reads, sqlite_database)
    assert written(sqlite_database) == [("event", "ReadsNotRecorded")]


def events(dev: Running, **attribute: str) -> list[dict[str, Any]]:
    asked = [{"AttributeKey": key, "AttributeValue": value} for key, value in attribute.items()]
    found: list[dict[str, Any]] = dev.client("cloudtrail").lookup_events(LookupAttributes=asked)["Events"]
    return found


def test_who_looked_at_what_is_in_the_trail(dev: Running) -> None:
    kms = dev.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.get_key_policy(KeyId=key, PolicyName="default")
    (event,) = eventually(lambda: events(dev, EventName="GetKeyPolicy"), "the read is written down")
    assert (event["ReadOnly"], key in event["CloudTrailEvent"]) == ("true", True)
    assert "GetKeyPolicy" in {each["EventName"] for each in events(dev, ReadOnly="true")}
    assert {each["EventName"] for each in events(dev, ReadOnly="false")} == {"CreateKey"}


class Nobody:
    """A backend that knows no key."""

    def credential(self, access_key_id: str, session_token: str | None) -> None:
        return None

    def invoke(self, received: object, principal: object, parameters: object) -> None:
        raise AssertionError("nobody comes this far")


def test_the_server_tells_of_every_request_that_it_refuses_unknown() -> None:
    told: list[Refused] = []
    application = Application(Nobody(), machine_time=SystemMachineTime(), strangers=told.append)
    request = AWSRequest("POST", "http://localhost/", {"X-Amz-Target": "TrentService.ListKeys"}, b"{}")
    SigV4Auth(Credentials("AKIAUNKNOWN", "x"), "kms", "eu-north-1").add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    for given in ({**headers, "host": "localhost"}, {}):
        application.answer(HttpRequest("POST", "/", "", given, b"{}", "127.0.0.1"), "request")
    application.close()
    assert [(each.flaw, each.access_key_id) for each in told] == [("unknown key", "AKIAUNKNOWN"), ("missing", "")]


def test_who_is_not_known_is_counted_with_a_few_examples(sqlite_database: Database) -> None:
    strangers = Strangers()
    for number in range(9):
        strangers.note(Refused("mismatch", "127.0.0.1", f"AKIA{number}", "/"))

    def write(at: float) -> int:
        return strangers.write(sqlite_database, account="1" * 12, region="eu-north-1", now=NOW, monotonic=at)

    assert write(0.0) == 9
    strangers.note(Refused("missing", "127.0.0.1", "", "/"))
    assert (write(59.0), write(60.0), write(200.0)) == (0, 1, 0)
    with sqlite_database.reading() as tx:
        first = tx.execute(text("SELECT parameters FROM audit_entry ORDER BY id LIMIT 1")).scalar_one()
    assert first.count("AKIA") == 5


def test_secrets_never_reach_the_trail(dev: Running) -> None:
    secret = "a-secret-that-stands-out"
    holdfast, iam, kms = dev.client("holdfast"), dev.client("iam"), dev.client("kms")
    holdfast.put_secret(Name="s", Username="u", Value=secret, Scheme="postgresql", Host="h", Port=1, Site="local")
    iam.create_user(UserName="maria")
    iam.create_login_profile(UserName="maria", Password=secret + "-A1")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.encrypt(KeyId=key, Plaintext=secret.encode())
    with pytest.raises(ClientError):
        dev.client("sts").assume_role_with_web_identity(
            RoleArn="arn:aws:iam::123456789012:role/None", RoleSessionName="maria", WebIdentityToken=secret
        )
    eventually(lambda: events(dev, EventName="Encrypt"), "the last of them is written down")
    dev_log = dev.said()
    assert secret not in dev_log
    for path in dev.data_dir.glob("control.db*"):
        assert secret.encode() not in path.read_bytes()
