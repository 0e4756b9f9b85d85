"""Registering resources, on both databases."""

import hashlib
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.source.register import (
    BANK,
    NOW,
    REGION,
    SHOP,
    UNIT,
    Register,
)

from holdfast.database.values import FOREVER
from holdfast.source import service, store
from holdfast.source.location import InvalidUrlError, location
from holdfast.source.model import (
    InvalidResourceError,
    LocationTakenError,
    TooManyTagsError,
    UnknownResourceError,
    VersionChangedError,
    derived_arn,
)
from holdfast.source.protocol import NotGrantedError


def test_what_was_registered_is_found_by_name_and_by_arn(register: Register) -> None:
    put = register.put(tags={"env": "prod"})
    assert put.arn.startswith(f"arn:aws:elasticfilesystem:{REGION}:{SHOP}:file-system/fs-")
    assert (put.version, put.created_at, put.source_url) == (1, NOW, "file:///srv/www")
    with register.database.reading() as tx:
        assert service.get_resource(tx, SHOP, REGION, put.arn) == put
        assert service.get_resource_by_name(tx, SHOP, REGION, "www") == put
        assert service.find_resource(tx, BANK, REGION, put.arn) is None
        assert service.tags_of_resource(tx, SHOP, REGION, put.arn) == {"env": "prod"}
    assert register.news() == [{"account": SHOP, "region": REGION, "arn": put.arn}]


def test_putting_the_same_again_changes_nothing(register: Register) -> None:
    first = register.put(tags={"env": "prod"})
    again = register.put(url="FILE:////srv/%77ww/", tags={"env": "prod"}, at=NOW + timedelta(hours=1))
    assert again == first
    assert len(register.intervals(first)) == 1
    assert len(register.news()) == 1


def test_an_id_belongs_to_account_region_and_place(register: Register) -> None:
    first = register.put("www")
    register.delete("www")
    assert register.put("another-name").arn == first.arn
    assert register.put("docs", "file:///srv/docs").arn != first.arn


def test_a_change_keeps_the_arn_and_raises_the_version(register: Register) -> None:
    first = register.put()
    moved = register.put(url="file:///srv/www-2", at=NOW + timedelta(hours=1))
    assert (moved.arn, moved.id, moved.version) == (first.arn, first.id, 2)
    assert moved.updated_at == NOW + timedelta(hours=1)
    assert moved.created_at == NOW


def test_tags_that_are_not_given_stay_and_given_ones_replace_all(register: Register) -> None:
    register.put(tags={"a": "1", "b": "2"})
    assert register.put(url="file:///srv/w").tags == {"a": "1", "b": "2"}
    assert register.put(url="file:///srv/w", tags={"c": "3"}).tags == {"c": "3"}
    assert register.put(url="file:///srv/w", tags={}).tags == {}


def test_every_past_instant_knows_the_tags_of_then(register: Register) -> None:
    hour = timedelta(hours=1)
    resource = register.put(tags={"a": "1"})
    register.tag(resource.arn, {"a": "2"}, at=NOW + hour)
    register.tag(resource.arn, {"a": "2"}, at=NOW + 2 * hour)
    register.delete(at=NOW + 3 * hour)
    register.put(at=NOW + 4 * hour)
    micro = 3_600_000_000
    start = register.intervals(resource)[0][0]
    assert [(a - start, b if b == FOREVER else b - start) for a, b in register.intervals(resource)] == [
        (0, micro),
        (micro, 3 * micro),
        (4 * micro, FOREVER),
    ]


def test_two_changes_at_one_instant_leave_the_last(register: Register) -> None:
    resource = register.put(tags={"a": "1"})
    register.tag(resource.arn, {"a": "2"})
    register.tag(resource.arn, {"a": "3"})
    assert len(register.intervals(resource)) == 1
    with register.database.reading() as tx:
        assert service.tags_of_resource(tx, SHOP, REGION, resource.arn) == {"a": "3"}


def test_resources_with_the_same_tags_are_of_one_class(register: Register) -> None:
    register.put("a", "file:///srv/a", tags={"x": "1", "y": "2"})
    register.put("b", "file:///srv/b", tags={"y": "2", "x": "1"})
    register.put("c", "file:///srv/c", account=BANK, tags={"x": "1", "y": "2"})
    register.put("d", "file:///srv/d", tags={"x": "1"})
    with register.database.reading() as tx:
        classes = tx.execute(text("SELECT tags_hash, tags FROM resource_class")).all()
    assert len(classes) == 2
    assert all(row.tags_hash == hashlib.sha256(row.tags.encode()).hexdigest() for row in classes)


@pytest.mark.parametrize("expected", [0, 2])
def test_a_conditional_change_of_something_else_is_refused(register: Register, expected: int) -> None:
    register.put()
    with pytest.raises(VersionChangedError, match="has version 1"):
        register.put(url="file:///srv/x", expected=expected)
    with pytest.raises(VersionChangedError):
        register.delete(expected=expected)
    register.put(url="file:///srv/x", expected=1)
    register.delete(expected=2)


