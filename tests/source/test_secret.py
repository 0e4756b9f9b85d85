"""Keeping secrets, and where restores go with them, on both databases."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.source.register import (
    BANK,
    REGION,
    ROOT_KEY,
    SHOP,
    Register,
    put_database,
)

from holdfast.core.errors import HoldfastError, InvalidInputError
from holdfast.core.seal import SealBrokenError
from holdfast.core.settings import HostGrant
from holdfast.source import service
from holdfast.source.location import InvalidUrlError
from holdfast.source.model import (
    InvalidResourceError,
    LocationTakenError,
    UnknownObjectError,
    UnknownResourceError,
    VersionChangedError,
)
from holdfast.source.protocol import SourceSecret


def test_a_secret_reaches_its_connector_and_is_stored_sealed(register: Register) -> None:
    secret = register.secret(host="DB.internal.")
    assert (secret.host, secret.port, secret.version) == ("db.internal", 5432, 1)
    assert b"pa:ss" not in secret.sealed
    assert "pa:ss" not in repr(secret)
    assert register.opened(put_database(register)) == SourceSecret("backup", "pa:ss")
    assert register.opened(register.put()) is None


@pytest.mark.parametrize(
    "more",
    [
        {"url": "postgresql://evil.internal/shop"},
        {"url": "postgresql://db.internal:5433/shop"},
        {"site": "dc-2"},
    ],
)
def test_a_secret_is_for_its_own_server_and_site(register: Register, more: dict[str, Any]) -> None:
    register.secret()
    register.grant("evil", "postgresql://evil.internal")
    register.grant("odd", "postgresql://db.internal:5433")
    register.settings = replace(
        register.settings,
        host_grants=(
            *register.settings.host_grants,
            HostGrant("postgresql://evil.internal"),
            HostGrant("postgresql://db.internal:5433"),
        ),
    )
    with pytest.raises(InvalidResourceError, match=r"is for postgresql://db\.internal:5432 at site local"):
        put_database(register, **more)


def test_a_database_is_not_registered_without_a_secret(register: Register) -> None:
    with pytest.raises(InvalidResourceError, match="put one with PutSecret"):
        put_database(register, secret_name=None)


def test_a_secret_that_is_used_elsewhere_needs_its_value_again(register: Register) -> None:
    register.secret()
    assert register.secret(value=None, username="other").version == 2
    for more in ({"host": "evil.internal"}, {"port": 5433}, {"site": "dc-2"}):
        with pytest.raises(InvalidInputError, match="needs its Value again"):
            register.secret(value=None, **more)
    assert register.secret(value="new", host="other.internal").host == "other.internal"
    with pytest.raises(InvalidInputError, match="needs a Value"):
        register.secret("fresh", None)


def test_a_resource_whose_secret_moved_elsewhere_is_not_opened_with_it(register: Register) -> None:
    register.secret()
    resource = put_database(register)
    register.secret(value="x", host="other.internal")
    with pytest.raises(InvalidResourceError, match=r"and not for postgresql://db\.internal:5432/shop"):
        register.opened(resource)


def test_a_sealed_value_that_was_moved_to_another_row_does_not_open(register: Register) -> None:
    register.secret()
    resource = put_database(register)
    with register.database.reading() as tx:
        kept = service.get_secret(tx, SHOP, REGION, "db")
    for stolen in (replace(kept, host="evil.internal"), replace(kept, account=BANK), replace(kept, name="stolen")):
        with pytest.raises(SealBrokenError):
            service._opened(ROOT_KEY, stolen)
    assert register.opened(resource)


def test_a_secret_in_use_is_not_deleted(register: Register) -> None:
    register.secret()
    put_database(register)

    def delete(expected: int | None = None) -> None:
        with register.database.transaction() as tx:
            service.delete_secret(tx, SHOP, REGION, "db", expected_version=expected)

    with pytest.raises(InvalidInputError, match="is used by the resource 'shop'"):
        delete()
    register.delete("shop")
    with pytest.raises(VersionChangedError):
        delete(7)
    delete(1)
    with pytest.raises(UnknownObjectError):
        delete()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"scheme": "mysql"}, "mysql sources are not read"),
        ({"scheme": "file"}, "without a secret"),
        ({"host": "user@db"}, "put them into a secret"),
        ({"host": "127.1"}, "not an IPv4 address"),
        ({"port": 0}, "not a port"),
    ],
)
def test_a_secret_is_for_a_server_that_can_be_read(register: Register, more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidUrlError, match=complaint):
        register.secret(**more)


@pytest.mark.parametrize(
    ("host", "kept"), [("::1", "localhost"), ("[FE80::1]", "fe80::1"), ("/run/Postgresql", "/run/Postgresql")]
)
def test_a_server_is_named_as_in_urls(register: Register, host: str, kept: str) -> None:
    assert register.secret(host=host).host == kept


def test_a_tree_is_restored_where_it_is_told_or_beside_the_live_one(register: Register) -> None:
    arn = register.put().arn
    new = {"newFileSystem": "true", "holdfast:target-url": "file:///srv/new"}
    assert register.restore_place(new, arn) == service.RestorePlace("file:///srv/new", None)
    existing = {"newFileSystem": "false", "file-system-id": arn.rpartition("/")[2]}
    assert register.restore_place(existing, arn).url == "file:///srv/www"
    with pytest.raises(UnknownResourceError):
        register.restore_place({"file-system-id": "fs-other"}, arn)


def test_a_restore_into_another_accounts_tree_is_refused(register: Register) -> None:
    arn = register.put().arn
    register.put("bank", "file:///srv/bank", account=BANK)
    with pytest.raises(LocationTakenError):
        register.restore_place({"newFileSystem": "true", "holdfast:target-url": "file:///srv/bank/new"}, arn)


def test_a_place_that_became_anothers_while_it_was_restored_to_is_not_registered(register: Register) -> None:
    register.put("bank", "file:///srv/bank", account=BANK)
    assert register.restored("file:///srv/bank/new") is None
    assert register.restored("file:///srv/new") is not None


def test_what_was_restored_has_a_name_of_its_own_and_is_known_again(register: Register) -> None:
    first = register.restored("file:///srv/a%20b", tags={"team": "web"})
    assert first == register.restored("file:///srv/a%20b"), "the same place is the same resource"
    second = register.restored("file:///srv/deeper/a%20b", job_id="job-2")
    with register.database.reading() as tx:
        found = {arn: service.get_resource(tx, SHOP, REGION, arn or "") for arn in (first, second)}
    assert {each.name for each in found.values()} == {"a-b", "a-b-job-2"}
    assert found[first].tags == {"team": "web"}
    # A name that is free again is taken again, and one that is too long is cut.
    register.delete("a-b")
    assert register.restored("file:///srv/other/a%20b", job_id="job-3") not in {None, second}
    assert register.restored(f"file:///srv/{'x' * 200}", job_id="job-4") is not None
    assert register.restored(f"file:///srv/y/{'x' * 200}", job_id="job-5") is not None


def test_a_database_is_restored_beside_its_original_with_its_secret(register: Register) -> None:
    register.secret()
    arn = put_database(register, "postgresql://db.internal/shop?lock-wait=5").arn
    place = register.restore_place({"DBInstanceIdentifier": "shop2"}, arn, "RDS")
    assert place.url == "postgresql://db.internal:5432/shop2?lock-wait=5"
    assert place.secret == SourceSecret("backup", "pa:ss")


def test_a_restore_never_carries_a_secret_to_another_server(register: Register) -> None:
    register.secret()
    arn = put_database(register).arn
    elsewhere = {"holdfast:target-url": "postgresql://evil.internal/shop2"}
    with pytest.raises(InvalidResourceError, match=r"and not for postgresql://evil\.internal:5432/shop2"):
        register.restore_place(elsewhere, arn, "RDS")
    register.secret("other", "their-own", host="evil.internal")
    place = register.restore_place({**elsewhere, "holdfast:secret-name": "other"}, arn, "RDS")
    assert place.secret == SourceSecret("backup", "their-own")


def test_a_database_that_is_registered_no_more_is_restored_with_a_named_secret(register: Register) -> None:
    register.secret()
    arn = put_database(register).arn
    register.delete("shop")
    target = {"holdfast:target-url": "postgresql://db.internal/back"}
    with pytest.raises(InvalidResourceError, match="as holdfast:secret-name"):
        register.restore_place(target, arn, "RDS")
    assert register.restore_place({**target, "holdfast:secret-name": "db"}, arn, "RDS").secret
    with pytest.raises(UnknownResourceError):
        register.restore_place({"DBInstanceIdentifier": "shop2"}, arn, "RDS")


def test_every_refusal_is_one_that_the_wire_knows(register: Register) -> None:
    refusals: list[Callable[[], object]] = [
        lambda: register.put(url="file:///etc"),
        lambda: register.put(type="EBS"),
        lambda: register.restore_place({}, "arn"),
        lambda: register.secret(scheme="mysql"),
    ]
    for refusal in refusals:
        with pytest.raises(HoldfastError):
            refusal()
