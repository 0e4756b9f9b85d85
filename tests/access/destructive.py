"""Every call that takes something away, or takes away what guards it: how each is tried, on what.

A new operation that changes something gets a line here, or a reason why not: `test_destructive.py` looks.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.access.conftest import MEMBER, NOW, REGION, ROOT_KEY, World
from tests.vault.builders import made

from holdfast.core.ids import new_uuid
from holdfast.recovery.service import catalogue_point, record_point
from holdfast.vault import repositories, store
from holdfast.vault.custody import Custody

TEAM: Final = {"team": "red"}
_PAIRS: Final = [{"Key": "team", "Value": "red"}]


@dataclass(frozen=True)
class Trial:
    """One call to be tried: what it is about, and with what it is made."""

    resource: str
    """The ARN that WhoCan is asked about."""
    given: Mapping[str, Any]


class Ground:
    """What of the member's is there to be destroyed; made by its root, tagged where that can be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._number = 0
        self.custody = Custody(world.instance.settings, ROOT_KEY)
        self._kept: dict[str, Any] = {}

    def root(self, service: str) -> Any:
        """A client of the member's root."""
        return self.world.client(service, MEMBER)

    def name(self, what: str) -> str:
        """A name that nothing has yet."""
        self._number += 1
        return f"{what}-{self._number}"

    def once(self, what: str, make: Callable[[], Any]) -> Any:
        """What was made once for all trials."""
        if what not in self._kept:
            self._kept[what] = make()
        return self._kept[what]

    def vault(self) -> str:
        """The name of a new vault."""
        name = self.name("vault")
        self.root("backup").create_backup_vault(BackupVaultName=name, BackupVaultTags=TEAM)
        return name

    def full_vault(self) -> str:
        """The name of the vault that points are in."""
        return str(self.once("vault", self.vault))

    def point(self) -> str:
        """The ARN of a new recovery point, tagged, in the vault that points are in."""
        database, custody = self.world.database, self.custody
        with database.transaction() as tx:
            vault = store.find_vault(tx, account=MEMBER, region=REGION, name=self.full_vault())
            assert vault is not None
            row = repositories.repository_for(tx, custody, vault, MEMBER, now=NOW)
        recorded = record_point(
            database, custody, made(vault, row, created_at=NOW, completed_at=NOW, tags=TEAM), now=NOW
        )
        with database.transaction() as tx:
            return catalogue_point(tx, recorded).arn

    def key(self) -> dict[str, str]:
        """A new key."""
        made_: dict[str, str] = self.root("kms").create_key(Tags=[{"TagKey": "team", "TagValue": "red"}])["KeyMetadata"]
        return made_

    def alias(self) -> dict[str, str]:
        """A new alias, and the key that it is of."""
        key, alias = self.key(), f"alias/{self.name('alias')}"
        self.root("kms").create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
        return {"AliasName": alias, "AliasArn": f"arn:aws:kms:{REGION}:{MEMBER}:{alias}", "KeyId": key["KeyId"]}


Make = Callable[[Ground], Trial]


@dataclass(frozen=True)
class Destructive:
    """One line: a call and how a trial of it is laid out."""

    service: str
    operation: str
    make: Make
    action: str = ""
    """The action that is asked for; the operation's own by default."""
    lasts: bool = True
    """Whether the same trial can be made again after it has succeeded."""

    @property
    def asks_for(self) -> str:
        """The action."""
        return self.action or f"{self.service}:{self.operation}"


def _vault_arn(name: str) -> str:
    return f"arn:aws:backup:{REGION}:{MEMBER}:backup-vault:{name}"


def on_vault(**given: Any) -> Make:
    """A trial on a vault of its own."""

    def make(ground: Ground) -> Trial:
        name = ground.vault()
        return Trial(_vault_arn(name), {"BackupVaultName": name, **given})

    return make


def on_point(**given: Any) -> Make:
    """A trial on a recovery point of its own."""

    def make(ground: Ground) -> Trial:
        point = ground.point()
        return Trial(point, {"BackupVaultName": ground.full_vault(), "RecoveryPointArn": point, **given})

    return make


