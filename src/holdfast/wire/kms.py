"""Encryption keys on the `kms` API."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from holdfast.access.store import raise_access_version
from holdfast.access.tag import check_tags, put_tags, remove_tags, tags_of
from holdfast.core.errors import InvalidInputError
from holdfast.key import grant_store, grants, service, store
from holdfast.key.grant import Grant, GrantNotFoundError
from holdfast.key.model import Key, KeyNotFoundError, KeyState
from holdfast.wire.call import Call, Handler

_PAGE: Final = 100
_GRANTS_PAGE: Final = 50
_ALGORITHM: Final = "SYMMETRIC_DEFAULT"
_DATA_KEY_BYTES: Final = {"AES_128": 16, "AES_256": 32}


def _key(call: Call, name: str) -> Key:
    return service.get_key(call.tx, call.caller.account, call.region, name)


def key_to_wire(key: Key) -> dict[str, Any]:
    """Return what is known of a key, without its material."""
    return {
        "AWSAccountId": key.account,
        "KeyId": key.id,
        "Arn": key.arn,
        "CreationDate": key.created_at,
        "Enabled": key.state is KeyState.ENABLED,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": key.state.value,
        "DeletionDate": key.deletion_at,
        "Origin": "AWS_KMS",
        "KeyManager": key.manager.value,
        "CustomerMasterKeySpec": _ALGORITHM,
        "KeySpec": _ALGORITHM,
        "EncryptionAlgorithms": [_ALGORITHM],
        "MultiRegion": False,
    }


def create_key(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a key."""
    for member, only in (
        ("KeySpec", _ALGORITHM),
        ("CustomerMasterKeySpec", _ALGORITHM),
        ("KeyUsage", "ENCRYPT_DECRYPT"),
        ("Origin", "AWS_KMS"),
        ("MultiRegion", False),
    ):
        if shape.get(member, only) != only:
            raise InvalidInputError(f"{member} can only be {only} here: keys are symmetric and of one region")
    tags = check_tags((tag["TagKey"], tag["TagValue"]) for tag in shape.get("Tags") or ())
    key = service.create_key(
        call.tx,
        call.instance.root_key,
        call.caller.account,
        call.region,
        description=shape.get("Description", ""),
        policy=shape.get("Policy"),
        caller=call.caller,
        bypass_lockout_check=shape.get("BypassPolicyLockoutSafetyCheck", False),
        now=call.now,
    )
    put_tags(call.tx, key.account, key.region, key.arn, tags)
    return {"KeyMetadata": key_to_wire(key)}


