"""The managed policies that come with Holdfast, under the names that AWS gave theirs.

Written from the action lists of the AWS Managed Policy Reference and the AWS Backup Developer Guide, "Managed policies
for AWS Backup", as far as the actions mean something here.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from holdfast.access.model.identity import ManagedPolicy, PolicyVersion

_SINCE = datetime(2026, 11, 1, tzinfo=UTC)
_VERSION: Final = "v1"
_PARTITION: Final = re.compile(r"\Aarn:[^:]*:")


def _document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=4)


def _allow(actions: Sequence[str], resource: str | Sequence[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


_PASS_BACKUP_ROLE = _allow(
    ["iam:PassRole"],
    ["arn:aws:iam::*:role/*AwsBackup*", "arn:aws:iam::*:role/*AWSBackup*"],
    Condition={"StringLike": {"iam:PassedToService": "backup.amazonaws.com"}},
)
_SERVICE_LINKED_ROLE = _allow(
    ["iam:CreateServiceLinkedRole"],
    Condition={
        "StringEquals": {"iam:AWSServiceName": ["backup.amazonaws.com", "restore-testing.backup.amazonaws.com"]}
    },
)
_SEE_ROLES = _allow(["iam:ListRoles", "iam:GetRole"])
_SEE_KEYS = _allow(["kms:ListKeys", "kms:DescribeKey", "kms:ListAliases"])
_SEE_ORGANIZATION = _allow(["organizations:DescribeOrganization"])
_SEE_RESOURCES = _allow(
    [
        "tag:GetTagKeys",
        "tag:GetTagValues",
        "tag:GetResources",
        "holdfast:DescribeResource",
        "holdfast:ListResources",
        "elasticfilesystem:DescribeFileSystems",
        "ec2:DescribeVolumes",
        "ec2:DescribeSnapshots",
        "rds:DescribeDBInstances",
        "rds:DescribeDBSnapshots",
        "dynamodb:ListTables",
        "dynamodb:DescribeTable",
        "storagegateway:ListVolumes",
        "s3:ListAllMyBuckets",
    ]
)
_KMS_FOR_BACKUP = _allow(
    ["kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*", "kms:DescribeKey"],
)

BACKUP_ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "EFS": ("elasticfilesystem:Backup",),
    "EBS": ("ec2:CreateSnapshot",),
    "RDS": ("rds:CreateDBSnapshot",),
    "S3": ("s3:ListBucket",),
    "DynamoDB": ("dynamodb:CreateBackup",),
    "Storage Gateway": ("storagegateway:CreateSnapshot",),
}
"""What a role must be allowed to do to a resource of a type so that a backup can be made of it."""
RESTORE_ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "EFS": ("elasticfilesystem:Restore",),
    "EBS": ("ec2:CreateVolume",),
    "RDS": ("rds:RestoreDBInstanceFromDBSnapshot",),
    "S3": ("s3:PutObject",),
    "DynamoDB": ("dynamodb:RestoreTableFromBackup",),
    "Storage Gateway": ("storagegateway:CreateStorediSCSIVolume",),
}
"""What a role must be allowed to do so that a resource of a type can be restored."""

_FOR_BACKUP = _document(
    _allow(["elasticfilesystem:Backup", "elasticfilesystem:DescribeTags", "elasticfilesystem:DescribeFileSystems"]),
    _allow(
        [
            "ec2:CreateSnapshot",
            "ec2:DeleteSnapshot",
            "ec2:CreateTags",
            "ec2:DescribeVolumes",
            "ec2:DescribeSnapshots",
            "ec2:DescribeTags",
            "ec2:CopySnapshot",
            "ec2:ModifySnapshotAttribute",
        ]
    ),
    _allow(
        [
            "rds:CreateDBSnapshot",
            "rds:CreateDBClusterSnapshot",
            "rds:DescribeDBInstances",
            "rds:DescribeDBSnapshots",
            "rds:DescribeDBClusters",
            "rds:DescribeDBClusterSnapshots",
            "rds:CopyDBSnapshot",
            "rds:DeleteDBSnapshot",
            "rds:AddTagsToResource",
            "rds:ListTagsForResource",
            "rds:ModifyDBSnapshotAttribute",
        ]
    ),
    _allow(
        [
            "dynamodb:CreateBackup",
            "dynamodb:DeleteBackup",
            "dynamodb:DescribeBackup",
            "dynamodb:DescribeTable",
            "dynamodb:ListTagsOfResource",
            "dynamodb:StartAwsBackupJob",
        ]
    ),
    _allow(
        [
            "storagegateway:CreateSnapshot",
            "storagegateway:ListTagsForResource",
            "storagegateway:DescribeCachediSCSIVolumes",
            "storagegateway:DescribeStorediSCSIVolumes",
        ]
    ),
    _allow(
        [
            "s3:GetObject",
            "s3:GetObjectTagging",
            "s3:GetObjectVersion",
            "s3:GetObjectVersionTagging",
            "s3:GetObjectAcl",
            "s3:GetObjectVersionAcl",
            "s3:GetBucketVersioning",
            "s3:GetBucketLocation",
            "s3:GetBucketTagging",
            "s3:GetBucketAcl",
            "s3:GetBucketNotification",
            "s3:PutBucketNotification",
            "s3:ListBucket",
            "s3:ListBucketVersions",
            "s3:ListAllMyBuckets",
            "s3:GetInventoryConfiguration",
            "s3:PutInventoryConfiguration",
        ]
    ),
    _allow(["backup:DescribeBackupVault", "backup:CopyIntoBackupVault", "backup:CopyFromBackupVault"]),
    _allow(["backup:TagResource", "backup:ListTags"]),
    _allow(["tag:GetResources"]),
    _KMS_FOR_BACKUP,
)
_FOR_RESTORES = _document(
    _allow(
        [
            "elasticfilesystem:Restore",
            "elasticfilesystem:CreateFilesystem",
            "elasticfilesystem:CreateFileSystem",
            "elasticfilesystem:DescribeFilesystems",
            "elasticfilesystem:DescribeFileSystems",
            "elasticfilesystem:DeleteFilesystem",
            "elasticfilesystem:TagResource",
        ]
    ),
    _allow(
        [
            "ec2:CreateVolume",
            "ec2:DeleteVolume",
            "ec2:CreateTags",
            "ec2:DescribeVolumes",
            "ec2:DescribeSnapshots",
        ]
    ),
    _allow(
        [
            "rds:RestoreDBInstanceFromDBSnapshot",
            "rds:RestoreDBInstanceToPointInTime",
            "rds:RestoreDBClusterFromSnapshot",
            "rds:DescribeDBInstances",
            "rds:DescribeDBSnapshots",
            "rds:DeleteDBInstance",
            "rds:AddTagsToResource",
            "rds:ListTagsForResource",
        ]
    ),
    _allow(
        [
            "dynamodb:RestoreTableFromBackup",
            "dynamodb:RestoreTableFromAwsBackup",
            "dynamodb:DescribeTable",
            "dynamodb:DescribeBackup",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:BatchWriteItem",
        ]
    ),
    _allow(
        [
            "storagegateway:CreateStorediSCSIVolume",
            "storagegateway:CreateCachediSCSIVolume",
            "storagegateway:DeleteVolume",
            "storagegateway:AddTagsToResource",
            "storagegateway:DescribeGatewayInformation",
            "storagegateway:ListVolumes",
        ]
    ),
    _allow(
        [
            "s3:CreateBucket",
            "s3:ListBucket",
            "s3:ListBucketVersions",
            "s3:GetBucketVersioning",
            "s3:GetBucketLocation",
            "s3:PutBucketVersioning",
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:PutObject",
            "s3:PutObjectAcl",
            "s3:PutObjectTagging",
            "s3:PutObjectVersionAcl",
            "s3:DeleteObject",
            "s3:AbortMultipartUpload",
            "s3:ListMultipartUploadParts",
        ]
    ),
    _allow(["backup:StartRestoreJob", "backup:DescribeRestoreJob"]),
    _KMS_FOR_BACKUP,
)

_BACKUP_READ = ["backup:Describe*", "backup:Get*", "backup:List*", "backup:ExportBackupPlanTemplate"]
_OPERATE = [
    *_BACKUP_READ,
    "backup:CreateBackupSelection",
    "backup:DeleteBackupSelection",
    "backup:StartBackupJob",
    "backup:StartCopyJob",
    "backup:StartRestoreJob",
    "backup:StopBackupJob",
    "backup:CreateBackupPlan",
    "backup:UpdateBackupPlan",
    "backup:TagResource",
    "backup:UntagResource",
    "backup:CreateLegalHold",
    "backup:StartReportJob",
]
_ORGANIZATION_BACKUP = _document(
    _allow(
        [
            "organizations:CreatePolicy",
            "organizations:UpdatePolicy",
            "organizations:DeletePolicy",
            "organizations:DescribePolicy",
            "organizations:DescribeEffectivePolicy",
            "organizations:ListPolicies",
            "organizations:EnablePolicyType",
            "organizations:DisablePolicyType",
        ],
        Condition={"StringLikeIfExists": {"organizations:PolicyType": "BACKUP_POLICY"}},
    ),
    _allow(
        [
            "organizations:AttachPolicy",
            "organizations:DetachPolicy",
            "organizations:ListPoliciesForTarget",
            "organizations:ListTargetsForPolicy",
        ],
        Condition={"StringLikeIfExists": {"organizations:PolicyType": "BACKUP_POLICY"}},
    ),
    _allow(
        [
            "organizations:RegisterDelegatedAdministrator",
            "organizations:DeregisterDelegatedAdministrator",
            "organizations:EnableAWSServiceAccess",
            "organizations:DisableAWSServiceAccess",
        ],
        Condition={"StringLikeIfExists": {"organizations:ServicePrincipal": "backup.amazonaws.com"}},
    ),
    _allow(
        [
            "organizations:DescribeOrganization",
            "organizations:DescribeOrganizationalUnit",
            "organizations:DescribeAccount",
            "organizations:ListRoots",
            "organizations:ListParents",
            "organizations:ListChildren",
            "organizations:ListAccounts",
            "organizations:ListAccountsForParent",
            "organizations:ListOrganizationalUnitsForParent",
            "organizations:ListAWSServiceAccessForOrganization",
            "organizations:ListDelegatedAdministrators",
            "organizations:ListDelegatedServicesForAccount",
            "organizations:ListTagsForResource",
            "organizations:TagResource",
            "organizations:UntagResource",
        ]
    ),
    _allow(
        [
            "backup:DescribeGlobalSettings",
            "backup:UpdateGlobalSettings",
            "backup:DescribeBackupJob",
            "backup:DescribeCopyJob",
            "backup:DescribeRestoreJob",
            "backup:ListBackupJobs",
            "backup:ListCopyJobs",
            "backup:ListRestoreJobs",
            "backup:ListBackupJobSummaries",
            "backup:ListCopyJobSummaries",
            "backup:ListRestoreJobSummaries",
            "backup:ListBackupPlans",
            "backup:ListBackupVaults",
        ]
    ),
)
_READ_ONLY = _document(
    _allow(
        [
            "backup:Describe*",
            "backup:Get*",
            "backup:List*",
            "backup:ExportBackupPlanTemplate",
            "holdfast:Describe*",
            "holdfast:List*",
            "holdfast:Explain*",
            "organizations:Describe*",
            "organizations:List*",
            "iam:Get*",
            "iam:List*",
            "iam:Simulate*",
            "kms:Describe*",
            "kms:Get*",
            "kms:List*",
            "sts:GetCallerIdentity",
            "sts:GetAccessKeyInfo",
            "tag:Get*",
            "cloudtrail:LookupEvents",
            "cloudtrail:Describe*",
            "cloudtrail:Get*",
            "cloudtrail:List*",
            "ec2:Describe*",
            "elasticfilesystem:Describe*",
            "rds:Describe*",
            "rds:ListTagsForResource",
            "dynamodb:Describe*",
            "dynamodb:List*",
            "storagegateway:Describe*",
            "storagegateway:List*",
            "s3:List*",
            "s3:GetBucket*",
        ]
    )
)

# Name, path, description, document.
_POLICIES: Final = (
    (
        "AdministratorAccess",
        "/",
        "Everything, on everything.",
        _document(_allow(["*"])),
    ),
    ("ReadOnlyAccess", "/", "Sees what there is, changes nothing.", _READ_ONLY),
    (
        "AWSBackupServiceRolePolicyForBackup",
        "/service-role/",
        "What a role needs so that backups can be made as it.",
        _FOR_BACKUP,
    ),
    (
        "AWSBackupServiceRolePolicyForRestores",
        "/service-role/",
        "What a role needs so that restores can be made as it.",
        _FOR_RESTORES,
    ),
    (
        "AWSBackupServiceRolePolicyForS3Backup",
        "/",
        "What a role needs so that backups of buckets can be made as it.",
        _document(_allow(["s3:Get*", "s3:List*", "s3:PutInventoryConfiguration"]), _KMS_FOR_BACKUP),
    ),
    (
        "AWSBackupServiceRolePolicyForS3Restore",
        "/",
        "What a role needs so that restores of buckets can be made as it.",
        _document(_allow(["s3:CreateBucket", "s3:Get*", "s3:List*", "s3:Put*", "s3:DeleteObject"]), _KMS_FOR_BACKUP),
    ),
    (
        "AWSBackupFullAccess",
        "/",
        "Everything with backups, for the administrator of backups.",
        _document(
            _allow(["backup:*", "backup-storage:*", "backup-search:*"]),
            _SEE_RESOURCES,
            _allow(["holdfast:PutResource", "holdfast:DeleteResource", "tag:TagResources", "tag:UntagResources"]),
            _SEE_ROLES,
            _PASS_BACKUP_ROLE,
            _SERVICE_LINKED_ROLE,
            _SEE_KEYS,
            _allow(["kms:CreateGrant"], Condition={"Bool": {"kms:GrantIsForAWSResource": True}}),
            _SEE_ORGANIZATION,
        ),
    ),
    (
        "AWSBackupOperatorAccess",
        "/",
        "Uses plans and vaults, makes backups and restores; deletes no recovery point and changes no vault.",
        _document(_allow(_OPERATE), _SEE_RESOURCES, _SEE_ROLES, _PASS_BACKUP_ROLE, _SEE_KEYS, _SEE_ORGANIZATION),
    ),
    (
        "AWSBackupOrganizationAdminAccess",
        "/",
        "Administers backup policies of an organization and watches over its backups.",
        _ORGANIZATION_BACKUP,
    ),
    (
        "AWSBackupAuditAccess",
        "/",
        "Sees everything about backups, and makes frameworks and reports.",
        _document(
            _allow([*_BACKUP_READ, "backup:*Framework*", "backup:*ReportPlan*", "backup:StartReportJob"]),
            _SEE_RESOURCES,
            _SEE_ORGANIZATION,
        ),
    ),
    ("AWSOrganizationsFullAccess", "/", "Everything with organizations.", _document(_allow(["organizations:*"]))),
    (
        "AWSOrganizationsReadOnlyAccess",
        "/",
        "Sees organizations, changes nothing.",
        _document(_allow(["organizations:Describe*", "organizations:List*"])),
    ),
    ("IAMFullAccess", "/", "Everything with identities.", _document(_allow(["iam:*", "organizations:Describe*"]))),
    (
        "IAMReadOnlyAccess",
        "/",
        "Sees identities, changes nothing.",
        _document(_allow(["iam:Get*", "iam:List*", "iam:Simulate*", "iam:GenerateCredentialReport"])),
    ),
    (
        "AWSKeyManagementServicePowerUser",
        "/",
        "Makes and describes keys; what each key may do, its own policy says.",
        _document(
            _allow(
                [
                    "kms:CreateAlias",
                    "kms:CreateKey",
                    "kms:DeleteAlias",
                    "kms:Describe*",
                    "kms:GenerateRandom",
                    "kms:Get*",
                    "kms:List*",
                    "kms:TagResource",
                    "kms:UntagResource",
                    "iam:ListGroups",
                    "iam:ListRoles",
                    "iam:ListUsers",
                ]
            )
        ),
    ),
)

_SERVICE_ROLE_POLICIES: Final = (
    (
        "AWSBackupServiceLinkedRolePolicyForBackup",
        "/aws-service-role/",
        "What Holdfast does for an account by itself: lifecycle, copies into it, continuous backups.",
        _document(_allow(["backup:*", "tag:GetResources"]), _KMS_FOR_BACKUP),
    ),
    (
        "AWSOrganizationsServiceTrustPolicy",
        "/aws-service-role/",
        "Lets an organization make the service-linked roles of the services that work across it.",
        _document(
            _allow(["iam:CreateServiceLinkedRole"]),
            _allow(["iam:DeleteRole"], "arn:aws:iam::*:role/aws-service-role/*"),
        ),
    ),
)


@cache
def _by_arn() -> dict[str, tuple[ManagedPolicy, PolicyVersion]]:
    found = {}
    for name, path, description, document in (*_POLICIES, *_SERVICE_ROLE_POLICIES):
        arn = f"arn:aws:iam::aws:policy{path}{name}"
        policy = ManagedPolicy(arn, "aws", name, "ANPA" + _id_of(name), path, description, _VERSION, 1, _SINCE, _SINCE)
        found[arn] = (policy, PolicyVersion(_VERSION, document, _SINCE))
    return found


def _id_of(name: str) -> str:
    """Return the same made-up id for the same name on every machine."""
    return base64.b32encode(hashlib.sha256(name.encode()).digest())[:17].decode("ascii")


def _canonical(arn: str) -> str:
    """Return the ARN in the partition `aws`: the policies are the same in every one."""
    return _PARTITION.sub("arn:aws:", arn)


def find_managed(arn: str) -> tuple[ManagedPolicy, PolicyVersion] | None:
    """Return a policy that comes with Holdfast and its one version."""
    return _by_arn().get(_canonical(arn))


def managed_policies() -> list[ManagedPolicy]:
    """Return every policy that comes with Holdfast, by name."""
    return sorted((policy for policy, _ in _by_arn().values()), key=lambda policy: policy.name)
