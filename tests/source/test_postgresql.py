"""PostgreSQL databases as sources, on a real server."""

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.source.conftest import PASSWORD, Server
from tests.source.contract import SourceContract, children, descriptors, opened_since, read_all, read_content

from holdfast.core.settings import HostGrant
from holdfast.repository.chunk import ChunkClass
from holdfast.repository.entry import Entry, Problem
from holdfast.source.location import location
from holdfast.source.postgresql.child import password_line
from holdfast.source.postgresql.description import dump_name, from_bytes
from holdfast.source.postgresql.server import address
from holdfast.source.postgresql.tools import choose_tools
from holdfast.source.protocol import (
    Consistency,
    NotGrantedError,
    OptionRefusedError,
    SecretRefusedError,
    SourceAbortedError,
    SourceBusyError,
    SourceError,
    SourceIncompleteError,
    SourceReport,
    SourceSecret,
    SourceSpec,
    SourceUnreachableError,
    SourceUnreadableError,
    ToolMissingError,
)
from holdfast.source.registry import open_source

pytestmark = pytest.mark.postgres

Make = Callable[..., str]
ROWS = "CREATE TABLE t AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 20000) i"


class TestPostgresql(SourceContract):
    consistency = Consistency.APPLICATION

    @pytest.fixture
    def spec(self, server: Server, make_database: Make) -> SourceSpec:
        return server.spec(make_database(ROWS))

    @pytest.fixture
    def missing(self, server: Server) -> SourceSpec:
        return server.spec("nowhere")


def back_up(spec: SourceSpec) -> tuple[dict[bytes, bytes], list[Problem], SourceReport]:
    """Read a source to its proven end; return its files, the problems and the report."""
    source = open_source(spec)
    try:
        found, problems = read_all(source)
        report = source.finish()
    except BaseException:
        source.abort()
        raise
    return {path[-1]: data for path, (_, data) in found.items()}, [*problems, *report.problems], report


def test_a_database_is_a_dump_with_globals_and_a_description(server: Server, make_database: Make) -> None:
    name = make_database(ROWS)
    files, problems, report = back_up(server.spec(name))
    assert list(files) == [b"databases", name.encode() + b".pgc", b"globals.sql", b"holdfast.json"]
    assert files[dump_name(name)].startswith(b"PGDMP")
    assert b"CREATE ROLE postgres" in files[b"globals.sql"]
    description = from_bytes(files[b"holdfast.json"])
    assert description.database == name
    assert description.exit_codes == {"pg_dump": 0, "pg_restore": 0, "pg_dumpall": 0}
    assert [(table.shown, table.kind) for table in description.facts.tables] == [("public.t", "r")]
    assert report.facts["exit_codes"] == {"pg_dump": 0, "pg_restore": 0, "pg_dumpall": 0}
    assert report.facts["server_version"].startswith("16.")
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", report.facts["lsn"])
    assert not problems
    source = open_source(server.spec(name))
    assert source.chunk_class is ChunkClass.ROWS
    source.abort()


def test_two_dumps_of_the_same_globals_are_the_same(server: Server, make_database: Make) -> None:
    name = make_database()
    assert back_up(server.spec(name))[0][b"globals.sql"] == back_up(server.spec(name))[0][b"globals.sql"]


def test_password_hashes_are_left_out_unless_asked_for(server: Server, make_database: Make) -> None:
    name = make_database()
    assert b"SCRAM-SHA-256" not in back_up(server.spec(name))[0][b"globals.sql"]
    assert b"SCRAM-SHA-256" in back_up(server.spec(name, role_passwords="include"))[0][b"globals.sql"]


def test_rows_are_counted_in_the_dumps_own_snapshot(server: Server, make_database: Make) -> None:
    name = make_database(ROWS)
    source = open_source(server.spec(name, row_counts="exact"))
    server.run(name, "DELETE FROM t WHERE id > 5")
    found, _ = read_all(source)
    source.finish()
    (table,) = from_bytes(found[(b"holdfast.json",)][1]).facts.tables
    assert table.rows == 20000