def on_plan(**given: Any) -> Make:
    """A trial on a plan of its own."""

    def make(ground: Ground) -> Trial:
        body = {**_PLAN, "BackupPlanName": ground.name("plan")}
        plan = ground.root("backup").create_backup_plan(BackupPlan=body, BackupPlanTags=TEAM)
        return Trial(plan["BackupPlanArn"], {"BackupPlanId": plan["BackupPlanId"], **given})

    return make


def _tagged_vault(ground: Ground) -> Trial:
    arn = _vault_arn(ground.vault())
    return Trial(arn, {"ResourceArn": arn, "TagKeyList": ["x"]})


def _hold(ground: Ground) -> Trial:
    made_ = ground.root("backup").create_legal_hold(Title=ground.name("hold"), Description="d", Tags=TEAM)
    return Trial(made_["LegalHoldArn"], {"LegalHoldId": made_["LegalHoldId"], "CancelDescription": "over"})


def on_everything(**given: Any) -> Make:
    """A trial that names no resource."""
    return lambda _ground: Trial("*", given)


def on_key(**given: Any) -> Make:
    """A trial on a key of its own, by its ARN, which other accounts can name too."""

    def make(ground: Ground) -> Trial:
        key = ground.key()
        return Trial(key["Arn"], {"KeyId": key["Arn"], **given})

    return make


def _alias(ground: Ground) -> Trial:
    alias = ground.alias()
    return Trial(alias["AliasArn"], {"AliasName": alias["AliasName"]})


def _moved_alias(ground: Ground) -> Trial:
    alias = ground.alias()
    return Trial(alias["AliasArn"], {"AliasName": alias["AliasName"], "TargetKeyId": alias["KeyId"]})


def on_object(kind: str, member: str = "Name", **given: Any) -> Make:
    """A trial on one of Holdfast's own objects, which need not be there."""
    name = f"{kind}-1"
    return lambda _ground: Trial(f"arn:aws:holdfast:{REGION}:{MEMBER}:{kind}/{name}", {member: name, **given})


