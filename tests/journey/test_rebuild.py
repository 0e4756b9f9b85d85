"""With storage and the root key alone, everything that was listed is listed again and restores."""

import json
import shutil
from pathlib import Path

from tests.journey import test_copies as copies
from tests.running import REGION, ROLE, Member, copied, found_organization, holdfast, join, make_role, started

from holdfast.cli.tree import compare_trees, make_tree


def test_storage_and_the_root_key_bring_every_point_of_every_account_back(tmp_path: Path) -> None:
    with started("dev", tmp_path / "lost") as server:
        found_organization(server)
        members = [join(server, name) for name in ("shop", "ledger")]
        kept: dict[str, Path] = {}
        for member in members:
            tree = member.sandbox / "files"
            make_tree(tree, theme=member.id, files=6)
            arn = member.register("files", tree)
            for turn in range(2):
                (tree / "turn").write_text(str(turn))
                known = set(kept)
                member.back_up(arn, RecoveryPointTags={"turn": str(turn)})
                server.settle(60)
                (made,) = {point["RecoveryPointArn"] for point in member.points()} - known
                kept[made] = copied(tree, tmp_path / f"{member.id}-{turn}")
        # One account's vault holds a copy of another's data.
        shop, ledger = members
        server.client("backup").update_global_settings(GlobalSettings={"isCrossAccountBackupEnabled": "true"})
        copies.let_in(ledger, {"AWS": f"arn:aws:iam::{shop.id}:root"})
        source = shop.points()[0]["RecoveryPointArn"]
        copy = copies.copied(shop, copies.copy(shop, source, copies.vault_arn(ledger)))
        kept[copy["DestinationRecoveryPointArn"]] = kept[source]
        listed = {member.id: {each["RecoveryPointArn"]: each for each in member.points()} for member in members}
        in_use = holdfast("rebuild", "--data-dir", tmp_path / "lost")
        assert in_use.returncode == 1
        assert "is served already" in in_use.stderr
        assert server.stop() == 0
    shutil.move(tmp_path / "lost" / "storage", tmp_path / "storage")
    shutil.move(tmp_path / "lost" / "root.key", tmp_path / "root.key")
    shutil.rmtree(tmp_path / "lost")

    found = tmp_path / "found"
    options = ("--storage", tmp_path / "storage", "--root-key", tmp_path / "root.key", "--json")
    told = holdfast("rebuild", "--data-dir", found, *options)
    assert told.returncode == 0, told.stderr
    rebuilt = json.loads(told.stdout)
    assert rebuilt["sound"]
    assert sorted(rebuilt["accounts"]) == sorted(listed)

    with (found / "holdfast.toml").open("a") as configuration:
        configuration.write(f'[[grant]]\nurl_prefix = "{tmp_path.as_uri()}/back"\nrestore = true\n')
    (tmp_path / "back").mkdir()
    administrators = {}
    for member in members:  # the first of them runs the installation from now on
        administrator = holdfast("rebuild", "--data-dir", found, "--administrator-of", member.id, "--json")
        assert administrator.returncode == 0, administrator.stderr
        administrators[member.id] = json.loads(administrator.stdout)["administrator"]
    compared = 0
    with started("serve", found) as server:
        operator, other = (Member(server, each.id, administrators[each.id], REGION) for each in members)
        organizations = operator.client("organizations")
        organizations.create_organization(FeatureSet="ALL")
        sent = organizations.invite_account_to_organization(Target={"Type": "ACCOUNT", "Id": other.id})["Handshake"]
        other.client("organizations").accept_handshake(HandshakeId=sent["Id"])
        operator.client("holdfast").put_site_grant(
            Name="back",
            Site="local",
            UrlPrefix=f"{tmp_path.as_uri()}/back",
            Accounts=[operator.id, other.id],
            AllowRestore=True,
        )
        for again in (operator, other):
            make_role(again, ROLE)
            points = {each["RecoveryPointArn"]: each for each in again.points()}
            assert points == listed[again.id]
            for number, (arn, point) in enumerate(sorted(points.items())):
                back = again.restore(point, tmp_path / "back" / f"{again.id}-{number}")
                assert compare_trees(kept[arn], back)[1] == []
                compared += 1
    assert compared == 5
