"""`holdfast init` and `holdfast serve`: what is printed once, what is refused, and a first backup in production."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.running import copied, found_organization, holdfast, join, started

from holdfast.key.service import generate_recovery_pair, print_recovery_key, read_recovery_key

SECRET = re.compile(
    r"^  (?P<name>Recovery key|Access key id|Secret access key|Management account)\s+(?P<value>\S+)$", re.MULTILINE
)


def initialised(data: Path) -> dict[str, str]:
    """Make a data directory; return what the recovery kit says."""
    told = holdfast("init", "--data-dir", data, "--account-id", "111122223333")
    assert told.returncode == 0, told.stderr
    kit = {match["name"]: match["value"] for match in SECRET.finditer(told.stdout)}
    assert set(kit) == {"Recovery key", "Access key id", "Secret access key", "Management account"}
    return kit


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    data = tmp_path_factory.mktemp("serve") / "data"
    return data, initialised(data)


def test_the_recovery_kit_is_printed_once_and_kept_nowhere(installation: tuple[Path, dict[str, str]]) -> None:
    data, kit = installation
    written = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    for name in ("Recovery key", "Secret access key"):
        assert kit[name].encode() not in written
    assert read_recovery_key(kit["Recovery key"]) not in written
    assert (data / "root.key").stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o077 == 0
    again = holdfast("init", "--data-dir", data)
    assert again.returncode == 1
    assert "is a data directory already" in again.stderr
    assert again.stdout == ""


def test_the_kit_is_asked_for_until_somebody_shows_the_recovery_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    kit = initialised(data)
    with started("serve", data) as server:
        assert "recovery_kit.not_acknowledged" in server.said()
    foreign = print_recovery_key(generate_recovery_pair().private)
    for text, words in ((foreign, "another installation"), (kit["Recovery key"][:-1] + "8", "not a recovery key")):
        refused = holdfast("acknowledge-kit", "--data-dir", data, stdin=text)
        assert refused.returncode == 1
        assert words in refused.stderr
    told = holdfast("acknowledge-kit", "--data-dir", data, stdin=kit["Recovery key"].lower() + "\n")
    assert told.returncode == 0, told.stderr
    with started("serve", data) as server:
        assert server.said().count("recovery_kit.not_acknowledged") == 1, "said by the first start, and no more"


def test_the_first_administrator_makes_an_organization_and_a_backup(
    installation: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    data, kit = installation
    (tmp_path / "srv" / "www").mkdir(parents=True)
    (tmp_path / "srv" / "www" / "page").write_text("hello")
    (data / "holdfast.toml").write_text(
        f'[[grant]]\nurl_prefix = "{(tmp_path / "srv").as_uri()}"\nread = true\nrestore = true\n'
    )
    with started("serve", data) as server:
        server.credentials = {"AccessKeyId": kit["Access key id"], "SecretAccessKey": kit["Secret access key"]}
        who = server.client("sts").get_caller_identity()
        assert who["Arn"] == "arn:aws:iam::111122223333:user/admin"
        found_organization(server)
        shop = join(server, "shop")
        server.client("holdfast").put_site_grant(
            Name="srv",
            Site="local",
            UrlPrefix=(tmp_path / "srv").as_uri(),
            Accounts=[shop.id],
            AllowRead=True,
            AllowRestore=True,
        )
        job = shop.back_up(shop.register("www", tmp_path / "srv" / "www"))
        done = shop.ended(job)
        assert done["State"] == "COMPLETED", done
        (point,) = shop.points()
        assert (shop.restore(point, tmp_path / "srv" / "back") / "page").read_text() == "hello"
        for path, body in (("/_holdfast/clock", {"advance_seconds": 1}), ("/_holdfast/reset", {})):
            assert server.ask(path, body)[0] == 404, "the clock of production is nobody's to move"
        health = json.loads(server.ask("/_holdfast/health")[2])
        assert (health["status"], health["mode"]) == ("ok", "serve")
        assert server.stop() == 0
        assert kit["Secret access key"] not in server.said()
        assert "Traceback" not in server.said()


def refused(data: Path, *options: str) -> str:
    told = holdfast("serve", "--data-dir", data, "--port", "0", *options)
    assert told.returncode != 0
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    return told.stderr


def nothing_at_all(data: Path) -> None:
    shutil.rmtree(data)


def of_dev(data: Path) -> None:
    shutil.rmtree(data)
    with started("dev", data):
        pass


def with_a_newer_schema(data: Path) -> None:
    with closing(sqlite3.connect(data / "control.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999_future'")


def with_a_key_for_all_to_read(data: Path) -> None:
    (data / "root.key").chmod(0o644)


def without_a_key(data: Path) -> None:
    (data / "root.key").unlink()


def with_a_setting_that_is_none(data: Path) -> None:
    (data / "holdfast.toml").write_text("[server]\ncolour = 'blue'\n")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nothing_at_all, "make it with `holdfast init`"),
        (of_dev, "was made by `holdfast dev` and cannot be used by `holdfast serve`"),
        (with_a_newer_schema, "9999_future"),
        (with_a_key_for_all_to_read, "is readable by others; run: chmod 600"),
        (without_a_key, "the root key is missing: put it back"),
        (with_a_setting_that_is_none, "server.colour is no setting"),
    ],
    ids=["nothing", "of dev", "newer schema", "open key", "no key", "unknown setting"],
)
def test_a_directory_that_cannot_be_served_is_refused_in_words(
    installation: tuple[Path, dict[str, str]], tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    make(copied(installation[0], tmp_path / "data"))
    assert words in refused(tmp_path / "data")


def test_a_directory_of_production_is_not_for_development(installation: tuple[Path, dict[str, str]]) -> None:
    data, _ = installation
    told = holdfast("dev", "--data-dir", data, "--port", "0")
    assert told.returncode == 1
    assert "was made by `holdfast serve` and cannot be used by `holdfast dev`" in told.stderr


def test_an_address_that_others_reach_needs_a_certificate(installation: tuple[Path, dict[str, str]]) -> None:
    data, _ = installation
    for address in ("0.0.0.0", "::", "192.0.2.1"):  # noqa: S104 - which is what is refused
        assert "requests would cross the network in clear" in refused(data, "--host", address)
