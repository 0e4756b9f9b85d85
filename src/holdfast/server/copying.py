"""Whether a recovery point may be copied into a vault: the facts that the eight conditions look at, gathered."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from holdfast.access.model import Decision
from holdfast.assessment.settings import fully_managed_types, is_cross_account_enabled
from holdfast.core.arn import Arn
from holdfast.job.copying import COPY_FROM, COPY_INTO, CopyFacts, KeySharing
from holdfast.key.model import Manager
from holdfast.key.service import get_key_by_arn
from holdfast.server.principals import Households, Principal, get_principal, get_target, judge
from holdfast.vault.model import Vault
from holdfast.vault.service import find_vault_by_arn

_DECRYPT: Final = "kms:Decrypt"


def gather(
    tx: sa.Connection,
    *,
    role_arn: str,
    source: Vault,
    target_arn: Arn,
    resource_type: str,
    is_cold: bool,
    delete_after_days: int | None,
) -> CopyFacts:
    """Return the facts of a copy from one vault into another, as they are now.

    Raises:
        IdentityNotFoundError: there is no such role.
    """
    households = Households(tx)
    role = get_principal(tx, households, role_arn)
    target = find_vault_by_arn(tx, str(target_arn))
    here, there = households.row(source.account), households.row(target_arn.account)
    context = {
        "backup:CopyTargets": (str(target_arn),),
        "backup:CopyTargetOrgPaths": () if there is None or there.path is None else (there.path,),
    }
    return CopyFacts(
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