def on_user(**given: Any) -> Make:
    """A trial on a user who has a group, a policy, a key, a password and a second factor, so that they stay."""

    def make(ground: Ground) -> Trial:
        iam = ground.root("iam")

        def lay() -> str:
            arn = iam.create_user(UserName="victim", Path="/kept/", Tags=_PAIRS)["User"]["Arn"]
            iam.attach_user_policy(UserName="victim", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
            return str(arn)

        return Trial(ground.once("user", lay), {"UserName": "victim", **given})

    return make


def on_group(**given: Any) -> Make:
    """A trial on a group that has a policy, so that it stays."""

    def make(ground: Ground) -> Trial:
        iam = ground.root("iam")

        def lay() -> str:
            arn = iam.create_group(GroupName="victims")["Group"]["Arn"]
            iam.attach_group_policy(GroupName="victims", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
            return str(arn)

        return Trial(ground.once("group", lay), {"GroupName": "victims", **given})

    return make


def on_role(**given: Any) -> Make:
    """A trial on a role that has a policy, so that it stays."""

    def make(ground: Ground) -> Trial:
        iam = ground.root("iam")

        def lay() -> str:
            arn = iam.create_role(RoleName="victim", AssumeRolePolicyDocument=_TRUST, Tags=_PAIRS)["Role"]["Arn"]
            iam.attach_role_policy(RoleName="victim", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
            return str(arn)

        return Trial(ground.once("role", lay), {"RoleName": "victim", **given})

    return make


_DOCUMENT = '{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}}'
_TRUST = (
    '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", '
    '"Principal": {"Service": "backup.amazonaws.com"}}}'
)


def on_policy(**given: Any) -> Make:
    """A trial on a managed policy that a group has, so that it stays."""

    def make(ground: Ground) -> Trial:
        iam = ground.root("iam")

        def lay() -> str:
            arn = iam.create_policy(PolicyName="victim", PolicyDocument=_DOCUMENT, Tags=_PAIRS)["Policy"]["Arn"]
            iam.create_group(GroupName="holders")
            iam.attach_group_policy(GroupName="holders", PolicyArn=arn)
            return str(arn)

        return Trial(ground.once("policy", lay), {"PolicyArn": ground.once("policy", lay), **given})

    return make


def on_device(**given: Any) -> Make:
    """A trial on a virtual MFA device."""

    def make(ground: Ground) -> Trial:
        made_ = ground.root("iam").create_virtual_mfa_device(VirtualMFADeviceName=ground.name("phone"), Tags=_PAIRS)
        serial = made_["VirtualMFADevice"]["SerialNumber"]
        return Trial(serial, {"SerialNumber": serial, **given})

    return make


def on_provider(**given: Any) -> Make:
    """A trial on an identity provider."""

    def make(ground: Ground) -> Trial:
        url = f"https://{ground.name('login')}.example.com"
        arn = ground.root("iam").create_open_id_connect_provider(Url=url, Tags=_PAIRS)["OpenIDConnectProviderArn"]
        return Trial(arn, {"OpenIDConnectProviderArn": arn, **given})

    return make


_VAULT_POLICY = (
    '{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "backup:StartCopyJob", '
    '"Resource": "*"}}'
)
_KEY_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Principal": {"AWS": MEMBER}, "Action": "kms:*", "Resource": "*"},
    }
)
_CODES: Final = {"AuthenticationCode1": "000000", "AuthenticationCode2": "000001"}
_SERIAL: Final = {"SerialNumber": f"arn:aws:iam::{MEMBER}:mfa/none"}
_INLINE: Final = {"PolicyName": "none"}
_ATTACHED: Final = {"PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess"}

_PLAN: Final = {
    "BackupPlanName": "changed",
    "Rules": [{"RuleName": "never", "TargetBackupVaultName": "elsewhere"}],
}

TABLE: Final = (
    Destructive("backup", "CancelLegalHold", _hold, lasts=False),
    Destructive("backup", "DeleteBackupPlan", on_plan(), lasts=False),
    Destructive("backup", "DeleteBackupSelection", on_plan(SelectionId=new_uuid())),
    Destructive("backup", "DeleteBackupVault", on_vault(), lasts=False),
    Destructive("backup", "DeleteBackupVaultAccessPolicy", on_vault()),
    Destructive("backup", "DeleteBackupVaultLockConfiguration", on_vault()),
    Destructive("backup", "DeleteBackupVaultNotifications", on_vault()),
    Destructive("backup", "DeleteRecoveryPoint", on_point(), lasts=False),
    Destructive("backup", "DisassociateRecoveryPoint", on_point()),
    Destructive("backup", "DisassociateRecoveryPointFromParent", on_point()),
    Destructive("backup", "PutBackupVaultAccessPolicy", on_vault(Policy=_VAULT_POLICY)),
    Destructive("backup", "PutBackupVaultLockConfiguration", on_vault(MinRetentionDays=1)),
    Destructive(
        "backup",
        "PutBackupVaultNotifications",
        on_vault(SNSTopicArn=f"arn:aws:sns:{REGION}:{MEMBER}:topic", BackupVaultEvents=["BACKUP_JOB_FAILED"]),
    ),
    Destructive("holdfast", "SetVaultDeletionDelay", on_vault(Days=8)),
    Destructive(
        "backup",
        "PutRestoreValidationResult",
        on_everything(RestoreJobId=new_uuid(), ValidationStatus="FAILED"),
    ),
    Destructive("backup", "StopBackupJob", on_everything(BackupJobId=new_uuid())),
    Destructive("backup", "UntagResource", _tagged_vault),
    Destructive("backup", "UpdateBackupPlan", on_plan(BackupPlan=_PLAN)),
    Destructive("backup", "UpdateGlobalSettings", on_everything(GlobalSettings={})),
    Destructive("backup", "UpdateRecoveryPointLifecycle", on_point(Lifecycle={"DeleteAfterDays": 500})),
    Destructive("backup", "UpdateRegionSettings", on_everything(ResourceTypeOptInPreference={"EFS": True})),
    Destructive("holdfast", "AcknowledgeIncident", on_everything(IncidentId=new_uuid())),
    Destructive("holdfast", "DeleteSecret", on_object("secret")),
    Destructive("holdfast", "DeleteEventRoute", on_object("event-route")),
    Destructive("holdfast", "PutEventRoute", on_object("event-route", Url="https://events.example/")),
    Destructive("holdfast", "ConfirmEventRoute", on_object("event-route", Token="t")),
    Destructive("holdfast", "SendTestEvent", on_object("event-route")),
    Destructive("holdfast", "RedeliverDeadLetters", on_object("event-route")),
    Destructive("holdfast", "PutSecret", on_object("secret", Value="s", Scheme="postgresql", Host="db.example")),
    Destructive("iam", "DeactivateMFADevice", on_user(**_SERIAL)),
    Destructive("iam", "DeleteAccessKey", on_user(AccessKeyId="AKIA0000000000000000")),
    Destructive("iam", "DeleteAccountAlias", on_everything(AccountAlias="none")),
    Destructive("iam", "DeleteAccountPasswordPolicy", on_everything()),
    Destructive("iam", "DeleteGroup", on_group()),
    Destructive("iam", "DeleteGroupPolicy", on_group(**_INLINE)),
    Destructive("iam", "DeleteLoginProfile", on_user()),
    Destructive("iam", "DeleteOpenIDConnectProvider", on_provider(), lasts=False),
    Destructive("iam", "DeletePolicy", on_policy()),
    Destructive("iam", "DeletePolicyVersion", on_policy(VersionId="v9")),
    Destructive("iam", "DeleteRole", on_role()),
    Destructive("iam", "DeleteRolePermissionsBoundary", on_role()),
    Destructive("iam", "DeleteRolePolicy", on_role(**_INLINE)),
    Destructive("iam", "DeleteServiceLinkedRole", on_role()),
    Destructive("iam", "DeleteUser", on_user()),
    Destructive("iam", "DeleteUserPermissionsBoundary", on_user()),
    Destructive("iam", "DeleteUserPolicy", on_user(**_INLINE)),
    Destructive("iam", "DeleteVirtualMFADevice", on_device(), lasts=False),
    Destructive("iam", "DetachGroupPolicy", on_group(**_ATTACHED)),
    Destructive("iam", "DetachRolePolicy", on_role(**_ATTACHED)),
    Destructive("iam", "DetachUserPolicy", on_user(**_ATTACHED)),
    Destructive("iam", "PutGroupPolicy", on_group(**_INLINE, PolicyDocument=_DOCUMENT)),
    Destructive("iam", "PutRolePermissionsBoundary", on_role(PermissionsBoundary="arn:aws:iam::aws:policy/None")),
    Destructive("iam", "PutRolePolicy", on_role(**_INLINE, PolicyDocument=_DOCUMENT)),
    Destructive("iam", "PutUserPermissionsBoundary", on_user(PermissionsBoundary="arn:aws:iam::aws:policy/None")),
    Destructive("iam", "PutUserPolicy", on_user(**_INLINE, PolicyDocument=_DOCUMENT)),
    Destructive("iam", "RemoveClientIDFromOpenIDConnectProvider", on_provider(ClientID="none")),
    Destructive("iam", "RemoveUserFromGroup", on_group(UserName="nobody")),
    Destructive("iam", "ResyncMFADevice", on_user(**_SERIAL, **_CODES)),
    Destructive("iam", "SetDefaultPolicyVersion", on_policy(VersionId="v9")),
    Destructive("iam", "UntagMFADevice", on_device(TagKeys=["x"])),
    Destructive("iam", "UntagOpenIDConnectProvider", on_provider(TagKeys=["x"])),
    Destructive("iam", "UntagPolicy", on_policy(TagKeys=["x"])),
    Destructive("iam", "UntagRole", on_role(TagKeys=["x"])),
    Destructive("iam", "UntagUser", on_user(TagKeys=["x"])),
    Destructive("iam", "UpdateAccessKey", on_user(AccessKeyId="AKIA0000000000000000", Status="Inactive")),
    Destructive("iam", "UpdateAccountPasswordPolicy", on_everything(MinimumPasswordLength=6)),
    Destructive("iam", "UpdateAssumeRolePolicy", on_role(PolicyDocument=_TRUST)),
    Destructive("iam", "UpdateLoginProfile", on_user(PasswordResetRequired=True)),
    Destructive("iam", "UpdateOpenIDConnectProviderThumbprint", on_provider(ThumbprintList=["a" * 40])),
    Destructive("iam", "UpdateRole", on_role(Description="changed")),
    Destructive("iam", "UpdateRoleDescription", on_role(Description="changed")),
    Destructive("kms", "CancelKeyDeletion", on_key()),
    Destructive("kms", "DeleteAlias", _alias, lasts=False),
    Destructive("kms", "DisableKey", on_key()),
    Destructive("kms", "DisableKeyRotation", on_key()),
    Destructive("kms", "PutKeyPolicy", on_key(Policy=_KEY_POLICY)),
    Destructive("kms", "RotateKeyOnDemand", on_key(), lasts=False),
    Destructive("kms", "ScheduleKeyDeletion", on_key(PendingWindowInDays=7), lasts=False),
    Destructive("kms", "UntagResource", on_key(TagKeys=["x"])),
    Destructive("kms", "UpdateAlias", _moved_alias),
    Destructive("kms", "UpdateKeyDescription", on_key(Description="changed")),
)

ADDS: Final = ("Accept", "Add", "Assume", "Attach", "Create", "Enable", "Get", "Import", "Invite", "Start", "Tag")
"""Operations whose names begin so add something, and take nothing away."""

EXCEPTIONS: Final[Mapping[tuple[str, str], str]] = {
    **{
        ("organizations", name): "the organization itself decides whom it hears, by who manages it: "
        "tests/organization/test_authority.py tries every operation with every kind of account"
        for name in (
            "CancelHandshake",
            "CloseAccount",
            "DeclineHandshake",
            "DeleteOrganization",
            "DeleteOrganizationalUnit",
            "DeletePolicy",
            "DeleteResourcePolicy",
            "DeregisterDelegatedAdministrator",
            "DetachPolicy",
            "DisableAWSServiceAccess",
            "DisablePolicyType",
            "LeaveOrganization",
            "MoveAccount",
            "PutResourcePolicy",
            "RegisterDelegatedAdministrator",
            "RemoveAccountFromOrganization",
            "UntagResource",
            "UpdateOrganizationalUnit",
            "UpdatePolicy",
        )
    },
    **{
        (
            "kms",
            name,
        ): "it takes a right of somebody's back and destroys nothing; who may retire a grant is in the grant: "
        "tests/key/test_grants.py tries it"
        for name in ("RetireGrant", "RevokeGrant")
    },
    ("holdfast", "PutSiteGrant"): "the handler lets the management account only",
    ("holdfast", "DeleteSiteGrant"): "the handler lets the management account only",
    ("holdfast", "UpdateAccountNames"): "the handler lets the management account only",
    ("holdfast", "PutResource"): "names its resource by what it is, not by the ARN that it gives it",
    ("holdfast", "ReleaseDeletion"): "the handler lets the account that runs the installation only",
    ("holdfast", "UndeleteRecoveryPoint"): "brings back what was deleted, and takes nothing away",
    ("holdfast", "DeleteResource"): "forgets a resource, whose recovery points stay",
    ("iam", "ChangePassword"): "a user's own password, for which the old one is needed",
    (
        "resourcegroupstaggingapi",
        "UntagResources",
    ): "asks for what the resource's own service asks for",
}
