"""Events reach those who asked for them: signed, once, and never at the cost of a backup."""

import base64
import hashlib
import hmac
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.docs.test_documents import blocks_of
from tests.monitor.receiver import receiving
from tests.running import (
    PATIENCE,
    REGION,
    VAULT,
    configured,
    environment,
    eventually,
    found_organization,
    join,
    refusal,
    started,
)

from holdfast.cli.tree import make_tree
from holdfast.wire.model import MODEL_DIRECTORY

SECRET = "a shared secret"
GUIDE = "docs/how-to/send-events.md"


def signed_well(messages: Sequence[tuple[Mapping[str, str], bytes]], secret: str) -> bool:
    """Whether each message carries the signature that the secret makes."""
    return all(
        headers["webhook-signature"]
        == "v1,"
        + base64.b64encode(
            hmac.digest(
                secret.encode(),
                f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body,
                hashlib.sha256,
            )
        ).decode()
        for headers, body in messages
    )


def test_a_backup_is_told_of_to_the_organizations_receiver_and_to_the_vaults_subscriber(tmp_path: Path) -> None:
    with receiving() as pager, receiving() as subscriber:
        (allowed,) = blocks_of(GUIDE, "toml")
        allowed = allowed.replace("127.0.0.1:9000", pager.place).replace("pager.example.internal", subscriber.place)
        configured(tmp_path / "data", allowed)
        with started("dev", tmp_path / "data") as server:
            found_organization(server)
            shop = join(server, "shop")
            holdfast = server.client("holdfast")
            holdfast.put_secret(Name="pager", Scheme="http", Host="127.0.0.1", Port=pager.port, Value=SECRET)
            route = {"Name": "pager", "Url": pager.url, "SecretName": "pager", "OrganizationWide": True}
            put = holdfast.put_event_route(**route, DetailTypes=["Backup Job State Change"], Tags={"team": "night"})
            assert holdfast.describe_event_route(Name="pager")["EventRoute"] == put["EventRoute"]
            assert put["EventRoute"]["Tags"] == {"team": "night"}
            assert [each["Name"] for each in holdfast.list_event_routes()["EventRoutes"]] == ["pager"]
            theirs = shop.client("holdfast")
            assert refusal(theirs.put_event_route, Name="all", Url=pager.url, OrganizationWide=True)[0] == (
                "ValidationException"
            )
            assert refusal(theirs.describe_event_route, Name="pager")[0] == "ResourceNotFoundException"
            unreachable = theirs.put_event_route(Name="dead", Url="https://127.0.0.1:1/")["EventRoute"]
            assert unreachable["Confirmed"]
            topic = f"arn:aws:sns:{shop.region}:{shop.id}:backups"
            theirs.put_event_route(Name="topic", Url=subscriber.url, Format="SNS", TopicArn=topic)
            shop.client("backup").put_backup_vault_notifications(
                BackupVaultName=VAULT, SNSTopicArn=topic, BackupVaultEvents=["BACKUP_JOB_COMPLETED"]
            )
            eventually(lambda: subscriber.came, "the subscriber is asked to confirm")
            (asked,) = subscriber.bodies()
            assert theirs.confirm_event_route(Name="topic", Token=asked["Token"])["EventRoute"]["Confirmed"]
            sent = holdfast.send_test_event(Name="pager")["EventId"]
            eventually(lambda: pager.came, "the test event arrives")
            assert [each["id"] for each in pager.bodies()] == [sent]
            tree = shop.sandbox / "files"
            make_tree(tree, theme="shop", files=3)
            job = shop.back_up(shop.register("files", tree))
            server.settle(60)
            eventually(lambda: len(pager.came) >= 4 and len(subscriber.came) >= 2, "both are told of the end")
            told = [each["data"] for each in pager.bodies()[1:]]
            assert [each["detail"]["state"] for each in told] == ["CREATED", "RUNNING", "COMPLETED"]
            done = told[-1]
            assert done["detail"]["backupJobId"] == job
            assert (done["source"], done["account"]) == ("aws.backup", shop.id)
            assert done["resources"] == [shop.points()[0]["RecoveryPointArn"]]
            assert signed_well(pager.came, SECRET)
            notified = subscriber.bodies()[1]
            assert (notified["Type"], notified["TopicArn"]) == ("Notification", topic)
            assert notified["MessageAttributes"]["State"]["Value"] == "COMPLETED"
            assert theirs.list_dead_letters()["DeadLetters"] == []
            assert theirs.redeliver_dead_letters(Name="dead")["Redelivered"] == 0
            assert refusal(theirs.redeliver_dead_letters, Name="none")[0] == "ResourceNotFoundException"
            (guide,) = blocks_of(GUIDE, "python")
            guide = guide.replace("https://pager.example.com/backups", pager.url).replace(
                'Scheme="https", Host="pager.example.com"', f'Scheme="http", Host="127.0.0.1", Port={pager.port}'
            )
            before = len(pager.came)
            keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
            where = {"AWS_ENDPOINT_URL": server.url, "AWS_DATA_PATH": str(MODEL_DIRECTORY)}
            subprocess.run(
                [sys.executable, "-c", guide], env=environment(**keys, **where), check=True, timeout=PATIENCE
            )
            eventually(lambda: len(pager.came) > before, "what the guide sends arrives")
            assert pager.bodies()[-1]["data"]["detail"] == {"state": "TEST"}
            assert signed_well(pager.came[-1:], "a long random text")
            assert holdfast.describe_event_route(Name="pager")["EventRoute"]["States"] == [
                "ABORTED",
                "EXPIRED",
                "FAILED",
            ]
            holdfast.delete_event_route(Name="pager", ExpectedVersion="2")
            assert SECRET not in server.said()