def describe_key(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give what is known of a key."""
    return {"KeyMetadata": key_to_wire(_key(call, shape["KeyId"]))}


def list_keys(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the keys of the account in the region."""
    after = call.page_position({}, shape.get("Marker")) or ""
    size = shape.get("Limit", _PAGE)
    found = store.list_keys(call.tx, call.caller.account, call.region, after=after, limit=size + 1)
    shown, more = found[:size], len(found) > size
    return {
        "Keys": [{"KeyId": key.id, "KeyArn": key.arn} for key in shown],
        "Truncated": more,
        "NextMarker": call.page_token({}, shown[-1].id) if more else None,
    }


def list_aliases(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the aliases of the account in the region, or of one key."""
    key_id = _key(call, shape["KeyId"]).id if "KeyId" in shape else ""
    filters = {"key": key_id}
    after = call.page_position(filters, shape.get("Marker")) or ""
    size = shape.get("Limit", _PAGE)
    found = store.list_aliases(call.tx, call.caller.account, call.region, key_id=key_id, after=after, limit=size + 1)
    shown, more = found[:size], len(found) > size
    prefix = f"arn:{call.partition}:kms:{call.region}:{call.caller.account}:"
    return {
        "Aliases": [
            {
                "AliasName": alias.name,
                "AliasArn": prefix + alias.name,
                "TargetKeyId": alias.key_id,
                "CreationDate": alias.created_at,
                "LastUpdatedDate": alias.created_at,
            }
            for alias in shown
        ],
        "Truncated": more,
        "NextMarker": call.page_token(filters, shown[-1].name) if more else None,
    }


def create_alias(call: Call, shape: dict[str, Any]) -> None:
    """Give a key a name."""
    service.create_alias(call.tx, _own(call, shape["TargetKeyId"]), shape["AliasName"], now=call.now)


def update_alias(call: Call, shape: dict[str, Any]) -> None:
    """Let an alias name another key."""
    service.update_alias(call.tx, _own(call, shape["TargetKeyId"]), shape["AliasName"])


def delete_alias(call: Call, shape: dict[str, Any]) -> None:
    """Take a name away."""
    service.delete_alias(call.tx, call.caller.account, call.region, shape["AliasName"])


def _own(call: Call, name: str) -> Key:
    """Return a key of the caller's account; aliases are never given to keys of others."""
    key = _key(call, name)
    if key.account != call.caller.account:
        raise KeyNotFoundError(f"Key {name!r} does not exist in account {call.caller.account}")
    return key


def get_key_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a key's policy."""
    _default_policy_only(shape)
    return {"Policy": _key(call, shape["KeyId"]).policy, "PolicyName": "default"}


def list_key_policies(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the names of a key's policies: there is one."""
    _key(call, shape["KeyId"])
    return {"PolicyNames": ["default"], "Truncated": False}


def put_key_policy(call: Call, shape: dict[str, Any]) -> None:
    """Replace a key's policy."""
    _default_policy_only(shape)
    service.put_policy(
        call.tx,
        _key(call, shape["KeyId"]),
        shape["Policy"],
        caller=call.caller,
        bypass_lockout_check=shape.get("BypassPolicyLockoutSafetyCheck", False),
    )


def _default_policy_only(shape: dict[str, Any]) -> None:
    if shape.get("PolicyName", "default") != "default":
        raise InvalidInputError("a key has one policy, which is called default")


def update_key_description(call: Call, shape: dict[str, Any]) -> None:
    """Replace a key's description."""
    service.describe_as(call.tx, _key(call, shape["KeyId"]), shape["Description"])


def enable_key(call: Call, shape: dict[str, Any]) -> None:
    """Let a key be used."""
    service.set_enabled(call.tx, _key(call, shape["KeyId"]), enabled=True)


def disable_key(call: Call, shape: dict[str, Any]) -> None:
    """Let a key not be used until it is enabled again."""
    service.set_enabled(call.tx, _key(call, shape["KeyId"]), enabled=False)


def schedule_key_deletion(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Let a key be deleted after a wait."""
    days = shape.get("PendingWindowInDays", 30)
    key = service.schedule_deletion(call.tx, _key(call, shape["KeyId"]), days=days, now=call.now)
    return {
        "KeyId": key.arn,
        "DeletionDate": key.deletion_at,
        "KeyState": key.state.value,
        "PendingWindowInDays": days,
    }


def cancel_key_deletion(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Keep a key that waits for its deletion."""
    return {"KeyId": service.cancel_deletion(call.tx, _key(call, shape["KeyId"])).arn}


def enable_key_rotation(call: Call, shape: dict[str, Any]) -> None:
    """Let a key be rotated by itself."""
    service.set_rotation(call.tx, _key(call, shape["KeyId"]), enabled=True, days=shape.get("RotationPeriodInDays"))


def disable_key_rotation(call: Call, shape: dict[str, Any]) -> None:
    """Let a key not be rotated by itself."""
    service.set_rotation(call.tx, _key(call, shape["KeyId"]), enabled=False)


def get_key_rotation_status(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell whether and when a key is rotated by itself."""
    key = _key(call, shape["KeyId"])
    newest = store.find_material(call.tx, key.id)
    next_at: datetime | None = None
    if key.rotation_enabled and newest is not None:
        next_at = newest.created_at + timedelta(days=key.rotation_days)
    return {
        "KeyRotationEnabled": key.rotation_enabled,
        "KeyId": key.arn,
        "RotationPeriodInDays": key.rotation_days if key.rotation_enabled else None,
        "NextRotationDate": next_at,
    }


def rotate_key_on_demand(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a key a new version at once."""
    key = _key(call, shape["KeyId"])
    key.require_changeable()
    service.rotate(call.tx, call.instance.root_key, key, now=call.now)
    return {"KeyId": key.arn}


def list_key_rotations(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List when a key got new versions."""
    key = _key(call, shape["KeyId"])
    later = store.materials(call.tx, key.id)[1:]
    return {
        "Rotations": [{"KeyId": key.arn, "RotationDate": material.created_at} for material in later],
        "Truncated": False,
    }


def encrypt(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Encrypt a little data."""
    _dry_run_is_not_known(shape)
    key = _key(call, shape["KeyId"])
    context = shape.get("EncryptionContext") or {}
    boxed = service.encrypt_for(call.tx, call.instance.root_key, key, shape["Plaintext"], context)
    return {"CiphertextBlob": boxed, "KeyId": key.arn, "EncryptionAlgorithm": _ALGORITHM}


def decrypt(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Decrypt what a key here encrypted."""
    _dry_run_is_not_known(shape)
    expected = _key(call, shape["KeyId"]) if "KeyId" in shape else None
    context = shape.get("EncryptionContext") or {}
    key, plaintext = service.decrypt_for(
        call.tx, call.instance.root_key, shape["CiphertextBlob"], context, expected=expected
    )
    return {"Plaintext": plaintext, "KeyId": key.arn, "EncryptionAlgorithm": _ALGORITHM}


def re_encrypt(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Encrypt anew, under another key, what a key here encrypted; the plaintext stays inside."""
    _dry_run_is_not_known(shape)
    expected = _key(call, shape["SourceKeyId"]) if "SourceKeyId" in shape else None
    source, plaintext = service.decrypt_for(
        call.tx,
        call.instance.root_key,
        shape["CiphertextBlob"],
        shape.get("SourceEncryptionContext") or {},
        expected=expected,
    )
    target = _key(call, shape["DestinationKeyId"])
    context = shape.get("DestinationEncryptionContext") or {}
    boxed = service.encrypt_for(call.tx, call.instance.root_key, target, plaintext, context)
    return {
        "CiphertextBlob": boxed,
        "SourceKeyId": source.arn,
        "KeyId": target.arn,
        "SourceEncryptionAlgorithm": _ALGORITHM,
        "DestinationEncryptionAlgorithm": _ALGORITHM,
    }


def _data_key(call: Call, shape: dict[str, Any]) -> tuple[Key, service.DataKey]:
    _dry_run_is_not_known(shape)
    if ("KeySpec" in shape) == ("NumberOfBytes" in shape):
        raise InvalidInputError("Please specify either number of bytes or key spec.")
    size = shape["NumberOfBytes"] if "NumberOfBytes" in shape else _DATA_KEY_BYTES[shape["KeySpec"]]
    key = _key(call, shape["KeyId"])
    context = shape.get("EncryptionContext") or {}
    return key, service.generate_data_key(call.tx, call.instance.root_key, key, size, context)


def generate_data_key(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a fresh key, open and encrypted."""
    key, made = _data_key(call, shape)
    return {"CiphertextBlob": made.ciphertext, "Plaintext": made.plaintext, "KeyId": key.arn}


def generate_data_key_without_plaintext(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a fresh key, encrypted only."""
    key, made = _data_key(call, shape)
    return {"CiphertextBlob": made.ciphertext, "KeyId": key.arn}


def generate_random(_call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give random bytes."""
    if "NumberOfBytes" not in shape:
        raise InvalidInputError("NumberOfBytes says how many random bytes are wanted")
    return {"Plaintext": secrets.token_bytes(shape["NumberOfBytes"])}


def _dry_run_is_not_known(shape: dict[str, Any]) -> None:
    if shape.get("DryRun"):
        raise InvalidInputError("DryRun is not offered here")


def tag_resource(call: Call, shape: dict[str, Any]) -> None:
    """Tag a key."""
    key = _key(call, shape["KeyId"])
    key.require_changeable()
    tags = check_tags((tag["TagKey"], tag["TagValue"]) for tag in shape["Tags"])
    put_tags(call.tx, key.account, key.region, key.arn, tags)
    raise_access_version(call.tx)


def untag_resource(call: Call, shape: dict[str, Any]) -> None:
    """Take tags off a key."""
    key = _key(call, shape["KeyId"])
    key.require_changeable()
    remove_tags(call.tx, key.account, key.region, key.arn, shape["TagKeys"])
    raise_access_version(call.tx)


def list_resource_tags(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a key."""
    key = _key(call, shape["KeyId"])
    found = tags_of(call.tx, key.account, key.region, key.arn)
    return {"Tags": [{"TagKey": name, "TagValue": value} for name, value in found.items()], "Truncated": False}


def _grant_to_wire(grant: Grant, key_arn: str) -> dict[str, Any]:
    constraints: dict[str, Any] = {"EncryptionContextSubset": dict(grant.subset)} if grant.subset else {}
    if grant.equals is not None:
        constraints["EncryptionContextEquals"] = dict(grant.equals)
    return {
        "KeyId": key_arn,
        "GrantId": grant.id,
        "Name": grant.name,
        "CreationDate": grant.created_at,
        "GranteePrincipal": grant.grantee,
        "RetiringPrincipal": grant.retiring,
        "IssuingAccount": f"arn:{key_arn.split(':')[1]}:iam::{grant.issuing_account}:root",
        "Operations": list(grant.operations),
        "Constraints": constraints or None,
    }


def create_grant(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Let a principal use a key, beside what its policy says."""
    _dry_run_is_not_known(shape)
    constraints = shape.get("Constraints") or {}
    others = {"GranteeServicePrincipal", "RetiringServicePrincipal"} & set(shape) or {"SourceArn"} & set(constraints)
    if others or "GranteePrincipal" not in shape:
        raise InvalidInputError(
            "a grant needs a GranteePrincipal, and knows no service principals and no SourceArn here"
        )
    grant = grants.create_grant(
        call.tx,
        _key(call, shape["KeyId"]),
        grantee=shape["GranteePrincipal"],
        operations=shape["Operations"],
        retiring=shape.get("RetiringPrincipal"),
        name=shape.get("Name", ""),
        subset=constraints.get("EncryptionContextSubset"),
        equals=constraints.get("EncryptionContextEquals"),
        issuing_account=call.caller.account,
        now=call.now,
    )
    return {"GrantToken": grant.token, "GrantId": grant.id}


def revoke_grant(call: Call, shape: dict[str, Any]) -> None:
    """Take a grant back."""
    _dry_run_is_not_known(shape)
    grants.end_grant(call.tx, grants.get_grant(call.tx, _key(call, shape["KeyId"]), shape["GrantId"]))


def retire_grant(call: Call, shape: dict[str, Any]) -> None:
    """Let a grant go that is needed no longer."""
    _dry_run_is_not_known(shape)
    if "GrantToken" in shape:
        grant = grant_store.find_by_token(call.tx, shape["GrantToken"])
        if grant is None:
            raise GrantNotFoundError("no grant has this token")
    elif "KeyId" in shape and "GrantId" in shape:
        grant = grants.get_grant(call.tx, service.get_key_by_arn(call.tx, shape["KeyId"]), shape["GrantId"])
    else:
        raise InvalidInputError("name the grant by GrantToken, or by KeyId (an ARN) and GrantId")
    grants.end_grant(call.tx, grant)


def list_grants(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the grants on a key."""
    key = _key(call, shape["KeyId"])
    grant_id, grantee = shape.get("GrantId", ""), shape.get("GranteePrincipal", "")
    filters = {"key": key.id, "grant": grant_id, "grantee": grantee}
    after, size = call.page_position(filters, shape.get("Marker")) or "", shape.get("Limit", _GRANTS_PAGE)
    found = grant_store.list_grants(call.tx, key.id, grant_id=grant_id, grantee=grantee, after=after, limit=size + 1)
    return _page_of_grants(call, filters, found, size)


def list_retirable_grants(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the grants that a principal of the account may retire."""
    principal = shape.get("RetiringPrincipal", "")
    if f"::{call.caller.account}:" not in principal:
        raise InvalidInputError("RetiringPrincipal must be a principal of the account that asks")
    filters = {"retiring": principal}
    after, size = call.page_position(filters, shape.get("Marker")) or "", shape.get("Limit", _GRANTS_PAGE)
    found = grant_store.list_retirable(call.tx, principal, after=after, limit=size + 1)
    return _page_of_grants(call, filters, found, size)


def _page_of_grants(call: Call, filters: Mapping[str, Any], found: list[Grant], size: int) -> dict[str, Any]:
    shown, more = found[:size], len(found) > size
    keys = {grant.key_id: store.find_key_by_id(call.tx, grant.key_id) for grant in shown}
    return {
        "Grants": [_grant_to_wire(grant, key.arn) for grant in shown if (key := keys[grant.key_id]) is not None],
        "Truncated": more,
        "NextMarker": call.page_token(filters, shown[-1].id) if more else None,
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "CancelKeyDeletion": cancel_key_deletion,
    "CreateAlias": create_alias,
    "CreateKey": create_key,
    "Decrypt": decrypt,
    "DeleteAlias": delete_alias,
    "DescribeKey": describe_key,
    "DisableKey": disable_key,
    "DisableKeyRotation": disable_key_rotation,
    "EnableKey": enable_key,
    "EnableKeyRotation": enable_key_rotation,
    "Encrypt": encrypt,
    "GenerateDataKey": generate_data_key,
    "GenerateDataKeyWithoutPlaintext": generate_data_key_without_plaintext,
    "GenerateRandom": generate_random,
    "GetKeyPolicy": get_key_policy,
    "GetKeyRotationStatus": get_key_rotation_status,
    "ListAliases": list_aliases,
    "CreateGrant": create_grant,
    "ListGrants": list_grants,
    "ListRetirableGrants": list_retirable_grants,
    "RetireGrant": retire_grant,
    "RevokeGrant": revoke_grant,
    "ListKeyPolicies": list_key_policies,
    "ListKeyRotations": list_key_rotations,
    "ListKeys": list_keys,
    "ListResourceTags": list_resource_tags,
    "PutKeyPolicy": put_key_policy,
    "ReEncrypt": re_encrypt,
    "RotateKeyOnDemand": rotate_key_on_demand,
    "ScheduleKeyDeletion": schedule_key_deletion,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateAlias": update_alias,
    "UpdateKeyDescription": update_key_description,
}