def test_a_conditional_creation_is_refused_only_where_there_is_something(register: Register) -> None:
    with pytest.raises(VersionChangedError):
        register.put(expected=1)
    assert register.put(expected=0).version == 1


def test_what_was_deleted_is_gone_but_not_its_history(register: Register) -> None:
    resource = register.put(tags={"a": "1"})
    register.delete(at=NOW + timedelta(hours=1))
    with register.database.reading() as tx:
        assert service.find_resource(tx, SHOP, REGION, resource.arn) is None
        assert service.tags_of_resource(tx, SHOP, REGION, resource.arn) == {}
        assert service.list_resources(tx, SHOP, REGION, limit=10) == []
        with pytest.raises(UnknownResourceError, match="use PutResource"):
            service.get_resource(tx, SHOP, REGION, resource.arn)
    with pytest.raises(UnknownResourceError):
        register.delete()
    assert len(register.intervals(resource)) == 1
    assert register.put("www", account=BANK).account == BANK


def test_one_place_is_registered_once_in_an_account(register: Register) -> None:
    register.put("one")
    with pytest.raises(InvalidResourceError, match="registered already, under the name 'one'"):
        register.put("two")


def test_resources_are_listed_by_name_page_by_page(register: Register) -> None:
    for name in ("b", "a", "d", "c"):
        register.put(name, f"file:///srv/{name}")
    register.put("theirs", "file:///srv/theirs", account=BANK)
    with register.database.reading() as tx:
        first = service.list_resources(tx, SHOP, REGION, limit=3)
        rest = service.list_resources(tx, SHOP, REGION, after=first[-1].name, limit=3)
        assert [resource.name for resource in (*first, *rest)] == ["a", "b", "c", "d"]
        assert service.list_resources(tx, SHOP, REGION, type_name="RDS", limit=3) == []


