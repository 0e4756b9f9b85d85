"""What each operation of `backup` asks for.

Actions, resources and condition keys: Service Authorization Reference, "Actions, resources, and condition keys for AWS
Backup". That other accounts are let into a vault by nothing but copies: AWS Backup Developer Guide, "Vault access
policies".
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import text

from holdfast.access.model import DocumentKind, Policy, parse_document
from holdfast.database.values import FOREVER
from holdfast.server.operations.keys import key_check
from holdfast.server.operations.scene import Check, Parameters, Rule, Scene, Value, arn_account, reading

_VAULT = text("""
    SELECT policy FROM vault
     WHERE account = :account AND region = :region AND name = :name AND deleted_at = :forever""")
_POINT = text("""
    SELECT v.name, v.policy, v.account FROM recovery_point p JOIN vault v ON v.id = p.vault_id
     WHERE p.account = :account AND p.region = :region AND p.arn = :arn""")
_PATH = text("SELECT path FROM placement WHERE account_id = :account AND ends_at = :forever")
_COPY_ONLY: Final = frozenset({"backup:copyintobackupvault"})
_SERVICE: Final = "backup.amazonaws.com"


def vault_policy(scene: Scene, account: str, name: str, *, region: str | None = None) -> Policy | None:
    """Return a vault's own policy, None when it has none or does not exist."""
    region = region or scene.region
    key = ("vault", account, region, name)
    if key in scene.memory:  # every change of a vault's policy, its deletion too, raises the access version
        remembered: Policy | None = scene.memory[key]
        return remembered
    row = scene.tx.execute(
        _VAULT, {"account": account, "region": region, "name": name, "forever": FOREVER}
    ).one_or_none()
    found = None
    if row is not None and row.policy is not None:
        found = Policy(f"access policy of vault {name}", parse_document(row.policy, DocumentKind.RESOURCE))
    if row is not None:
        scene.remember(key, found)
    return found


def _vault_check(scene: Scene, parameters: Parameters, action: str, values: Mapping[str, Value] | None = None) -> Check:
    owner = parameters.get("BackupVaultAccountId") or scene.account
    name = parameters["BackupVaultName"]
    return Check(
        action,
        scene.arn("backup", f"backup-vault:{name}", account=owner),
        owner=owner,
        values=values or {},
        policy=vault_policy(scene, owner, name),
        foreign_only=_COPY_ONLY,
    )


def _on_vault(action: str, **values: str) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        given = {f"backup:{key}": parameters.get(member) for key, member in values.items()}
        return [_vault_check(scene, parameters, action, given)]

    return checks


def _point_check(scene: Scene, parameters: Parameters, action: str, values: Mapping[str, Value] | None = None) -> Check:
    """Return the check of an action on a recovery point, with the policy of the vault that it is in."""
    arn = parameters["RecoveryPointArn"]
    vault = parameters.get("BackupVaultName") or parameters.get("SourceBackupVaultName")
    owner = parameters.get("BackupVaultAccountId") or scene.account
    if vault is not None:
        policy = vault_policy(scene, owner, vault)
    else:
        row = scene.tx.execute(_POINT, {"account": owner, "region": scene.region, "arn": arn}).first()
        policy = None if row is None else vault_policy(scene, row.account, row.name)
    return Check(action, arn, owner=owner, values=values or {}, policy=policy, foreign_only=_COPY_ONLY)


