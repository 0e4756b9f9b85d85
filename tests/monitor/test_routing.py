"""Events on their way: each once, again after a failure, into a list when nobody takes them, and nowhere else."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.access.builders import insert_row
from tests.monitor.receiver import Receiver, receiving
from tests.running import eventually

from holdfast.core.clock import ManualMachineTime
from holdfast.core.outgoing import Outgoing, OutgoingRefusedError, Reach
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.facts import remember
from holdfast.monitor import routing
from holdfast.monitor.delivery import Deliverer
from holdfast.monitor.route import (
    MOST_ATTEMPTS,
    Format,
    InvalidRouteError,
    Route,
    RouteChangedError,
    UnconfirmedRouteError,
    UnknownRouteError,
    pause_after,
)
from holdfast.trail.service import Decision, Entry, record

ROOT = RootKey(bytes(range(32)))
HERE, THERE, REGION = "111122223333", "444455556666", "eu-north-1"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def a_route(receiver: Receiver, name: str = "pager", *, account: str = HERE) -> Route:
    return Route(
        account, name, REGION, receiver.url, Format.CLOUDEVENTS, None, False, None, (), (), None, 0, NOW, NOW
    )  # fmt: skip


def put(database: Database, route: Route, expected: int | None = None) -> Route:
    with database.transaction() as tx:
        return routing.put_route(tx, ROOT, route, expected_version=expected, now=NOW, machine_now=NOW)


def deliver(database: Database, outgoing: Outgoing, root_key: RootKey) -> int:
    """Send what is due, to the end; return how much of it arrived."""
    count = "SELECT count(*) FROM event_delivery"
    with database.reading() as tx:
        before = tx.exec_driver_sql(count).scalar_one()
    deliverer = Deliverer(database, outgoing, root_key)
    deliverer.tick()
    deliverer.wait()
    with database.reading() as tx:
        return int(before - tx.exec_driver_sql(count).scalar_one())


def outgoing_to(*allowed: str) -> Outgoing:
    return Outgoing(ManualMachineTime(NOW), Reach.of(allowed))


def seal_a_job(database: Database, block: int, state: str = "FAILED", account: str = HERE) -> None:
    facts = {"detailType": "Backup Job State Change", "jobId": f"job-{block}", "state": state, "epoch": 1}
    with database.transaction() as tx:
        record(
            tx,
            Entry(NOW, account, REGION, "backup", "BackupJobCompleted", "backup.amazonaws.com", Decision.EVENT, "why")
            if state == "unknown"
            else Entry(
                at=NOW,
                account=account,
                region=REGION,
                service="backup",
                operation="BackupJobCompleted",
                principal_arn="backup.amazonaws.com",
                decision=Decision.EVENT,
                reason="why",
                parameters=facts,
            ),
        )
        tx.exec_driver_sql(f"UPDATE audit_entry SET block = {block} WHERE block IS NULL")
        insert_row(
            tx,
            "audit_block",
            number=block,
            previous="",
            root="",
            entries=1,
            first_id=block,
            last_id=block,
            sealed_at=0,
            signature="",
            stored=True,
        )


def test_an_event_goes_once_to_whom_it_concerns_however_often_the_trail_is_read(
    database: Database, receiver: Receiver
) -> None:
    outgoing = outgoing_to(receiver.place)
    put(database, a_route(receiver))
    put(database, a_route(receiver, "elsewhere", account=THERE))
    put(database, replace(a_route(receiver, "only-good"), states=("COMPLETED",)))
    routing.forward(database, now=NOW, machine_now=NOW)
    seal_a_job(database, 1)
    seal_a_job(database, 2, "unknown")
    assert routing.forward(database, now=NOW, machine_now=NOW) == 1
    with database.transaction() as tx:
        remember(tx, "events forwarded up to block", "0")
    assert routing.forward(database, now=NOW, machine_now=NOW) == 1
    assert deliver(database, outgoing, ROOT) == 1
    assert deliver(database, outgoing, ROOT) == 0
    (event,) = receiver.bodies()
    assert event["data"]["detail"] == {"state": "FAILED"}
    assert (event["data"]["account"], event["type"]) == (HERE, "aws.backup.BackupJobStateChange")


def test_what_happened_before_there_was_anybody_to_tell_is_not_told(database: Database, receiver: Receiver) -> None:
    seal_a_job(database, 1)
    assert routing.forward(database, now=NOW, machine_now=NOW) == 0
    put(database, a_route(receiver))
    assert routing.forward(database, now=NOW, machine_now=NOW) == 0
    seal_a_job(database, 2)
    assert routing.forward(database, now=NOW, machine_now=NOW) == 1


def test_a_failing_receiver_is_tried_with_growing_pauses_then_left_and_can_be_tried_again(
    database: Database, receiver: Receiver
) -> None:
    machine = ManualMachineTime(NOW)
    outgoing = Outgoing(machine, Reach.of([receiver.place]))
    put(database, a_route(receiver))
    with receiving() as good:
        put(database, a_route(good, "good"))
        outgoing = Outgoing(machine, Reach.of([receiver.place, good.place]))
        receiver.status = 503
        with database.transaction() as tx:
            sent = [routing.send_test(tx, HERE, "pager", now=NOW, machine_now=NOW) for _ in range(2)]
            routing.send_test(tx, HERE, "good", now=NOW, machine_now=NOW)
        assert deliver(database, outgoing, ROOT) == 1
        assert len(good.came) == 1, "one that fails holds up no other"
    assert len(receiver.came) == 1, "nor is it asked again at once"
    assert deliver(database, outgoing, ROOT) == 0
    assert len(receiver.came) == 1
    for _ in range(2 * MOST_ATTEMPTS):
        machine.advance(pause_after(MOST_ATTEMPTS))
        assert deliver(database, outgoing, ROOT) == 0
    assert len(receiver.came) == 2 * MOST_ATTEMPTS
    with database.transaction() as tx:
        dead = routing.list_dead_letters(tx, HERE, limit=10)
        assert {letter.event_id for letter in dead} == set(sent)
        assert all("503" in letter.error for letter in dead)
        assert routing.list_dead_letters(tx, THERE, limit=10) == []
        with pytest.raises(UnknownRouteError):
            routing.redeliver(tx, HERE, "pager", event_id="none", machine_now=NOW)
        assert routing.redeliver(tx, HERE, "pager", event_id=sent[0], machine_now=machine.now()) == 1
        assert routing.redeliver(tx, HERE, "pager", machine_now=machine.now()) == 1
    receiver.status = 200
    assert deliver(database, outgoing, ROOT) == 2
    with database.reading() as tx:
        assert routing.list_dead_letters(tx, HERE, limit=10) == []


@pytest.mark.parametrize(
    ("allowed", "status", "words"),
    [
        ((), 204, "is not encrypted"),
        (("10.0.0.0/8",), 204, "is not encrypted"),
        (("localhost",), 204, "is not encrypted"),
        (("own place",), 302, "answered 302"),
        (("own place",), 500, "answered 500"),
    ],
)
def test_events_go_only_where_the_host_lets_them_and_follow_nobody_elsewhere(
    receiver: Receiver, allowed: tuple[str, ...], status: int, words: str
) -> None:
    receiver.status, receiver.headers = status, {"Location": receiver.url + "/elsewhere"}
    outgoing = outgoing_to(*(receiver.place if each == "own place" else each for each in allowed))
    with pytest.raises(Exception, match=words):
        outgoing.post(receiver.url, b"{}", {})
    assert len(receiver.came) == ("own place" in allowed)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "169.254.169.254", "10.1.2.3", "[::ffff:127.0.0.1]", "[fe80::1]"]
)
def test_encrypted_or_not_no_address_of_this_network_is_reached(host: str) -> None:
    with pytest.raises(OutgoingRefusedError, match="not a public address"):
        outgoing_to().post(f"https://{host}/events", b"{}", {})


def test_a_topics_receiver_is_told_nothing_before_it_confirmed(database: Database, receiver: Receiver) -> None:
    outgoing = outgoing_to(receiver.place)
    topic = f"arn:aws:sns:{REGION}:{HERE}:backups"
    route = put(database, replace(a_route(receiver), format=Format.SNS, topic=topic))
    with database.transaction() as tx, pytest.raises(UnconfirmedRouteError):
        routing.send_test(tx, HERE, "pager", now=NOW, machine_now=NOW)
    assert deliver(database, outgoing, ROOT) == 1
    (asked,) = receiver.bodies()
    assert (asked["Type"], asked["TopicArn"]) == ("SubscriptionConfirmation", topic)
    with database.transaction() as tx:
        with pytest.raises(InvalidRouteError):
            routing.confirm_route(tx, HERE, "pager", "guessed")
        assert routing.confirm_route(tx, HERE, "pager", asked["Token"]).confirmation is None
    assert put(database, replace(a_route(receiver), format=Format.SNS, topic=topic)).version == route.version
    moved = put(database, replace(a_route(receiver), url=receiver.url + "/b", format=Format.SNS, topic=topic))
    assert moved.confirmation not in {None, asked["Token"]}


def test_a_route_is_put_once_and_changed_only_as_it_was_seen(database: Database, receiver: Receiver) -> None:
    first = put(database, a_route(receiver), 0)
    assert put(database, replace(a_route(receiver), created_at=NOW + timedelta(1)), 1) == first
    with pytest.raises(RouteChangedError):
        put(database, replace(a_route(receiver), states=("FAILED",)), 0)
    assert put(database, replace(a_route(receiver), states=("FAILED",)), 1).version == 2
    for wrong in (
        replace(a_route(receiver), url="ftp://events.example/"),
        replace(a_route(receiver), url="https://user@events.example/"),
        replace(a_route(receiver), detail_types=("Job",)),
        replace(a_route(receiver), format=Format.SNS),
        replace(a_route(receiver), organization_wide=True),
        replace(a_route(receiver), secret_name="none"),
    ):
        with pytest.raises(Exception, match=r"\w+"):
            put(database, wrong)
    with database.transaction() as tx:
        routing.send_test(tx, HERE, "pager", now=NOW, machine_now=NOW)
        with pytest.raises(RouteChangedError):
            routing.delete_route(tx, HERE, "pager", expected_version=1)
        routing.delete_route(tx, HERE, "pager", expected_version=2)
        with pytest.raises(UnknownRouteError):
            routing.get_route(tx, HERE, "pager")
    assert deliver(database, outgoing_to(receiver.place), ROOT) == 0
    assert receiver.came == []


def test_a_receiver_that_never_answers_holds_up_nobody(database: Database, receiver: Receiver) -> None:
    answer = threading.Event()
    with receiving(until=answer) as slow:
        put(database, a_route(slow, "a-slow"))
        put(database, a_route(receiver, "b-healthy"))
        deliverer = Deliverer(database, outgoing_to(slow.place, receiver.place), ROOT)
        try:
            for number in range(1, 6):
                with database.transaction() as tx:
                    for name in ("a-slow", "b-healthy"):
                        routing.send_test(tx, HERE, name, now=NOW, machine_now=NOW)

                def healthy_knows(expected: int = number) -> bool:
                    deliverer.tick()
                    return len(receiver.came) == expected

                eventually(healthy_knows, "the healthy one is told")
                with database.reading() as tx:
                    assert routing.list_dead_letters(tx, HERE, limit=10) == []
            assert len(slow.came) == 1, "nor is the slow one sent more than one at a time"
        finally:
            answer.set()
            deliverer.stop()
    assert receiver.came[0][0]["webhook-id"] != receiver.came[-1][0]["webhook-id"]


def test_who_was_stopped_delivers_again_once_it_is_started(database: Database, receiver: Receiver) -> None:
    put(database, a_route(receiver, "pager"))
    with database.transaction() as tx:
        routing.send_test(tx, HERE, "pager", now=NOW, machine_now=NOW)
    deliverer = Deliverer(database, outgoing_to(receiver.place), ROOT)
    deliverer.stop()
    deliverer.tick()
    deliverer.wait()
    assert receiver.came == []
    deliverer.start()
    deliverer.tick()
    deliverer.wait()
    assert len(receiver.came) == 1
