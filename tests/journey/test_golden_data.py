"""A data directory of every schema that was released is upgraded, and everything in it is there as it was."""

import json
import tarfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.golden.make_data_directory import HERE, digests, packed, seen
from tests.running import Member, enter, holdfast, started

from holdfast.database.rows import tables
from holdfast.database.schema import head

FROZEN = sorted(
    path.name.removeprefix("data-directory-")[: -len(".tar.xz")] for path in HERE.glob("data-directory-*.xz")
)


def test_this_schema_is_among_the_frozen_ones() -> None:
    assert head() in FROZEN, "make golden"


@pytest.mark.parametrize("revision", FROZEN)
def test_a_frozen_data_directory_goes_on_under_this_release(revision: str, tmp_path: Path) -> None:
    with tarfile.open(packed(revision)) as archive:
        archive.extractall(tmp_path, filter="tar")
    facts = json.loads(packed(revision).with_suffix("").with_suffix(".json").read_text())
    data, back = tmp_path / "data", tmp_path / "back"
    back.mkdir()
    (data / "holdfast.toml").write_text(f'[[grant]]\nurl_prefix = "{back.as_uri()}"\nrestore = true\n')
    checked = holdfast("upgrade", "--check", "--data-dir", data, "--json")
    assert checked.returncode == (0 if revision == head() else 4), checked.stderr
    assert json.loads(checked.stdout)["schema"] == revision
    applied = holdfast("upgrade", "--apply", "--data-dir", data, "--json")
    assert applied.returncode == 0, applied.stderr
    with started("serve", data) as server:
        server.credentials = facts["key"]
        shop: Member = enter(server, facts["account"])
        assert seen(shop) == facts["seen"]
        server.client("holdfast").put_site_grant(
            Name="back", Site="local", UrlPrefix=back.as_uri(), Accounts=[shop.id], AllowRestore=True
        )
        (point,) = shop.points()
        restored = shop.restore(point, back / "files")
        assert digests(restored) == facts["files"]
    verified = holdfast("audit", "verify", "--data-dir", data)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("revision", FROZEN)
def test_a_schema_that_was_frozen_is_changed_by_a_migration_of_its_own_only(revision: str, tmp_path: Path) -> None:
    with tarfile.open(packed(revision)) as archive:
        archive.extractall(tmp_path, filter="tar")
    frozen = sa.inspect(sa.create_engine(f"sqlite:///{tmp_path / 'data' / 'control.db'}"))
    for name, table in tables(revision).by_name.items():
        columns = [str(column.name) for column in table.columns]
        assert [str(column["name"]) for column in frozen.get_columns(name)] == columns, name