@pytest.mark.parametrize(
    "name", ["x host=evil", "host=evil", "it's", 'q"uote', "a/b", ".hidden", "50%", "-W", "back\\slash", "ünï"]
)
def test_a_databases_name_stays_a_name(server: Server, make_database: Make, name: str) -> None:
    name = f"{name} {os.getpid()}" if "=" not in name else name
    files, _, report = back_up(server.spec(make_database(ROWS, name=name)))
    assert from_bytes(files[b"holdfast.json"]).database == name
    assert len(files[dump_name(name)]) > 600_000
    assert report.facts["exit_codes"]["pg_dumpall"] == 0


def test_no_two_databases_have_the_same_file_name() -> None:
    names = ["a/b", "a%2Fb", ".x", "%2Ex", "%", "%25", ".", ".."]
    assert len({dump_name(name) for name in names}) == len(names)
    assert not {b".", b".."} & {dump_name(name) for name in names}


@pytest.mark.parametrize(
    ("password", "line"),
    [("a:b\\c", b"*:*:*:*:a\\:b\\\\c\n"), ("", b"*:*:*:*:\n"), ("ünï #", "*:*:*:*:ünï #\n".encode())],
)
def test_a_password_is_escaped_as_libpq_reads_it(password: str, line: bytes) -> None:
    assert password_line(password) == line


@pytest.mark.parametrize("password", ["a\nb", "a\rb", "a\0b"])
def test_a_password_that_no_file_can_say_is_refused(password: str) -> None:
    with pytest.raises(SecretRefusedError, match="line end or a zero byte"):
        password_line(password)


def _told_to_tools() -> list[bytes]:
    """Return arguments and environment of each PostgreSQL tool that runs for this process."""
    told = []
    for pid in children():
        proc = Path("/proc", str(pid))
        arguments = (proc / "cmdline").read_bytes()
        if arguments.partition(b"\0")[0].rpartition(b"/")[2] in {b"pg_dump", b"pg_restore"}:
            told.append(arguments + (proc / "environ").read_bytes())
    return told


def test_the_password_is_in_no_argument_environment_or_file(server: Server, make_database: Make) -> None:
    source = open_source(server.spec(make_database(ROWS)))
    seen: list[bytes] = []
    for item in source.entries():
        if isinstance(item, Entry) and item.path[-1].endswith(b".pgc"):
            assert item.content is not None
            content = item.content.read()  # type: ignore[union-attr]  # nothing is kept without a parent
            next(content)
            for _ in range(500):  # a child that has only just been started still bears our own name
                seen = _told_to_tools()
                if len(seen) == 2:
                    break
                threading.Event().wait(0.02)
            list(content)
        elif isinstance(item, Entry) and item.content is not None:
            read_content(item.content)
    source.finish()
    assert len(seen) == 2
    assert not [text for text in seen if PASSWORD.encode() in text or b"pass:word" in text]
    assert any(b"PGPASSFILE=/proc/self/fd/" in text for text in seen)
    assert not any(b"PGHOST" in text for text in seen)


def test_a_wrong_password_is_told_without_the_password(server: Server, make_database: Make) -> None:
    spec = replace(server.spec(make_database()), secret=SourceSecret("postgres", "wrong-secret"))
    with pytest.raises(SecretRefusedError, match="password authentication failed") as raised:
        open_source(spec)
    assert "wrong-secret" not in str(raised.value)
    assert not raised.value.retryable


def test_a_database_without_a_secret_is_refused(server: Server, make_database: Make) -> None:
    with pytest.raises(SecretRefusedError, match="needs a secret"):
        open_source(replace(server.spec(make_database()), secret=None))


