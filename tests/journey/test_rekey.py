"""The root key is changed on a host; clients notice nothing, and a killed change goes on."""

import json
from pathlib import Path

from tests.running import found_organization, holdfast, join, started

from holdfast.cli.tree import compare_trees, make_tree


def test_a_host_gets_another_root_key_and_clients_notice_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started("dev", data) as server:
        found_organization(server)
        shop = join(server, "shop")
        tree = shop.sandbox / "files"
        make_tree(tree, theme="shop", files=6)
        arn = shop.register("files", tree)
        shop.back_up(arn)
        server.settle(60)
        user = shop.client("iam").create_user(UserName="maria")["User"]["UserName"]
        key = shop.client("iam").create_access_key(UserName=user)["AccessKey"]
    before = (data / "root.key").read_text()
    told = holdfast("rekey", "--data-dir", data, "--json")
    assert told.returncode == 0, told.stderr
    change = json.loads(told.stdout)
    assert change["repositories"] == 1
    assert (data / "root.key").read_text() != before
    assert (data / f"root.key.{change['before']}").read_text() == before
    with started("dev", data) as server:
        shop = type(shop)(server, shop.id, shop.credentials)
        assert server.client("sts", key).get_caller_identity()["Arn"].endswith("/maria")
        shop.back_up(arn)
        server.settle(60)
        for number, point in enumerate(shop.points()):
            assert compare_trees(tree, shop.restore(point, shop.sandbox / f"back-{number}"))[1] == []
    verified = holdfast("audit", "verify", "--data-dir", data)
    assert verified.returncode == 0, verified.stdout
    (data / "root.key").write_text(before)
    wrong = holdfast("dev", "--data-dir", data)
    assert wrong.returncode == 1
    assert change["root_key"] in wrong.stderr
