"""Restoring PostgreSQL databases, on a real server: what was backed up comes back, or nothing does."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from tests.source.conftest import Server
from tests.source.contract import PointInMemory, children, descriptors, opened_since, read_all

from holdfast.core.ids import new_uuid
from holdfast.core.settings import HostGrant
from holdfast.source.postgresql.description import DescriptionDamagedError
from holdfast.source.protocol import (
    NotGrantedError,
    OptionRefusedError,
    SourceAbortedError,
    SourceReport,
    SourceSecret,
    SourceSpec,
    TargetFailedError,
    TargetOccupiedError,
    ToolMissingError,
)
from holdfast.source.registry import open_source, open_target

pytestmark = pytest.mark.postgres

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Make = Callable[..., str]
SHOP = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.item (id int PRIMARY KEY, note text NOT NULL CHECK (note <> ''))",
    "INSERT INTO shop.item SELECT i, md5(i::text) FROM generate_series(1, 20000) i",
    "CREATE INDEX item_note ON shop.item (note)",
    "CREATE SEQUENCE shop.number START 7",
    "SELECT nextval('shop.number')",
    "CREATE VIEW shop.some AS SELECT id FROM shop.item WHERE id < 10",
    "CREATE FUNCTION shop.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT lo_from_bytea(0, 'large')",
)
ALL_ROWS = "SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM shop.item i"


def a_point(spec: SourceSpec) -> PointInMemory:
    source = open_source(spec)
    found, _ = read_all(source)
    source.finish()
    return PointInMemory({path: data for path, (_, data) in found.items() if data})


def restore(spec: SourceSpec, point: PointInMemory, **metadata: str) -> SourceReport:
    """Restore as a mover does: anything that goes wrong aborts the target."""
    named = {key.replace("__", ":").replace("_", "-") if "__" in key else key: text for key, text in metadata.items()}
    target = open_target(spec, {"holdfast:target-url": spec.url, **named}, at=NOON)
    try:
        landing = target.begin()
        landing.fill(point)  # type: ignore[union-attr]  # a stream
        return target.finish()
    except BaseException:
        target.abort()
        raise


@pytest.fixture
def new_name(server: Server) -> Iterator[str]:
    name = f"restored_{new_uuid()[:8]}"
    yield name
    server.run("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def shop(server: Server) -> str:
    """A database that stays as it is."""
    server.run("postgres", "CREATE DATABASE shop")
    server.run("shop", *SHOP)
    return "shop"


@pytest.fixture(scope="module")
def shop_files(server: Server, shop: str) -> dict[tuple[bytes, ...], bytes]:
    return a_point(server.spec(shop, row_counts="exact")).files


@pytest.fixture
def point(shop_files: dict[tuple[bytes, ...], bytes]) -> PointInMemory:
    return PointInMemory(dict(shop_files))


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    running = children()
    yield
    assert children() == running


def test_what_was_backed_up_comes_back(server: Server, shop: str, point: PointInMemory, new_name: str) -> None:
    report = restore(server.spec(new_name), point)
    assert report.facts["rows"] == {"shop.item": 20000}
    assert report.facts["restored_to"] == server.url(new_name)
    for question in (
        ALL_ROWS,
        "SELECT count(*) FROM shop.some",
        "SELECT shop.one()",
        "SELECT last_value FROM shop.number",
        "SELECT encode(lo_get(oid), 'escape') FROM pg_largeobject_metadata",
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'item_note_check'",
        "SELECT pg_encoding_to_char(encoding) || datcollate FROM pg_database WHERE datname = current_database()",
    ):
        assert server.ask(new_name, question) == server.ask(shop, question)
    mark = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    assert server.ask(new_name, mark) is None


def test_an_empty_database_may_be_restored_into(server: Server, make_database: Make, point: PointInMemory) -> None:
    name = make_database()
    restore(server.spec(name), point)
    assert server.ask(name, "SELECT count(*) FROM shop.item") == 20000


@pytest.mark.parametrize(
    "content",
    [
        "CREATE TABLE mine (x int)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA s",
        "SELECT lo_from_bytea(0, 'x')",
        "CREATE TYPE t AS ENUM ('a')",
        "CREATE EXTENSION vector",
    ],
)
def test_a_database_with_anything_in_it_is_never_restored_into(
    server: Server, make_database: Make, point: PointInMemory, content: str
) -> None:
    name = make_database(content)
    with pytest.raises(TargetOccupiedError, match="exists and is not empty"):
        restore(server.spec(name), point)
    assert name in server.databases()


def test_a_cut_dump_restores_nothing(server: Server, point: PointInMemory, new_name: str) -> None:
    (path,) = (path for path in point.files if path[0] == b"databases")
    point.files[path] = point.files[path][: len(point.files[path]) // 2]
    with pytest.raises(TargetFailedError, match="end of file"):
        restore(server.spec(new_name), point)
    assert new_name not in server.databases()


def test_a_failed_restore_leaves_a_database_that_was_there_empty(
    server: Server, make_database: Make, point: PointInMemory
) -> None:
    name = make_database()
    (path,) = (path for path in point.files if path[0] == b"databases")
    point.files[path] = point.files[path][:-100]
    with pytest.raises(TargetFailedError):
        restore(server.spec(name), point)
    assert server.ask(name, "SELECT count(*) FROM pg_class WHERE oid >= 16384") == 0


class BrokenPoint(PointInMemory):
    """A point whose storage fails in the middle of the dump."""

    def read(self, path: tuple[bytes, ...]) -> Iterator[bytes]:
        if path[0] != b"databases":
            yield from super().read(path)
            return
        yield self.files[path][:500_000]
        raise OSError("storage went away")


def test_a_point_that_cannot_be_read_on_restores_nothing(server: Server, point: PointInMemory, new_name: str) -> None:
    open_files = descriptors()
    with pytest.raises(OSError, match="storage went away"):
        restore(server.spec(new_name), BrokenPoint(point.files))
    assert new_name not in server.databases()
    assert opened_since(open_files) == []


def test_the_same_job_begins_again_where_a_crash_left_it(server: Server, point: PointInMemory, new_name: str) -> None:
    spec = server.spec(new_name)
    crashed = open_target(spec, {"holdfast:target-url": spec.url}, at=NOON)
    crashed.begin().fill(point)  # type: ignore[union-attr]  # a stream
    with pytest.raises(TargetOccupiedError):
        restore(replace(spec, job=new_uuid()), point)
    assert restore(spec, point).facts["tables"] == 1


def test_a_verified_database_is_not_dropped_by_a_late_abort(
    server: Server, point: PointInMemory, new_name: str
) -> None:
    spec = server.spec(new_name)
    target = open_target(spec, {"holdfast:target-url": spec.url}, at=NOON)
    target.begin().fill(point)  # type: ignore[union-attr]  # a stream
    target.finish()
    target.abort()
    assert new_name in server.databases()


def changed(point: PointInMemory, change: Callable[[dict[str, Any]], object]) -> PointInMemory:
    body = json.loads(point.files[(b"holdfast.json",)])
    change(body)
    return PointInMemory({**point.files, (b"holdfast.json",): json.dumps(body).encode()})


def test_rows_that_are_missing_after_the_restore_fail_it(server: Server, point: PointInMemory, new_name: str) -> None:
    def one_more(body: dict[str, Any]) -> None:
        for table in body["facts"]["tables"]:
            table["rows"] = table["rows"] and table["rows"] + 1

    with pytest.raises(TargetFailedError, match=r"shop\.item has 20000 rows after the restore and had 20001"):
        restore(server.spec(new_name), changed(point, one_more))
    assert new_name not in server.databases()


def test_tables_that_are_missing_after_the_restore_fail_it(server: Server, point: PointInMemory, new_name: str) -> None:
    def one_more(body: dict[str, Any]) -> None:
        body["facts"]["tables"].append({**body["facts"]["tables"][0], "name": "lost", "rows": None})

    with pytest.raises(TargetFailedError, match=r"1 tables are missing after the restore: shop\.lost"):
        restore(server.spec(new_name), changed(point, one_more))
    assert new_name not in server.databases()


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        (
            lambda body: body["facts"]["extensions"].append({"name": "postgis", "version": "3", "schema": "public"}),
            ToolMissingError,
            "install these extensions on the server first: postgis",
        ),
        (lambda body: body.update(client_version="18.4"), TargetFailedError, "needs a server of version 18 or newer"),
        (lambda body: body["facts"]["locale"].update(collate="xx_XX"), TargetFailedError, "holdfast:locale"),
        (lambda body: body.update(format=2), DescriptionDamagedError, "format 2"),
        (lambda body: body.pop("facts"), DescriptionDamagedError, "cannot be read"),
        (
            lambda body: body["facts"].update(roles=["gone"], policy_roles=["gone"]),
            TargetFailedError,
            "row security policies name roles that the server has not: gone",
        ),
    ],
    ids=["extension", "older server", "locale", "future format", "damaged", "policy role"],
)
def test_what_would_fail_late_is_refused_early(
    server: Server,
    point: PointInMemory,
    new_name: str,
    change: Callable[[dict[str, Any]], object],
    error: type[Exception],
    complaint: str,
) -> None:
    tools = (server.tools, server.newer_tools)
    with pytest.raises(error, match=complaint):
        restore(replace(server.spec(new_name), tools=tools), changed(point, change))
    assert new_name not in server.databases()


def test_another_locale_may_be_given(server: Server, point: PointInMemory, new_name: str) -> None:
    broken = changed(point, lambda body: body["facts"]["locale"].update(collate="xx_XX", ctype="xx_XX"))
    restore(server.spec(new_name), broken, holdfast__locale="C")
    assert server.ask(new_name, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C"


def with_foreign_owner(server: Server, make_database: Make, role: Make) -> tuple[PointInMemory, str]:
    owner = role(options="NOLOGIN")
    name = make_database("CREATE TABLE t AS SELECT 1 AS x", f"ALTER TABLE t OWNER TO {owner}")
    point = a_point(server.spec(name))
    server.run(name, "DROP TABLE t")
    server.run("postgres", f"ALTER ROLE {owner} RENAME TO {owner}_away")
    return point, owner


OWNER = "SELECT tableowner FROM pg_tables WHERE tablename = 't'"


def test_owners_come_back_where_their_roles_exist(
    server: Server, make_database: Make, role: Make, new_name: str
) -> None:
    point, owner = with_foreign_owner(server, make_database, role)
    server.run("postgres", f"ALTER ROLE {owner}_away RENAME TO {owner}")
    assert not restore(server.spec(new_name), point).problems
    assert server.ask(new_name, OWNER) == owner
    server.run("postgres", f'DROP DATABASE "{new_name}" WITH (FORCE)')


def test_missing_roles_are_told_and_their_things_are_restored_all_the_same(
    server: Server, make_database: Make, role: Make, new_name: str
) -> None:
    point, owner = with_foreign_owner(server, make_database, role)
    try:
        problems = restore(server.spec(new_name), point).problems
    finally:
        server.run("postgres", f"ALTER ROLE {owner}_away RENAME TO {owner}")
    assert [problem.what for problem in problems] == [
        f"rights were left out, since the server has no roles {owner}",
        "everything belongs to postgres, not to its former owners",
    ]
    assert server.ask(new_name, OWNER) == "postgres"


def test_missing_roles_are_made_without_login_when_asked_for(
    server: Server, make_database: Make, role: Make, new_name: str
) -> None:
    point, owner = with_foreign_owner(server, make_database, role)
    try:
        with pytest.raises(TargetFailedError):
            restore(server.spec(new_name), PointInMemory({**point.files, **cut(point)}), createMissingRoles="true")
        assert owner not in server.roles()
        restore(server.spec(new_name), point, createMissingRoles="true")
        assert server.ask(new_name, OWNER) == owner
        assert not server.ask("postgres", f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{owner}'")
    finally:
        server.run("postgres", f'DROP DATABASE IF EXISTS "{new_name}" WITH (FORCE)', f"DROP ROLE IF EXISTS {owner}")
        server.run("postgres", f"ALTER ROLE {owner}_away RENAME TO {owner}")


def cut(point: PointInMemory) -> dict[tuple[bytes, ...], bytes]:
    (path,) = (path for path in point.files if path[0] == b"databases")
    return {path: point.files[path][:-20]}


def test_a_role_that_may_make_databases_is_enough(
    server: Server, point: PointInMemory, role: Make, new_name: str
) -> None:
    maker = role(options="LOGIN CREATEDB")
    report = restore(server.spec(new_name, maker), point)
    assert [problem.what for problem in report.problems] == [f"everything belongs to {maker}, not to its former owners"]
    server.run("postgres", f'DROP DATABASE "{new_name}" WITH (FORCE)')


def test_a_role_that_may_not_make_databases_is_told_so(
    server: Server, point: PointInMemory, role: Make, new_name: str
) -> None:
    with pytest.raises(TargetFailedError, match="permission denied to create database"):
        restore(server.spec(new_name, role()), point)


@pytest.mark.parametrize("name", ["x host=evil", "a/b", "it's", 'q"uote'])
def test_a_new_databases_name_stays_a_name(server: Server, point: PointInMemory, name: str) -> None:
    try:
        restore(server.spec(name), point)
        assert name in server.databases()
    finally:
        server.run("postgres", 'DROP DATABASE IF EXISTS "' + name.replace('"', '""') + '" WITH (FORCE)')


def test_a_restore_needs_a_grant_to_restore(server: Server, point: PointInMemory, new_name: str) -> None:
    grant = HostGrant(f"postgresql://localhost:{server.port}/", restore=False)
    with pytest.raises(NotGrantedError, match="does not allow to restore"):
        restore(replace(server.spec(new_name), grants=(grant,)), point)


def test_a_point_without_one_dump_is_refused(server: Server, point: PointInMemory, new_name: str) -> None:
    files = {path: data for path, data in point.files.items() if path[0] != b"databases"}
    with pytest.raises(TargetFailedError, match="holds 0 dumps"):
        restore(server.spec(new_name), PointInMemory(files))
    without = {path: data for path, data in point.files.items() if path != (b"holdfast.json",)}
    with pytest.raises(TargetFailedError, match="does not say how its dump was made"):
        restore(server.spec(new_name), PointInMemory(without))


def test_the_target_is_the_one_that_the_metadata_names(server: Server, new_name: str) -> None:
    with pytest.raises(OptionRefusedError, match="not the one that the metadata names"):
        open_target(server.spec(new_name), {"holdfast:target-url": server.url("other")}, at=NOON)


def test_nothing_is_proven_that_was_not_restored(server: Server, new_name: str) -> None:
    spec = server.spec(new_name)
    target = open_target(spec, {"holdfast:target-url": spec.url}, at=NOON)
    target.begin()
    with pytest.raises(TargetFailedError, match="was not begun"):
        target.finish()
    target.abort()
    target.abort()
    assert new_name not in server.databases()


class StoppedPoint(PointInMemory):
    """A point that is read while somebody gives the restore up."""

    def __init__(self, files: dict[tuple[bytes, ...], bytes], give_up: Callable[[], None]) -> None:
        super().__init__(files)
        self._give_up = give_up

    def read(self, path: tuple[bytes, ...]) -> Iterator[bytes]:
        for number, piece in enumerate(super().read(path)):
            yield piece
            if path[0] == b"databases" and number == 3:
                stopper = threading.Thread(target=self._give_up)
                stopper.start()
                stopper.join()


def test_an_abort_from_another_thread_ends_the_restore(server: Server, point: PointInMemory, new_name: str) -> None:
    spec = server.spec(new_name)
    open_files = descriptors()
    target = open_target(spec, {"holdfast:target-url": spec.url}, at=NOON)
    landing = target.begin()
    with pytest.raises(SourceAbortedError):
        landing.fill(StoppedPoint(point.files, target.abort))  # type: ignore[union-attr]  # a stream
    with pytest.raises(TargetFailedError):
        target.finish()
    target.abort()
    assert new_name not in server.databases()
    assert server.backends(spec.job) == 0
    assert opened_since(open_files) == []


def test_another_release_is_read_and_restored_over_its_socket(server: Server, postgres_url: str) -> None:
    names = [f"builtin_{new_uuid()[:8]}", f"restored_{new_uuid()[:8]}"]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        directory = admin.info.host
        admin.execute(
            f"CREATE DATABASE {names[0]} TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
            " LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
    try:
        with psycopg.connect(postgres_url, dbname=names[0], autocommit=True) as connection:
            connection.execute("CREATE TABLE part (x int) PARTITION BY RANGE (x)")
            connection.execute("CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100)")
            connection.execute("INSERT INTO part SELECT generate_series(1, 50)")
            connection.execute("CREATE MATERIALIZED VIEW total AS SELECT sum(x) FROM part")
        top = f"postgresql://{quote(directory, safe='')}/"
        spec = SourceSpec(
            top + names[0],
            "RDS",
            secret=SourceSecret("postgres", "not asked for"),
            options={"row-counts": "exact"},
            grants=(HostGrant(top),),
            job=new_uuid(),
            tools=(server.tools, server.newer_tools),
        )
        point = a_point(spec)
        report = restore(replace(spec, url=top + names[1], options={}), point)
        assert report.facts["rows"] == {"public.part_1": 50}
        with psycopg.connect(postgres_url, dbname=names[1], autocommit=True) as connection:
            row = connection.execute(
                "SELECT (SELECT * FROM total), datlocprovider, datlocale FROM pg_database"
                " WHERE datname = current_database()"
            ).fetchone()
        assert row == (1275, "b", "C.UTF-8")
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            for name in names:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