def _on_point(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    return lambda scene, parameters: [_point_check(scene, parameters, action)]


def _on(action: str, resource: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the check of an action on a resource of `backup`, `{Member}` standing for a member's value."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        return [Check(action, scene.arn("backup", resource.format_map(_Members(parameters))))]

    return checks


class _Members(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "*"


def _on_arn(action: str, member: str) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        arn = parameters[member]
        vault = arn.partition(":backup-vault:")[2]
        owner = arn_account(arn) or scene.account
        policy = vault_policy(scene, owner, vault) if vault else None
        return [Check(action, arn, owner=owner, policy=policy, foreign_only=_COPY_ONLY)]

    return checks


def _plain(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    return lambda _scene, _parameters: [Check(action)]


def pass_role(scene: Scene, role_arn: str | None, *, service: str = _SERVICE, about: str | None = None) -> list[Check]:
    """Return the check that the caller may let a service act as a role: of the caller's own account, always."""
    if not role_arn:
        return []
    values = {"iam:PassedToService": service, "iam:AssociatedResourceArn": about}
    return [Check("iam:PassRole", role_arn, owner=arn_account(role_arn) or scene.account, values=values)]


def _create_selection(scene: Scene, parameters: Parameters) -> list[Check]:
    plan = scene.arn("backup", f"backup-plan:{parameters['BackupPlanId']}")
    role = parameters["BackupSelection"].get("IamRoleArn")
    return [Check("backup:CreateBackupSelection", plan), *pass_role(scene, role)]


def _copy_targets(scene: Scene, plan: Mapping[str, Any]) -> dict[str, Value]:
    """Return the vaults that a plan copies to, and where their accounts stand, which policies may restrict."""
    targets = [
        action["DestinationBackupVaultArn"]
        for rule in plan.get("Rules", ())
        for action in rule.get("CopyActions") or ()
        if "DestinationBackupVaultArn" in action
    ]
    owners = dict.fromkeys(arn_account(target) or scene.account for target in targets)
    paths = [path for owner in owners for path in _org_paths(scene, owner) or ()]
    return {"backup:CopyTargets": targets or None, "backup:CopyTargetOrgPaths": paths or None}


def _create_plan(scene: Scene, parameters: Parameters) -> list[Check]:
    values = _copy_targets(scene, parameters["BackupPlan"])
    return [Check("backup:CreateBackupPlan", scene.arn("backup", "backup-plan:*"), values=values)]


def _update_plan(scene: Scene, parameters: Parameters) -> list[Check]:
    plan = scene.arn("backup", f"backup-plan:{parameters['BackupPlanId']}")
    return [Check("backup:UpdateBackupPlan", plan, values=_copy_targets(scene, parameters["BackupPlan"]))]


def _create_vault(scene: Scene, parameters: Parameters) -> list[Check]:
    checks = [_vault_check(scene, parameters, "backup:CreateBackupVault")]
    key = parameters.get("EncryptionKeyArn")
    if key:
        via: dict[str, Value] = {
            "kms:ViaService": f"backup.{scene.region}.amazonaws.com",
            "kms:GrantIsForAWSResource": True,
        }
        checks += [key_check(scene, key, action, via) for action in ("kms:DescribeKey", "kms:GenerateDataKey")]
    return checks


def _start_backup(scene: Scene, parameters: Parameters) -> list[Check]:
    index = parameters.get("Index")
    check = _vault_check(scene, parameters, "backup:StartBackupJob", {"backup:Index": index})
    return [check, *pass_role(scene, parameters.get("IamRoleArn"), about=parameters.get("ResourceArn"))]


def _start_restore(scene: Scene, parameters: Parameters) -> list[Check]:
    check = _point_check(scene, parameters, "backup:StartRestoreJob")
    return [check, *pass_role(scene, parameters.get("IamRoleArn"))]


def _start_copy(scene: Scene, parameters: Parameters) -> list[Check]:
    target = parameters["DestinationBackupVaultArn"]
    owner = arn_account(target) or scene.account
    parts = target.split(":", 6)
    region, name = (parts[3], parts[-1]) if len(parts) > 6 else (scene.region, "")  # noqa: PLR2004 - parts of the ARN
    values: dict[str, Value] = {
        "backup:CopyTargets": [target],
        "backup:CopyTargetOrgPaths": _org_paths(scene, owner),
    }
    return [
        _point_check(scene, parameters, "backup:StartCopyJob", values),
        # The role must be let in and out, and its job fails where it is not. Whom it is denied to may not even ask.
        Check(
            "backup:CopyFromBackupVault",
            scene.arn("backup", f"backup-vault:{parameters['SourceBackupVaultName']}"),
            values=values,
            policy=vault_policy(scene, scene.account, parameters["SourceBackupVaultName"]),
            is_free=True,
        ),
        Check(
            "backup:CopyIntoBackupVault",
            target,
            owner=owner,
            policy=vault_policy(scene, owner, name, region=region),
            is_free=True,
        ),
        *pass_role(scene, parameters.get("IamRoleArn")),
    ]


def _org_paths(scene: Scene, account: str) -> list[str] | None:
    """Return where an account stands in its organization, None where it stands in none."""
    return list(scene.tx.execute(_PATH, {"account": account, "forever": FOREVER}).scalars()) or None


def _testing_selection(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        plan = scene.arn("backup", f"restore-testing-plan:{parameters['RestoreTestingPlanName']}-*")
        role = (parameters.get("RestoreTestingSelection") or {}).get("IamRoleArn")
        return [Check(action, plan), *pass_role(scene, role)]

    return checks


def _about_frameworks(rule: Rule) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the checks of a rule, with the frameworks that a report is to be about."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        frameworks = (parameters.get("ReportSetting") or {}).get("FrameworkArns")
        values: dict[str, Value] = {"backup:FrameworkArns": frameworks or None}
        return [replace(check, values={**check.values, **values}) for check in rule.checks(scene, parameters)]

    return checks


def _lock(scene: Scene, parameters: Parameters) -> list[Check]:
    values = {
        f"backup:{name}": parameters.get(name) for name in ("ChangeableForDays", "MinRetentionDays", "MaxRetentionDays")
    }
    return [_vault_check(scene, parameters, "backup:PutBackupVaultLockConfiguration", values)]


_PLAN, _FRAMEWORK, _REPORT = (
    "backup-plan:{BackupPlanId}",
    "framework:{FrameworkName}-*",
    "report-plan:{ReportPlanName}-*",
)
_HOLD, _TESTING, _TIERING = (
    "legal-hold:{LegalHoldId}",
    "restore-testing-plan:{RestoreTestingPlanName}-*",
    "tiering-configuration:{TieringConfigurationName}-*",
)


def _rules() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for name in (
        "DescribeBackupVault",
        "GetBackupVaultAccessPolicy",
        "GetBackupVaultNotifications",
        "ListRecoveryPointsByBackupVault",
    ):
        rules[name] = reading(_on_vault(f"backup:{name}"))
    for name in (
        "DeleteBackupVault",
        "PutBackupVaultAccessPolicy",
        "DeleteBackupVaultAccessPolicy",
        "PutBackupVaultNotifications",
        "DeleteBackupVaultNotifications",
        "DeleteBackupVaultLockConfiguration",
        "DisassociateBackupVaultMpaApprovalTeam",
    ):
        rules[name] = Rule(_on_vault(f"backup:{name}"))
    rules["AssociateBackupVaultMpaApprovalTeam"] = Rule(
        _on_vault("backup:AssociateBackupVaultMpaApprovalTeam", MpaApprovalTeamArn="MpaApprovalTeamArn")
    )
    rules["CreateBackupVault"] = Rule(_create_vault)
    rules["CreateLogicallyAirGappedBackupVault"] = Rule(
        _on_vault(
            "backup:CreateLogicallyAirGappedBackupVault",
            MinRetentionDays="MinRetentionDays",
            MaxRetentionDays="MaxRetentionDays",
        )
    )
    rules["PutBackupVaultLockConfiguration"] = Rule(_lock)
    for name in ("DescribeRecoveryPoint", "GetRecoveryPointRestoreMetadata", "GetRecoveryPointIndexDetails"):
        rules[name] = reading(_on_point(f"backup:{name}"))
    for name in (
        "DeleteRecoveryPoint",
        "UpdateRecoveryPointLifecycle",
        "DisassociateRecoveryPoint",
        "DisassociateRecoveryPointFromParent",
    ):
        rules[name] = Rule(_on_point(f"backup:{name}"))
    rules["UpdateRecoveryPointIndexSettings"] = Rule(
        lambda scene, parameters: [
            _point_check(
                scene,
                parameters,
                "backup:UpdateRecoveryPointIndexSettings",
                {"backup:Index": parameters.get("Index")},
            ),
            *pass_role(scene, parameters.get("IamRoleArn")),
        ]
    )
    for name in ("GetBackupPlan", "ListBackupPlanVersions", "ListBackupSelections", "GetBackupSelection"):
        rules[name] = reading(_on(f"backup:{name}", _PLAN))
    rules["ExportBackupPlanTemplate"] = reading(_on("backup:ExportBackupPlanTemplate", _PLAN))
    rules["DeleteBackupPlan"] = Rule(_on("backup:DeleteBackupPlan", _PLAN))
    rules["DeleteBackupSelection"] = Rule(_on("backup:DeleteBackupSelection", _PLAN))
    rules["CreateBackupPlan"] = Rule(_create_plan)
    rules["UpdateBackupPlan"] = Rule(_update_plan)
    rules["CreateBackupSelection"] = Rule(_create_selection)
    for noun, template in (("Framework", _FRAMEWORK), ("ReportPlan", _REPORT), ("RestoreTestingPlan", _TESTING)):
        describe = "Get" if noun == "RestoreTestingPlan" else "Describe"
        rules[f"{describe}{noun}"] = reading(_on(f"backup:{describe}{noun}", template))
        rules[f"Create{noun}"] = Rule(_plain(f"backup:Create{noun}"))
        for verb in ("Update", "Delete"):
            rules[f"{verb}{noun}"] = Rule(_on(f"backup:{verb}{noun}", template))
    for name in ("CreateReportPlan", "UpdateReportPlan"):
        rules[name] = Rule(_about_frameworks(rules[name]))
    rules["StartReportJob"] = Rule(_on("backup:StartReportJob", _REPORT))
    for verb in ("Create", "Update"):
        rules[f"{verb}RestoreTestingSelection"] = Rule(_testing_selection(f"backup:{verb}RestoreTestingSelection"))
    rules["DeleteRestoreTestingSelection"] = Rule(_on("backup:DeleteRestoreTestingSelection", _TESTING))
    rules["GetRestoreTestingSelection"] = reading(_on("backup:GetRestoreTestingSelection", _TESTING))
    rules["ListRestoreTestingSelections"] = reading(_on("backup:ListRestoreTestingSelections", _TESTING))
    for name in ("GetLegalHold", "ListRecoveryPointsByLegalHold"):
        rules[name] = reading(_on(f"backup:{name}", _HOLD))
    rules["CancelLegalHold"] = Rule(_on("backup:CancelLegalHold", _HOLD))
    rules["CreateLegalHold"] = Rule(_plain("backup:CreateLegalHold"))
    rules["CreateTieringConfiguration"] = Rule(_plain("backup:CreateTieringConfiguration"))
    rules["GetTieringConfiguration"] = reading(_on("backup:GetTieringConfiguration", _TIERING))
    for verb in ("Update", "Delete"):
        rules[f"{verb}TieringConfiguration"] = Rule(_on(f"backup:{verb}TieringConfiguration", _TIERING))
    rules["StartBackupJob"] = Rule(_start_backup)
    rules["StartRestoreJob"] = Rule(_start_restore)
    rules["StartCopyJob"] = Rule(_start_copy)
    rules["ListTags"] = reading(_on_arn("backup:ListTags", "ResourceArn"))
    rules["TagResource"] = Rule(_on_arn("backup:TagResource", "ResourceArn"))
    rules["UntagResource"] = Rule(_on_arn("backup:UntagResource", "ResourceArn"))
    rules["DescribeProtectedResource"] = reading(_plain("backup:DescribeProtectedResource"))
    rules["ListRecoveryPointsByResource"] = reading(_plain("backup:ListRecoveryPointsByResource"))
    for name in (
        "DescribeBackupJob",
        "DescribeCopyJob",
        "DescribeGlobalSettings",
        "DescribeRegionSettings",
        "DescribeReportJob",
        "DescribeRestoreJob",
        "DescribeScanJob",
        "GetBackupPlanFromJSON",
        "GetBackupPlanFromTemplate",
        "GetRestoreJobMetadata",
        "GetRestoreTestingInferredMetadata",
        "GetSupportedResourceTypes",
        "ListBackupJobSummaries",
        "ListBackupJobs",
        "ListBackupPlanTemplates",
        "ListBackupPlans",
        "ListBackupVaults",
        "ListCopyJobSummaries",
        "ListCopyJobs",
        "ListFrameworks",
        "ListIndexedRecoveryPoints",
        "ListLegalHolds",
        "ListProtectedResources",
        "ListProtectedResourcesByBackupVault",
        "ListReportJobs",
        "ListReportPlans",
        "ListRestoreAccessBackupVaults",
        "ListRestoreJobSummaries",
        "ListRestoreJobs",
        "ListRestoreJobsByProtectedResource",
        "ListRestoreTestingPlans",
        "ListScanJobSummaries",
        "ListScanJobs",
        "ListTieringConfigurations",
    ):
        rules[name] = reading(_plain(f"backup:{name}"))
    for name in ("StopBackupJob", "PutRestoreValidationResult", "UpdateGlobalSettings", "UpdateRegionSettings"):
        rules[name] = Rule(_plain(f"backup:{name}"))
    return rules


RULES: Final[Mapping[str, Rule]] = _rules()