def test_what_the_environment_says_of_servers_is_ignored(
    server: Server, make_database: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = server.spec(make_database(ROWS))
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    files, _, _ = back_up(spec)
    assert b"holdfast.json" in files


def test_a_server_that_is_not_there_may_come_back(server: Server, make_database: Make) -> None:
    spec = replace(server.spec(make_database()), url="postgresql://localhost:1/x", grants=server.spec("x").grants)
    with pytest.raises(NotGrantedError):
        open_source(spec)
    grant = replace(spec.grants[0], url_prefix="postgresql://localhost:1/")
    with pytest.raises(SourceUnreachableError) as raised:
        open_source(replace(spec, grants=(grant,)))
    assert raised.value.retryable


def test_a_server_is_no_database(server: Server) -> None:
    with pytest.raises(OptionRefusedError, match="name one of its databases"):
        open_source(replace(server.spec("x"), url=f"postgresql://localhost:{server.port}/"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"role-passwords": "yes"}, "omit or include"),
        ({"large-objects": ""}, "include or omit"),
        ({"row-counts": "some"}, "estimate or exact"),
        ({"lock-wait": "0"}, "number of seconds"),
        ({"lock-wait": "soon"}, "number of seconds"),
        ({"sslmode": "allow"}, "unprotected"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    server: Server, make_database: Make, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(OptionRefusedError, match=complaint):
        open_source(replace(server.spec(make_database()), options=options))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_password_never_travels_unprotected(mode: str) -> None:
    spec = SourceSpec(
        f"postgresql://db.internal/shop?sslmode={mode}",
        "RDS",
        secret=SourceSecret("u", "p"),
        grants=(HostGrant("postgresql://db.internal/"),),
    )
    with pytest.raises(OptionRefusedError, match="unprotected"):
        open_source(spec)


@pytest.mark.parametrize(
    ("url", "mode", "roots"),
    [
        ("postgresql://db.internal/shop", "verify-full", "/etc/own-roots.pem"),
        ("postgresql://db.internal/shop?sslmode=verify-ca", "verify-ca", "/etc/own-roots.pem"),
        ("postgresql://db.internal/shop?sslmode=require", "require", None),
        ("postgresql://localhost/shop", "prefer", None),
        ("postgresql://%2Frun%2Fpostgresql/shop?sslmode=disable", "disable", None),
    ],
)
def test_a_servers_identity_is_proven_unless_it_is_this_machine(url: str, mode: str, roots: str | None) -> None:
    spec = SourceSpec(url, "RDS", secret=SourceSecret("u", "p"), certificates="/etc/own-roots.pem")
    where, _ = address(spec, location(url))
    assert (where.parameters()["sslmode"], where.parameters().get("sslrootcert")) == (mode, roots)


def test_a_server_without_tls_is_not_spoken_to_when_tls_is_asked_for(server: Server, make_database: Make) -> None:
    with pytest.raises(SourceUnreadableError, match="does not support SSL"):
        open_source(server.spec(make_database(), sslmode="require"))


def test_a_role_without_rights_is_told_what_it_lacks(server: Server, make_database: Make, role: Make) -> None:
    name = make_database(ROWS)
    with pytest.raises(SourceUnreadableError, match=r"permission denied for table t.*pg_read_all_data"):
        back_up(server.spec(name, role()))


def test_a_role_with_the_documented_rights_is_enough(server: Server, make_database: Make, role: Make) -> None:
    name = make_database(ROWS)
    files, problems, _ = back_up(server.spec(name, role("GRANT pg_read_all_data TO {role}")))
    assert not problems
    assert b"SCRAM" not in files[b"globals.sql"]


def test_row_security_never_makes_a_dump_smaller(server: Server, make_database: Make, role: Make) -> None:
    name = make_database(ROWS, "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    with pytest.raises(SourceUnreadableError, match=r"row-level security.*BYPASSRLS"):
        back_up(server.spec(name, role("GRANT pg_read_all_data TO {role}")))


def test_large_objects_that_may_not_be_read_stop_the_dump_or_are_left_out_on_record(
    server: Server, make_database: Make, role: Make
) -> None:
    name = make_database(ROWS, "SELECT lo_from_bytea(0, 'data')")
    reader = role("GRANT pg_read_all_data TO {role}")
    with pytest.raises(SourceUnreadableError, match="large-objects=omit"):
        back_up(server.spec(name, reader))
    _, problems, _ = back_up(server.spec(name, reader, large_objects="omit"))
    assert [problem.what for problem in problems] == ["1 large objects were left out as asked for"]


def test_a_locked_table_is_waited_for_only_so_long(server: Server, make_database: Make) -> None:
    name = make_database(ROWS)
    with server.connect(name) as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceBusyError, match="timeout") as raised:
            back_up(server.spec(name, lock_wait="1"))
    assert raised.value.retryable


def test_a_backend_killed_in_the_middle_of_a_dump_ends_it(server: Server, make_database: Make) -> None:
    name = make_database("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 100000) i")
    spec = server.spec(name)
    source = open_source(spec)

    def read() -> None:
        for item in source.entries():
            if isinstance(item, Entry) and item.content is not None:
                pieces = item.content.read()  # type: ignore[union-attr]  # nothing is kept without a parent
                next(pieces)
                server.run(
                    "postgres",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE datname = '{name}' AND application_name LIKE '%{spec.job}%' AND query LIKE 'COPY%'",
                )
                list(pieces)

    with pytest.raises(SourceUnreachableError, match="pg_dump of") as raised:
        read()
    assert raised.value.retryable
    with pytest.raises(SourceIncompleteError):
        source.finish()
    source.abort()
    assert server.backends(spec.job) == 0


def test_an_abort_in_the_middle_of_a_dump_leaves_no_backend(server: Server, make_database: Make) -> None:
    name = make_database("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 100000) i")
    spec = server.spec(name)
    open_files = descriptors()
    source = open_source(spec)
    stream = source.entries()
    next(stream)
    dump = next(stream)
    assert isinstance(dump, Entry)
    pieces = dump.content.read()  # type: ignore[union-attr]  # nothing is kept without a parent
    next(pieces)
    assert server.backends(spec.job, expected=2) == 2
    source.abort()
    assert server.backends(spec.job) == 0
    with pytest.raises(SourceAbortedError):
        list(pieces)
    with pytest.raises(SourceAbortedError):
        list(stream)
    assert opened_since(open_files) == []


def test_an_abort_while_a_lock_is_waited_for_ends_the_wait(server: Server, make_database: Make) -> None:
    name = make_database(ROWS)
    spec = server.spec(name)
    source = open_source(spec)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with server.connect(name) as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        outcome: list[BaseException] = []

        def read() -> None:
            try:
                read_all(source)
            except SourceError as error:
                outcome.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(1000):
            if server.ask(name, waiting):
                break
            reader.join(0.01)
        source.abort()
        reader.join(20)
        assert not reader.is_alive()
    assert [type(error) for error in outcome] == [SourceAbortedError]
    assert server.backends(spec.job) == 0


def tools_that(tmp_path: Path, server: Server, program: str, script: str) -> tuple[str, ...]:
    """Make a directory with the real programs, but for one that is a script of its own."""
    for name in ("pg_dump", "pg_dumpall", "pg_restore"):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec "{server.tools}/{name}" "$@"\n')
    version = f'if [ "$1" = --version ]; then exec "{server.tools}/{program}" --version; fi\n'
    (tmp_path / program).write_text(f'#!/bin/sh\n{version}real="{server.tools}/{program}"\n{script}\n')
    for name in ("pg_dump", "pg_dumpall", "pg_restore"):
        (tmp_path / name).chmod(0o755)
    return (str(tmp_path),)


@pytest.mark.parametrize(
    ("program", "script", "complaint"),
    [
        ("pg_dump", '"$real" "$@" | head -c 300000', "pg_restore|end of file"),
        ("pg_dump", '"$real" "$@" | head -c 0', "did not end well|pg_restore"),
        (
            "pg_dump",
            'for a; do [ "$a" = --format=custom ] || set -- "$@" "$a"; shift; done; "$real" "$@" -Fp',
            "custom format",
        ),
        ("pg_dump", '"$real" "$@"; exit 3', "pg_dump of .* ended with 3"),
        ("pg_dump", "kill -9 $$", "signal 9"),
        ("pg_restore", "cat > /dev/null; echo bad archive >&2; exit 1", "bad archive"),
        ("pg_restore", "exit 0", "pg_restore cannot read the dump"),
        ("pg_dumpall", '"$real" "$@" | head -c 200', "globals .* do not end as they should"),
        ("pg_dumpall", "echo no luck >&2; exit 1", "no luck"),
    ],
    ids=[
        "cut",
        "empty",
        "plain",
        "ends with 3",
        "killed",
        "archive unreadable",
        "reader gone",
        "globals cut",
        "globals fail",
    ],
)
def test_a_dump_that_did_not_end_well_is_never_proven(
    server: Server, make_database: Make, tmp_path: Path, program: str, script: str, complaint: str
) -> None:
    spec = replace(server.spec(make_database(ROWS)), tools=tools_that(tmp_path, server, program, script))
    with pytest.raises(SourceError, match=complaint):
        back_up(spec)
    assert server.backends(spec.job) == 0


def test_what_a_program_says_is_kept_short_and_without_the_password(
    server: Server, make_database: Make, tmp_path: Path
) -> None:
    shout = "for i in $(seq 5000); do echo 'noise noise noise noise noise' >&2; done; cat \"$PGPASSFILE\" >&2; exit 1"
    spec = replace(
        server.spec(make_database()),
        secret=SourceSecret("postgres", PASSWORD),
        tools=tools_that(tmp_path, server, "pg_dump", shout),
    )
    with pytest.raises(SourceError) as raised:
        back_up(spec)
    assert len(str(raised.value)) < 2000
    assert PASSWORD not in str(raised.value)
    assert password_line(PASSWORD).decode().strip() not in str(raised.value)


def test_the_oldest_client_that_fits_is_chosen(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("holdfast.source.postgresql.tools._PACKAGED", ())
    both = (server.newer_tools, server.tools)
    assert choose_tools(both, at_least=16).major == 16
    assert choose_tools(both, at_least=17).major == 18
    assert choose_tools((server.newer_tools,), at_least=12).major == 18


def test_without_a_client_that_fits_the_host_needs_one(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("holdfast.source.postgresql.tools._PACKAGED", ())
    with pytest.raises(ToolMissingError, match=r"found: 16\.\d+ in .*install the package postgresql-client-17"):
        choose_tools((server.tools,), at_least=17)
    with pytest.raises(ToolMissingError, match="found: none"):
        choose_tools(("relative", str(tmp_path)), at_least=12)


def test_a_half_installed_client_is_no_client(server: Server, make_database: Make, tmp_path: Path) -> None:
    tools = tools_that(tmp_path, server, "pg_dump", 'exec "$real" "$@"')
    (tmp_path / "pg_dumpall").unlink()
    with pytest.raises(ToolMissingError, match="but no pg_dumpall"):
        back_up(replace(server.spec(make_database()), tools=tools))


def test_what_a_dump_leaves_out_without_a_word_is_on_record(server: Server, make_database: Make, role: Make) -> None:
    name = make_database(
        "CREATE FOREIGN DATA WRAPPER elsewhere",
        "CREATE SERVER there FOREIGN DATA WRAPPER elsewhere",
        "CREATE FOREIGN TABLE far (line text) SERVER there",
    )
    _, problems, _ = back_up(server.spec(name))
    assert [str(problem) for problem in problems] == [
        f"/databases/{name}.pgc: public.far: a foreign table, its rows lie on another server"
    ]


def test_a_database_whose_names_have_no_encoding_is_read(server: Server, make_database: Make) -> None:
    name = make_database()
    server.run("postgres", f"DROP DATABASE {name}")
    server.run("postgres", f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with psycopg.connect(
        host="127.0.0.1", port=server.port, dbname=name, user="postgres", password=PASSWORD, autocommit=True
    ) as connection:
        connection.execute("SET client_encoding = 'LATIN1'")
        connection.execute(b'CREATE TABLE "ol\xe9" (x int)')
    files, _, _ = back_up(server.spec(name))
    assert [table.name for table in from_bytes(files[b"holdfast.json"]).facts.tables] == ["ol\xe9"]


def test_the_description_says_what_a_restore_needs(server: Server, make_database: Make, role: Make) -> None:
    owner = role()
    name = make_database("CREATE TABLE mine (x int)", f"ALTER TABLE mine OWNER TO {owner}")
    files, _, _ = back_up(server.spec(name))
    body = json.loads(files[b"holdfast.json"])
    assert body["format"] == 1
    assert body["facts"]["encoding"] == "UTF8"
    assert owner in body["facts"]["roles"]
    assert body["options"]["role-passwords"] == "omit"
    server.run(name, "DROP TABLE mine")


def test_memory_files_are_not_left_behind(server: Server, make_database: Make) -> None:
    back_up(server.spec(make_database(ROWS)))
    assert not [name for name in descriptors() if "memfd" in name]


@pytest.fixture(autouse=True)
def no_child_is_left_behind() -> object:
    before = children()
    yield
    assert children() == before
