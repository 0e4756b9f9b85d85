"""What must hold for a recovery point to be copied, in order, and what would mend it.

Conditions: AWS Backup Developer Guide, "Creating backup copies across AWS accounts", "Creating a backup copy", "Vault
access policies" and "AWS Backup Vault Lock". The sentences of conditions 1, 2, 5, 6 and 8 begin as those of AWS do.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from holdfast.access.model import Decision, PolicyType, Verdict
from holdfast.job.model import Category
from holdfast.plan.model.lifecycle import NEVER
from holdfast.plan.model.plan import Lifecycle
from holdfast.vault.model import Lock, RetentionError, Vault, refuse_retention

COPY_INTO: Final = "backup:CopyIntoBackupVault"
COPY_FROM: Final = "backup:CopyFromBackupVault"
_SHARING: Final = ("kms:Decrypt", "kms:DescribeKey")


class Condition(StrEnum):
    """What must hold, in the order in which it is looked at: AWS's eight conditions, and two that go without saying."""

    ROLE_USABLE = "ROLE_USABLE"
    """The role is there, of the source account, and trusts the backup service."""
    SAME_ORGANIZATION = "SAME_ORGANIZATION"
    FEATURE_ENABLED = "FEATURE_ENABLED"
    TARGET_EXISTS = "TARGET_EXISTS"
    """Asked only then, so that nobody learns what vaults there are outside of the organization."""
    TARGET_ALLOWS = "TARGET_ALLOWS"
    SOURCE_ALLOWS = "SOURCE_ALLOWS"
    TARGET_KEY = "TARGET_KEY"
    SOURCE_KEY = "SOURCE_KEY"
    WARM = "WARM"
    RETENTION = "RETENTION"

    @property
    def number(self) -> int | None:
        """Its place among the eight, from 1; None for one that is not among them."""
        eight = [each for each in Condition if each not in {Condition.ROLE_USABLE, Condition.TARGET_EXISTS}]
        return eight.index(self) + 1 if self in eight else None


