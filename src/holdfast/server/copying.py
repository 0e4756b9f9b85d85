"""Whether a recovery point may be copied into a vault: the facts of the conditions gathered, and the answer served."""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from holdfast.access.backup_role import missing_rights
from holdfast.access.model import Decision
from holdfast.assessment.settings import fully_managed_types, is_cross_account_enabled
from holdfast.core.arn import Arn
from holdfast.core.errors import InvalidInputError
from holdfast.job.copying import (
    COPY_FROM,
    COPY_INTO,
    Condition,
    CopyFacts,
    KeySharing,
    Unmet,
    conditions_looked_at,
    copy_lifecycle,
    role_refused,
    unmet,
)
from holdfast.key.model import Manager
from holdfast.key.service import get_key_by_arn
from holdfast.plan.model.lifecycle import normal
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import store as points
from holdfast.recovery.model import RecoveryPoint, StorageClass
from holdfast.recovery.service import get_point
from holdfast.server.principals import Households, Principal, get_principal, get_target, judge
from holdfast.source.service import get_resource
from holdfast.vault.model import Vault
from holdfast.vault.service import find_vault_by_arn, get_vault
from holdfast.vault.store import find_vault_by_id
from holdfast.wire.backup_copies import vault_named
from holdfast.wire.call import Call, Handler

_DECRYPT: Final = "kms:Decrypt"


class NothingToCopyError(InvalidInputError):
    """It was not said what would be copied, or from where."""


def look(
    tx: sa.Connection,
    *,
    role_arn: str,
    source: Vault,
    target_arn: Arn,
    resource_type: str,
    is_cold: bool,
    delete_after_days: int | None,
) -> tuple[Unmet, ...]:
    """Return the conditions that do not hold now for a copy from a vault into another one, in their order."""
    refused = role_refused(missing_rights(tx, role_arn, (), source.account))
    if refused is not None:
        return (refused,)
    households = Households(tx)
    role = get_principal(tx, households, role_arn)
    target = find_vault_by_arn(tx, str(target_arn))
    here, there = households.row(source.account), households.row(target_arn.account)
    context = {
        "backup:CopyTargets": (str(target_arn),),
        "backup:CopyTargetOrgPaths": () if there is None or there.path is None else (there.path,),
    }
    facts = CopyFacts(
        source_account=source.account,
        source_organization=None if here is None else here.organization_id,
        target_organization=None if there is None else there.organization_id,
        management_account=None if here is None else here.management_account,
        is_enabled=is_cross_account_enabled(tx, source.account),
        role_arn=role_arn,
        source_vault_arn=source.arn,
        target_account=target_arn.account,
        target_arn=str(target_arn),
        target=target,
        into=_may(tx, households, role, COPY_INTO, str(target_arn), context),
        out_of=_may(tx, households, role, COPY_FROM, source.arn, context),
        target_key_is_managed=target is not None and get_key_by_arn(tx, target.key_arn).manager is Manager.AWS,
        source_key=_sharing(tx, households, source, target_arn, resource_type),
        is_cold=is_cold,
        delete_after_days=delete_after_days,
    )
    return unmet(facts)


def _may(
    tx: sa.Connection,
    households: Households,
    principal: Principal,
    action: str,
    arn: str,
    context: Mapping[str, tuple[str, ...]],
) -> Decision:
    target = get_target(tx, households, arn, action, owner=None, default_owner=principal.caller.account)
    return judge(principal, action, target, context)


def _sharing(
    tx: sa.Connection, households: Households, source: Vault, target: Arn, resource_type: str
) -> KeySharing | None:
    managed = fully_managed_types(tx, source.account, source.region)
    if resource_type in managed or households.row(target.account) is None:
        return None
    key = get_key_by_arn(tx, source.key_arn)
    root = get_principal(tx, households, f"arn:{target.partition}:iam::{target.account}:root")
    use = _may(tx, households, root, _DECRYPT, key.arn, {})
    return KeySharing(key.arn, key.manager is Manager.AWS, use)


def preflight_copy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell whether a copy would be made now: each condition in its order, and what mends those that do not hold."""
    tx, target_arn = call.tx, vault_named(shape["DestinationBackupVaultArn"])
    point, resource_type, source = _subject(call, shape)
    wanted = Lifecycle(delete_after_days=shape.get("DeleteAfterDays"))
    lifecycle = normal(wanted if point is None else copy_lifecycle(wanted, point.lifecycle))
    broken = look(
        tx,
        role_arn=shape["IamRoleArn"],
        source=source,
        target_arn=target_arn,
        resource_type=resource_type,
        is_cold=point is not None and point.storage_class is StorageClass.COLD,
        delete_after_days=lifecycle.delete_after_days,
    )
    storages = call.instance.settings.storages
    by_name = {each.condition: each for each in broken}
    looked_at = conditions_looked_at(broken)
    target = find_vault_by_arn(tx, str(target_arn)) if Condition.TARGET_EXISTS in looked_at else None
    return {
        "Allowed": not broken,
        "Conditions": [_condition_to_wire(condition, by_name.get(condition)) for condition in looked_at],
        "FaultDomain": storages[source.storage].fault_domain,
        "DestinationFaultDomain": None if target is None else storages[target.storage].fault_domain,
    }


def _subject(call: Call, shape: Mapping[str, Any]) -> tuple[RecoveryPoint | None, str, Vault]:
    """Return what would be copied: the point if there is one yet, its resource's type, and the vault it lies in."""
    tx, account = call.tx, call.caller.account
    given, resource_arn, vault_name = (
        shape.get(name) for name in ("RecoveryPointArn", "ResourceArn", "SourceBackupVaultName")
    )
    if (given is None) == (resource_arn is None):
        raise NothingToCopyError("Give either RecoveryPointArn or ResourceArn")
    if given is not None:
        point = get_point(tx, account, call.region, given)
        return point, point.resource_type, _vault_of(tx, point)
    arn = resource_arn or ""
    resource = get_resource(tx, account, call.region, arn)
    vault = None if vault_name is None else get_vault(tx, account, call.region, vault_name)
    found = points.list_by_resource(tx, account=account, region=call.region, resource_arn=arn, after=None, limit=1000)
    latest = next((each for each in found if vault is None or each.vault_id == vault.id), None)
    if latest is not None:
        return latest, latest.resource_type, _vault_of(tx, latest)
    if vault is None:
        raise NothingToCopyError(f"{arn} has no recovery point yet; name the vault in SourceBackupVaultName")
    return None, resource.type, vault


def _vault_of(tx: sa.Connection, point: RecoveryPoint) -> Vault:
    vault = find_vault_by_id(tx, point.vault_id)
    if vault is None:
        raise NothingToCopyError(f"the vault of {point.arn} does not exist any more")
    return vault


def _condition_to_wire(condition: Condition, broken: Unmet | None) -> dict[str, Any]:
    known = {"Number": condition.number, "Name": condition.value, "Met": broken is None}
    if broken is None:
        return known
    return known | {
        "Message": broken.sentence,
        "MessageCategory": broken.category.value,
        "Remedy": broken.remedy.words,
        "Statement": broken.remedy.document,
        "StatementOf": broken.remedy.place,
    }


OPERATIONS: Final[Mapping[str, Handler]] = {"PreflightCopy": preflight_copy}
