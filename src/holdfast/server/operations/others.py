"""What the operations of the smaller services ask for: Holdfast's own, and tags across services."""

from collections.abc import Callable, Mapping
from typing import Final

from holdfast.server.operations.backup import vault_policy
from holdfast.server.operations.scene import Check, Parameters, Rule, Scene, arn_account, on_everything, reading

_TAG: Final = {
    "backup": ("backup:TagResource", "backup:UntagResource"),
    "dynamodb": ("dynamodb:TagResource", "dynamodb:UntagResource"),
    "ec2": ("ec2:CreateTags", "ec2:DeleteTags"),
    "elasticfilesystem": ("elasticfilesystem:TagResource", "elasticfilesystem:UntagResource"),
    "iam": ("iam:TagRole", "iam:UntagRole"),
    "kms": ("kms:TagResource", "kms:UntagResource"),
    "rds": ("rds:AddTagsToResource", "rds:RemoveTagsFromResource"),
    "s3": ("s3:PutBucketTagging", "s3:PutBucketTagging"),
    "storagegateway": ("storagegateway:AddTagsToResource", "storagegateway:RemoveTagsFromResource"),
}
_READING: Final = ("Describe", "List", "Explain", "Preview", "Get", "WhoCan", "Simulate", "Assess")


def _tagging(action: str, *, removing: bool) -> Callable[[Scene, Parameters], list[Check]]:
    """Tagging through one door asks for what the service of each resource asks for, too."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        found = [Check(action)]
        for arn in parameters["ResourceARNList"]:
            actions = _TAG.get(arn.split(":", 3)[2] if arn.count(":") > 2 else "")  # noqa: PLR2004 - parts of the ARN
            if actions is not None:
                found.append(Check(actions[removing], arn, owner=arn_account(arn) or scene.account))
        return found

    return checks


CLOUDTRAIL_RULES: Final[Mapping[str, Rule]] = {"LookupEvents": reading(on_everything("cloudtrail:LookupEvents"))}
TAGGING_RULES: Final[Mapping[str, Rule]] = {
    "GetResources": reading(on_everything("tag:GetResources")),
    "GetTagKeys": reading(on_everything("tag:GetTagKeys")),
    "GetTagValues": reading(on_everything("tag:GetTagValues")),
    "GetComplianceSummary": reading(on_everything("tag:GetComplianceSummary")),
    "TagResources": Rule(_tagging("tag:TagResources", removing=False)),
    "UntagResources": Rule(_tagging("tag:UntagResources", removing=True)),
}


def _named(action: str, kind: str, member: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the check of an action on one of Holdfast's own objects, by its name or ARN."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        name = parameters.get(member)
        if name is None:
            return [Check(action)]
        if name.startswith("arn:"):
            return [Check(action, name, owner=arn_account(name) or scene.account)]
        return [Check(action, scene.arn("holdfast", f"{kind}/{name}"))]

    return checks


_OBJECTS: Final = (
    ("Resource", "resource", "ResourceArn"),
    ("SiteGrant", "site-grant", "Name"),
    ("Secret", "secret", "Name"),
    ("EventRoute", "event-route", "Name"),
    ("Storage", "storage", "Name"),
)


def _on_backup_vault(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the check of one of Holdfast's own actions on a vault of AWS Backup, in the caller's account."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        name = parameters["BackupVaultName"]
        return [
            Check(action, scene.arn("backup", f"backup-vault:{name}"), policy=vault_policy(scene, scene.account, name))
        ]

    return checks


def _holdfast_rules() -> dict[str, Rule]:
    rules = {}
    for noun, kind, member in _OBJECTS:
        for verb in ("Describe",) if noun == "Storage" else ("Put", "Describe", "Delete"):
            name = f"{verb}{noun}"
            rules[name] = Rule(_named(f"holdfast:{name}", kind, member), changing=not name.startswith(_READING))
        rules[f"List{noun}s"] = reading(on_everything(f"holdfast:List{noun}s"))
    for name in (
        "DescribeAccount",
        "DescribeDeletionGuard",
        "DescribeIncident",
        "ExplainAccess",
        "ExplainEffectivePolicy",
        "GetOrganizationTree",
        "LintPolicy",
        "ListAccounts",
        "ListDeadLetters",
        "ListDeletedRecoveryPoints",
        "ListIncidents",
        "ListJobProblems",
        "ListPolicyDistribution",
        "ListRecoveryPointsByKey",
        "ListStorages",
        "PreflightCopy",
        "PreviewPolicyChange",
        "SearchAuditTrail",
        "SearchJobs",
        "TestSelection",
        "WhoCan",
    ):
        rules[name] = reading(on_everything(f"holdfast:{name}"))
    rules["UndeleteRecoveryPoint"] = Rule(
        _named("holdfast:UndeleteRecoveryPoint", "recovery-point", "RecoveryPointArn")
    )
    rules["SetVaultDeletionDelay"] = Rule(_on_backup_vault("holdfast:SetVaultDeletionDelay"))
    rules["DescribeVaultDeletionDelay"] = reading(_on_backup_vault("holdfast:DescribeVaultDeletionDelay"))
    for name in ("ConfirmEventRoute", "RedeliverDeadLetters", "SendTestEvent"):
        rules[name] = Rule(_named(f"holdfast:{name}", "event-route", "Name"))
    for name in ("AcknowledgeIncident", "ImportAccount", "ReleaseDeletion", "UpdateAccountNames"):
        rules[name] = Rule(on_everything(f"holdfast:{name}"))
    return rules


HOLDFAST_RULES: Final[Mapping[str, Rule]] = _holdfast_rules()