@dataclass(frozen=True, slots=True)
class KeySharing:
    """How the key of a recovery point bears on a copy of it into another account."""

    arn: str
    is_managed: bool
    """Whether it is the service's own key, which is never shared."""
    use: Decision
    """Whether the other account may decrypt by it."""


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """All that the conditions look at."""

    source_account: str
    source_organization: str | None
    target_organization: str | None
    management_account: str | None
    """Of the source account's organization."""
    is_enabled: bool
    """Whether that account has switched copies between accounts on."""
    role_arn: str
    source_vault_arn: str
    target_account: str
    target_arn: str
    target: Vault | None
    """None where there is no such vault."""
    into: Decision
    """Whether the role may copy into the target vault."""
    out_of: Decision
    """Whether the role may copy out of the vault that the point lies in."""
    target_key_is_managed: bool
    source_key: KeySharing | None
    """None where it does not matter: the resource's type is fully managed by AWS Backup."""
    is_cold: bool
    delete_after_days: int | None
    """How long the copy would be kept; None is for ever."""

    @property
    def crosses_accounts(self) -> bool:
        """Whether the copy goes into another account."""
        return self.source_account != self.target_account


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would make a condition hold."""

    words: str
    statement: Mapping[str, Any] | None = None
    """A policy statement to add, where one is missing."""
    place: str | None = None
    """The ARN of what the statement belongs to: the vault, the key or the role."""

    @property
    def document(self) -> str | None:
        """The statement as JSON."""
        return None if self.statement is None else json.dumps(self.statement, indent=2)


@dataclass(frozen=True, slots=True)
class Unmet:
    """A condition that does not hold."""

    condition: Condition
    sentence: str
    category: Category
    remedy: Remedy

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy.words}"


def copy_lifecycle(wanted: Lifecycle, source: Lifecycle) -> Lifecycle:
    """Return the lifecycle of a copy: one that says no end, or -1, ends as the point that is copied."""
    if wanted.delete_after_days is not None and wanted.delete_after_days != NEVER:
        return wanted
    return Lifecycle(
        source.cold_after_days if wanted.cold_after_days is None else wanted.cold_after_days,
        source.delete_after_days,
        source.archive if wanted.archive is None else wanted.archive,
    )


def role_refused(lacking: Sequence[str]) -> Unmet | None:
    """Return what a role lacks, if anything; without one that can be used no other condition can be looked at."""
    if not lacking:
        return None
    return Unmet(
        Condition.ROLE_USABLE, "; ".join(lacking) + ".", Category.ACCESS_DENIED, Remedy("Mend the role first.")
    )


_CLOSING: Final = (Condition.ROLE_USABLE, Condition.SAME_ORGANIZATION, Condition.TARGET_EXISTS)
"""Where one of these does not hold, nothing after it is looked at: there is nothing to ask, or nobody may know."""


def conditions_looked_at(broken: Sequence[Unmet]) -> tuple[Condition, ...]:
    """Return the conditions that were looked at when these turned out not to hold."""
    order, names = tuple(Condition), {each.condition for each in broken}
    closing = next((each for each in _CLOSING if each in names), None)
    return order if closing is None else order[: order.index(closing) + 1]


def unmet(facts: CopyFacts) -> tuple[Unmet, ...]:
    """Return the conditions that do not hold, in their order; a job fails with the first."""
    between = (_same_organization, _feature_enabled)
    keys = (_target_key, _source_key)
    checks = (
        *(between if facts.crosses_accounts else ()),
        _target_exists,
        _target_allows,
        _source_allows,
        *(keys if facts.crosses_accounts else ()),
        _warm,
        _retention,
    )
    broken = tuple(found for check in checks if (found := check(facts)) is not None)
    looked_at = conditions_looked_at(broken)
    return tuple(each for each in broken if each.condition in looked_at)


def _same_organization(facts: CopyFacts) -> Unmet | None:
    if facts.source_organization is not None and facts.source_organization == facts.target_organization:
        return None
    return Unmet(
        Condition.SAME_ORGANIZATION,
        "Copy job failed. Both source and destination account must be a member of the same organization.",
        Category.ACCESS_DENIED,
        Remedy(f"Account {facts.source_account} and account {facts.target_account} are not: invite the missing one."),
    )


def _feature_enabled(facts: CopyFacts) -> Unmet | None:
    if facts.is_enabled:
        return None
    return Unmet(
        Condition.FEATURE_ENABLED,
        "Copy job failed. Cross-account copy feature is not enabled for the current organization.",
        Category.FEATURE_NOT_ENABLED,
        Remedy(
            f"The management account {facts.management_account} switches it on: UpdateGlobalSettings with "
            "isCrossAccountBackupEnabled=true."
        ),
    )


def _target_exists(facts: CopyFacts) -> Unmet | None:
    if facts.target is not None:
        return None
    return Unmet(
        Condition.TARGET_EXISTS,
        f"Copy job failed. Backup vault {facts.target_arn} does not exist.",
        Category.RESOURCE_NOT_FOUND,
        Remedy(f"Create it in account {facts.target_account}, or name another."),
    )


def _target_allows(facts: CopyFacts) -> Unmet | None:
    return None if facts.into.allowed else _refused(Condition.TARGET_ALLOWS, facts, facts.into, facts.target_arn)


def _source_allows(facts: CopyFacts) -> Unmet | None:
    reason = facts.out_of.reason
    # Nothing has to allow it, but nothing may deny it: where control policies allow only what they name, that is one.
    needless = reason.verdict is Verdict.IMPLICIT_DENY and reason.policy_type is PolicyType.IDENTITY
    if facts.out_of.allowed or needless:
        return None
    return _refused(Condition.SOURCE_ALLOWS, facts, facts.out_of, facts.source_vault_arn)


def _refused(condition: Condition, facts: CopyFacts, decision: Decision, vault_arn: str) -> Unmet:
    sentence = (
        f"Access Denied trying to call AWS Backup service. The role {facts.role_arn} may not do {decision.action} on "
        f"{vault_arn}: {decision.reason}."
    )
    return Unmet(condition, sentence, Category.ACCESS_DENIED, _leave(facts, decision, vault_arn))


def _leave(facts: CopyFacts, decision: Decision, vault_arn: str) -> Remedy:
    reason = decision.reason
    where = f" at {reason.node}" if reason.node else ""
    allow = {"Effect": "Allow", "Action": decision.action}
    if reason.verdict is Verdict.EXPLICIT_DENY:
        return Remedy(f"Change statement {reason.statement} of the {reason.policy_type} {reason.policy}{where}.")
    if reason.policy_type is PolicyType.RESOURCE:
        partition = facts.role_arn.split(":")[1]
        principal = {"AWS": f"arn:{partition}:iam::{facts.source_account}:root"}
        return Remedy(
            f"Let account {facts.source_account} do it in the access policy of the vault.",
            {**allow, "Principal": principal, "Resource": "*"},
            vault_arn,
        )
    if reason.policy_type is PolicyType.IDENTITY:
        return Remedy("Let the role do it in one of its policies.", {**allow, "Resource": vault_arn}, facts.role_arn)
    return Remedy(f"Let a {reason.policy_type}{where} allow it.", {**allow, "Resource": vault_arn})


def _target_key(facts: CopyFacts) -> Unmet | None:
    if not facts.target_key_is_managed:
        return None
    return Unmet(
        Condition.TARGET_KEY,
        "Copy job failed because the destination Backup vault is encrypted with the default Backup service managed "
        "key. The contents of this vault cannot be copied. Only the contents of a Backup vault encrypted by an AWS "
        "KMS key may be copied.",
        Category.ACCESS_DENIED,
        Remedy(f"Create another vault in account {facts.target_account} with a key of its own; a vault keeps its key."),
    )


def _source_key(facts: CopyFacts) -> Unmet | None:
    key = facts.source_key
    if key is None or (key.use.allowed and not key.is_managed):
        return None
    if key.is_managed:
        return Unmet(
            Condition.SOURCE_KEY,
            "Snapshots encrypted with the AWS managed key can't be shared. Specify another snapshot.",
            Category.KMS_KEY_ERROR,
            Remedy("Back the resource up into a vault with a key of its own, and copy from there."),
        )
    partition = key.arn.split(":")[1]
    return Unmet(
        Condition.SOURCE_KEY,
        f"Copy job failed. The recovery point's key {key.arn} is not shared with account {facts.target_account}: "
        f"{key.use.reason}.",
        Category.KMS_KEY_ERROR,
        Remedy(
            f"Let account {facts.target_account} use it in the key's policy.",
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition}:iam::{facts.target_account}:root"},
                "Action": list(_SHARING),
                "Resource": "*",
            },
            key.arn,
        ),
    )


def _warm(facts: CopyFacts) -> Unmet | None:
    if not facts.is_cold:
        return None
    return Unmet(
        Condition.WARM,
        "Copy job failed. The recovery point is in cold storage, and those cannot be copied.",
        Category.INVALID_STATE,
        Remedy("Copy one that is still warm."),
    )


def _retention(facts: CopyFacts) -> Unmet | None:
    if facts.target is None:
        return None
    lock = facts.target.lock or Lock()
    try:
        refuse_retention(facts.target.name, lock, facts.delete_after_days)
    except RetentionError:
        least = 1 if lock.min_retention_days is None else lock.min_retention_days
        most = "" if lock.max_retention_days is None else f" and at most {lock.max_retention_days}"
        kept = "for ever" if facts.delete_after_days is None else f"for {facts.delete_after_days} days"
        return Unmet(
            Condition.RETENTION,
            "Copy job failed. The retention specified in the job is not within the range specified for the target "
            "Backup Vault.",
            Category.INVALID_LIFECYCLE,
            Remedy(
                f"{facts.target.name} takes what is kept for at least {least} days{most}, and this copy would be kept "
                f"{kept}: give it a lifecycle of its own."
            ),
        )
    return None


def where_copy_lies(source: str, target: str) -> str:
    """Return what a copy job says of the fault domains of the point and the copy: those in one are lost together."""
    if source == target:
        return f"Copied within fault domain {source}: what destroys the recovery point may destroy the copy with it."
    return f"Copied from fault domain {source} to fault domain {target}."
