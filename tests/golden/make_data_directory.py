"""Make the data directory of this release that later releases must go on with; `make golden` runs this.

Beside the packed directory lies what it holds, as a client saw it. The keys in both are of nobody's installation.
"""

import hashlib
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.running import VAULT, Member, Running, found_organization, holdfast, join, started

from holdfast.cli.tree import make_tree
from holdfast.database.schema import head

HERE = Path(__file__).parent
MANAGEMENT = "111122223333"


def packed(revision: str) -> Path:
    """Return where the data directory with this schema lies, packed."""
    return HERE / f"data-directory-{revision}.tar.xz"


def seen(shop: Member) -> dict[str, Any]:
    """Return what a client sees of an account: jobs, points, the vault with its lock, holds, plans and selections."""
    backup = shop.client("backup")
    plans = [plan["BackupPlanId"] for plan in backup.list_backup_plans(IncludeDeleted=True)["BackupPlansList"]]
    answers = {
        "jobs": backup.list_backup_jobs()["BackupJobs"],
        "points": shop.points(),
        "vault": backup.describe_backup_vault(BackupVaultName=VAULT),
        "holds": backup.list_legal_holds()["LegalHolds"],
        "plans": [
            {
                **backup.get_backup_plan(BackupPlanId=plan),
                **backup.list_backup_plan_versions(BackupPlanId=plan),
                "selections": [
                    backup.get_backup_selection(BackupPlanId=plan, SelectionId=each["SelectionId"])["BackupSelection"]
                    for each in backup.list_backup_selections(BackupPlanId=plan)["BackupSelectionsList"]
                ],
                "ResponseMetadata": None,
            }
            for plan in plans
        ],
    }
    answers["vault"].pop("ResponseMetadata")
    told: dict[str, Any] = json.loads(json.dumps(answers, default=str))
    return told


def digests(tree: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a tree, by its path in hexadecimal, since names are bytes."""
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {os.fsencode(path.relative_to(tree)).hex(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_plans(shop: Member) -> None:
    """Make a plan of two versions with a selection, and one that is deleted; neither ever runs."""
    backup = shop.client("backup")
    rule = {"RuleName": "late", "TargetBackupVaultName": VAULT, "ScheduleExpression": "cron(0 5 1 1 ? 2199)"}
    deleted, plan = (
        backup.create_backup_plan(BackupPlan={"BackupPlanName": name, "Rules": [rule]})["BackupPlanId"]
        for name in ("deleted", "kept")
    )
    backup.delete_backup_plan(BackupPlanId=deleted)
    kept = {**rule, "Lifecycle": {"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 120}}
    backup.update_backup_plan(BackupPlanId=plan, BackupPlan={"BackupPlanName": "kept", "Rules": [kept]})
    selection = {"SelectionName": "all", "IamRoleArn": shop.role, "Resources": ["*"]}
    backup.create_backup_selection(BackupPlanId=plan, BackupSelection=selection)


def administrator(server: Running) -> Any:
    """Return a key that stays: of a user in the management account, made for whoever opens the directory later."""
    iam = server.client("iam")
    iam.create_user(UserName="later")
    iam.attach_user_policy(UserName="later", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    return iam.create_access_key(UserName="later")["AccessKey"]


def main() -> None:
    """Make it, unless there is one of this schema already."""
    target = packed(head())
    if target.exists():
        print(f"{target.name} is there; remove it first if nothing was released with this schema yet")
        return
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        data, tree = top / "data", top / "srv" / "files"
        tree.parent.mkdir()
        make_tree(tree, theme="golden", files=12)
        kit = holdfast("init", "--data-dir", data, "--account-id", MANAGEMENT).stdout
        words = {line.rpartition("  ")[0].strip(): line.split()[-1] for line in kit.splitlines() if "  " in line}
        grant = f'[[grant]]\nurl_prefix = "{tree.parent.as_uri()}"\nread = true\n'
        (data / "holdfast.toml").write_text(grant)
        with started("serve", data) as server:
            server.credentials = {
                "AccessKeyId": words["Access key id"],
                "SecretAccessKey": words["Secret access key"],
            }
            found_organization(server)
            shop = join(server, "shop")
            server.client("holdfast").put_site_grant(
                Name="srv", Site="local", UrlPrefix=tree.parent.as_uri(), Accounts=[shop.id], AllowRead=True
            )
            assert shop.ended(shop.back_up(shop.register("files", tree)))["State"] == "COMPLETED"
            backup = shop.client("backup")
            backup.put_backup_vault_lock_configuration(BackupVaultName=VAULT, MinRetentionDays=1)
            backup.create_legal_hold(
                Title="golden",
                Description="kept for later releases",
                RecoveryPointSelection={"VaultNames": [VAULT]},
            )
            make_plans(shop)
            facts = {
                "account": shop.id,
                "key": administrator(server),
                "seen": seen(shop),
                "files": digests(tree),
            }
            assert server.stop() == 0
        for leftover in ("holdfast.toml", "serving.lock"):
            (data / leftover).unlink()
        with tarfile.open(target, "w:xz") as archive:
            archive.add(data, "data")
        target.with_suffix("").with_suffix(".json").write_text(json.dumps(facts, indent=1, default=str) + "\n")
        print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