@pytest.mark.parametrize(
    ("more", "error", "complaint"),
    [
        ({"type": "EBS"}, InvalidResourceError, "cannot be read by this release; there are EFS, RDS"),
        ({"type": "Floppy"}, InvalidResourceError, "is no resource type"),
        ({"type": "RDS"}, InvalidResourceError, "is read from postgresql://"),
        ({"url": "postgresql://db.internal/x"}, InvalidResourceError, "is read from file://"),
        ({"url": "s3://endpoint/bucket"}, InvalidUrlError, "s3 sources are not read"),
        ({"url": "/srv/www"}, InvalidUrlError, "not the URL of a source"),
        ({"site": "nowhere"}, InvalidResourceError, "there is no site 'nowhere'"),
        ({"site": "far"}, InvalidResourceError, "for region eu-north-1"),
        ({"secret_name": "none"}, InvalidResourceError, "there is no secret 'none'"),
        ({"arn": "arn:aws:rds:eu-north-1:111122223333:db:x"}, InvalidResourceError, "is not the ARN of a resource of"),
        (
            {"arn": f"arn:aws:elasticfilesystem:{REGION}:{BANK}:file-system/fs-1"},
            InvalidResourceError,
            "is not in account",
        ),
        ({"tags": {"aws:x": "1"}}, InvalidResourceError, "reserved"),
        ({"tags": {"k" * 129: "1"}}, InvalidResourceError, "keys have 1 to 128"),
        ({"tags": {"k": "v" * 257}}, InvalidResourceError, "values at most 256"),
        ({"tags": {str(n): "" for n in range(51)}}, TooManyTagsError, "at most 50 tags"),
    ],
)
def test_what_makes_no_sense_is_not_registered(
    register: Register, more: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        register.put(**more)
    with register.database.reading() as tx:
        assert service.list_resources(tx, SHOP, REGION, limit=10) == []


def test_an_arn_of_ones_own_is_kept(register: Register) -> None:
    arn = f"arn:aws:elasticfilesystem:{REGION}:{SHOP}:file-system/fs-0123456789abcdef0"
    assert register.put(arn=arn).arn == arn
    with pytest.raises(InvalidResourceError, match="these never change"):
        register.put(arn=arn[:-1] + "1")


def test_a_place_needs_a_grant(register: Register) -> None:
    register.revoke_all()
    with pytest.raises(NotGrantedError, match="ask the management account to call PutSiteGrant"):
        register.put()
    register.grant("www", "file:///srv/www")
    assert register.put()


@pytest.mark.parametrize(
    "more", [{"accounts": (BANK,)}, {"site": "dc-2"}, {"allow_read": False, "allow_restore": True}]
)
def test_a_grant_for_something_else_is_none(register: Register, more: dict[str, Any]) -> None:
    register.revoke_all()
    register.grant("www", "file:///srv/www", **more)
    with pytest.raises(NotGrantedError):
        register.put()


def test_a_grant_to_a_unit_is_for_the_accounts_in_it(register: Register) -> None:
    register.revoke_all()
    register.grant("prod", "file:///srv", accounts=(), unit_id=UNIT)
    assert register.put()
    with pytest.raises(NotGrantedError):
        register.put("x", "file:///srv/x", account=BANK)


def test_a_grant_does_not_open_what_the_host_does_not_allow(register: Register) -> None:
    with pytest.raises(NotGrantedError, match="this host does not allow to read file:///etc"):
        register.put(url="file:///etc")
    assert register.put(url="file:///etc", site="dc-2"), "another site's host is asked by its own movers"


@pytest.mark.parametrize("below", ["", "own", "own/storage/x"])
def test_holdfasts_own_directory_is_never_registered(register: Register, tmp_path: Path, below: str) -> None:
    with pytest.raises(NotGrantedError, match="belongs to Holdfast itself"):
        register.put(url=(tmp_path / below).as_uri())
    with pytest.raises(NotGrantedError):
        register.put(url="file:///")


def test_a_link_to_another_accounts_tree_is_refused(register: Register, tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "shop").symlink_to(tmp_path / "bank")
    register.put("bank", (tmp_path / "bank").as_uri(), account=BANK)
    with pytest.raises(NotGrantedError, match="is a symbolic link"):
        register.put(url=(tmp_path / "shop").as_uri())


@pytest.mark.parametrize("theirs", ["file:///srv/www", "file:///srv", "file:///srv/www/below"])
def test_a_place_has_one_owner(register: Register, theirs: str) -> None:
    register.put("bank", theirs, account=BANK)
    with pytest.raises(LocationTakenError, match="belongs to another account"):
        register.put()
    assert register.put(site="dc-2"), "at another site it is another place"
    assert register.put("beside", "file:///srv2" if theirs == "file:///x" else "file:///srv-2", site="dc-2")


@pytest.mark.parametrize("theirs", ["file:///srv/www2", "file:///srv/www-2", "file:///srv/ww", "file:///srv/WWW"])
def test_what_only_looks_alike_is_another_place(register: Register, theirs: str) -> None:
    register.put("bank", theirs, account=BANK)
    assert register.put()


names = st.sampled_from(["a", "A", "b", "a-", "a b", "a0", "ä", "~", "a%"])
trees = st.lists(names, min_size=1, max_size=3)


@pytest.mark.postgres
def test_ownership_in_sql_is_the_same_as_containment(register: Register) -> None:
    # One property over both databases: what the index finds is what `overlaps` says.
    def put(tx: sa.Connection, parts: list[str]) -> str:
        here = location("file:///" + "/".join(part.replace("%", "%25") for part in parts))
        tx.execute(text("DELETE FROM resource"))
        store.write_resource(
            tx,
            known=None,
            account=BANK,
            region=REGION,
            arn="arn",
            type_name="EFS",
            name="n",
            source_url=here.url,
            place=here,
            site="local",
            secret_name=None,
            class_id=1,
            now=NOW,
        )
        return here.key

    @given(theirs=trees, mine=trees)
    def check(theirs: list[str], mine: list[str]) -> None:
        with register.database.transaction() as tx:
            tx.execute(text("DELETE FROM resource_interval"))
            put(tx, theirs)
            wanted = location("file:///" + "/".join(part.replace("%", "%25") for part in mine))
            found = store.foreign_overlap(tx, SHOP, "local", wanted) is not None
        short = min(len(theirs), len(mine))
        assert found is (theirs[:short] == mine[:short])

    check()


@pytest.mark.postgres
def test_of_two_accounts_that_register_one_place_at_once_one_wins(register: Register) -> None:
    outcomes: list[str] = []

    def put(account: str) -> None:
        try:
            register.put(account, "file:///srv/both", account=account)
            outcomes.append("registered")
        except LocationTakenError:
            outcomes.append("taken")

    threads = [threading.Thread(target=put, args=(account,)) for account in (SHOP, BANK)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["registered", "taken"]


@pytest.mark.parametrize(
    ("type_name", "url", "arn"),
    [
        ("RDS", "postgresql://h/shop", "arn:aws:rds:eu-north-1:111122223333:db:name"),
        ("S3", "file:///x/bucket", "arn:aws:s3:::bucket"),
        ("EBS", "file:///x", "arn:aws:ec2:eu-north-1:111122223333:volume/vol-"),
        ("DynamoDB", "file:///x", "arn:aws:dynamodb:eu-north-1:111122223333:table/Name"),
        ("Storage Gateway", "file:///x", "arn:aws:storagegateway:eu-north-1:111122223333:gateway/sgw-"),
    ],
)
def test_arns_have_the_form_of_awss_own(type_name: str, url: str, arn: str) -> None:
    derived = derived_arn(type_name, "Name", location(url), account=SHOP, region=REGION, partition="aws", site="local")
    assert derived.startswith(arn)
