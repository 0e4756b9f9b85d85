"""What each operation of `kms` asks for: the key's own policy decides.

Actions and condition keys: Service Authorization Reference, "Actions, resources, and condition keys for AWS Key
Management Service"; AWS Key Management Service Developer Guide, "Controlling access to aliases".
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from holdfast.access.model import DocumentKind, Policy, parse_document
from holdfast.key.grant import Grant, policy_with, retirers
from holdfast.key.grant_store import find as find_grant
from holdfast.key.grant_store import find_by_token, grants_of
from holdfast.key.model import InvalidCiphertextError, Key, KeyNotFoundError, read_header
from holdfast.key.service import get_key
from holdfast.key.store import find_key_by_id
from holdfast.server.operations.scene import Check, Parameters, Rule, Scene, Value, arn_account, on_everything, reading


def _check_of(scene: Scene, key: Key | None, name: str, action: str, values: Mapping[str, Value]) -> Check:
    if key is None:
        # What does not exist is owned by nobody: whoever may do this to every key of theirs is told that it is not
        # there, everybody else that they may not.
        owner = (arn_account(name) if name.startswith("arn:") else None) or scene.account
        resource = name if name.startswith("arn:") else scene.arn("kms", f"key/{name}")
        return Check(action, resource, owner=owner, values=values)
    document = parse_document(policy_with(key.policy, grants_of(scene.tx, key.id)), DocumentKind.RESOURCE)
    given = {**values, "kms:CallerAccount": scene.account, "kms:KeyOrigin": "AWS_KMS"}
    policy = Policy(f"key policy of {key.id}", document)
    return Check(action, key.arn, owner=key.account, values=given, policy=policy, policy_decides=True)


def key_check(scene: Scene, name: str, action: str, values: Mapping[str, Value] | None = None) -> Check:
    """Return the check of an action on the key that `name` means: an id, an ARN or an alias."""
    try:
        key: Key | None = get_key(scene.tx, scene.account, scene.region, name)
    except KeyNotFoundError:
        key = None
    given = dict(values or {})
    if "alias/" in name:
        given["kms:RequestAlias"] = "alias/" + name.partition("alias/")[2]
    return _check_of(scene, key, name, action, given)


def _context(parameters: Parameters, member: str = "EncryptionContext") -> dict[str, Value]:
    context = parameters.get(member) or {}
    values: dict[str, Value] = {f"kms:EncryptionContext:{key}": value for key, value in context.items()}
    return {**values, "kms:EncryptionContextKeys": list(context) or None}


def _on_key(action: str, *, member: str = "KeyId", **values: str) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        given: dict[str, Value] = {f"kms:{key}": parameters.get(each) for key, each in values.items()}
        return [key_check(scene, parameters[member], action, {**_context(parameters), **given})]

    return checks


def _ciphertext_check(scene: Scene, blob: bytes, action: str, values: Mapping[str, Value]) -> Check:
    try:
        key_id, _ = read_header(blob)
    except InvalidCiphertextError:
        return Check(action, scene.arn("kms", "key/*"), values=values)
    return _check_of(scene, find_key_by_id(scene.tx, key_id), key_id, action, values)


def _decrypt(scene: Scene, parameters: Parameters) -> list[Check]:
    checks = [_ciphertext_check(scene, parameters["CiphertextBlob"], "kms:Decrypt", _context(parameters))]
    if "KeyId" in parameters:
        checks.append(key_check(scene, parameters["KeyId"], "kms:Decrypt", _context(parameters)))
    return checks


def _re_encrypt(scene: Scene, parameters: Parameters) -> list[Check]:
    source = _context(parameters, "SourceEncryptionContext")
    target = _context(parameters, "DestinationEncryptionContext")
    return [
        _ciphertext_check(scene, parameters["CiphertextBlob"], "kms:ReEncryptFrom", source),
        key_check(scene, parameters["DestinationKeyId"], "kms:ReEncryptTo", target),
    ]


def _grant_key(scene: Scene, parameters: Parameters) -> tuple[Key | None, Grant | None]:
    """Return the key and the grant that RetireGrant means: by the grant's token, or by both ids."""
    grant = find_by_token(scene.tx, parameters["GrantToken"]) if "GrantToken" in parameters else None
    if grant is None and "GrantId" in parameters:
        grant = find_grant(scene.tx, parameters["GrantId"])
    return (None, None) if grant is None else (find_key_by_id(scene.tx, grant.key_id), grant)


def _retire_grant(scene: Scene, parameters: Parameters) -> list[Check]:
    key, grant = _grant_key(scene, parameters)
    check = _check_of(scene, key, parameters.get("KeyId", "*"), "kms:RetireGrant", {})
    if key is None or grant is None:
        return [check]
    may = {
        "Effect": "Allow",
        "Principal": {"AWS": list(retirers(grant)) or [key.account]},
        "Action": "kms:RetireGrant",
        "Resource": "*",
    }
    policy = json.loads(key.policy)
    own = policy.get("Statement", [])
    policy["Statement"] = [*(own if isinstance(own, list) else [own]), may]
    document = parse_document(json.dumps(policy), DocumentKind.RESOURCE)
    return [replace(check, policy=Policy(f"key policy of {key.id} and grant {grant.id}", document))]


def _create_grant(scene: Scene, parameters: Parameters) -> list[Check]:
    constraints = parameters.get("Constraints") or {}
    values: dict[str, Value] = {
        "kms:GranteePrincipal": parameters.get("GranteePrincipal"),
        "kms:RetiringPrincipal": parameters.get("RetiringPrincipal"),
        "kms:GrantOperations": list(parameters.get("Operations") or ()) or None,
        "kms:GrantConstraintType": next(iter(constraints), None),
        "kms:GrantIsForAWSResource": False,
    }
    return [key_check(scene, parameters["KeyId"], "kms:CreateGrant", values)]


def _alias_arn(scene: Scene, name: str) -> str:
    return name if name.startswith("arn:") else scene.arn("kms", name)


def _alias(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    """An alias is made, moved or deleted by whoever may do that to the alias and to each key concerned."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        name = parameters["AliasName"]
        found = [Check(action, _alias_arn(scene, name))]
        if "TargetKeyId" in parameters:
            found.append(key_check(scene, parameters["TargetKeyId"], action))
        if action != "kms:CreateAlias":
            try:
                found.append(key_check(scene, get_key(scene.tx, scene.account, scene.region, name).arn, action))
            except KeyNotFoundError:
                return found
        return found

    return checks


def _create_key(_scene: Scene, parameters: Parameters) -> list[Check]:
    values: dict[str, Value] = {
        "kms:BypassPolicyLockoutSafetyCheck": parameters.get("BypassPolicyLockoutSafetyCheck", False),
        "kms:KeySpec": parameters.get("KeySpec", "SYMMETRIC_DEFAULT"),
        "kms:KeyUsage": parameters.get("KeyUsage", "ENCRYPT_DECRYPT"),
        "kms:KeyOrigin": parameters.get("Origin", "AWS_KMS"),
        "kms:MultiRegion": parameters.get("MultiRegion", False),
    }
    return [Check("kms:CreateKey", values=values)]


def _rules() -> dict[str, Rule]:
    rules = {
        "CreateKey": Rule(_create_key),
        "Decrypt": reading(_decrypt),
        "ReEncrypt": reading(_re_encrypt),
        "CreateGrant": Rule(_create_grant),
        "RetireGrant": Rule(_retire_grant),
        "ListRetirableGrants": reading(on_everything("kms:ListRetirableGrants")),
        "GenerateRandom": reading(on_everything("kms:GenerateRandom")),
        "ListKeys": reading(on_everything("kms:ListKeys")),
        "ListAliases": reading(on_everything("kms:ListAliases")),
        "ScheduleKeyDeletion": Rule(
            _on_key("kms:ScheduleKeyDeletion", ScheduleKeyDeletionPendingWindowInDays="PendingWindowInDays")
        ),
        "PutKeyPolicy": Rule(
            _on_key("kms:PutKeyPolicy", BypassPolicyLockoutSafetyCheck="BypassPolicyLockoutSafetyCheck")
        ),
        "EnableKeyRotation": Rule(_on_key("kms:EnableKeyRotation", RotationPeriodInDays="RotationPeriodInDays")),
    }
    for name in (
        "DescribeKey",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GetKeyPolicy",
        "GetKeyRotationStatus",
        "ListKeyPolicies",
        "ListKeyRotations",
        "ListResourceTags",
        "ListGrants",
    ):
        rules[name] = reading(_on_key(f"kms:{name}"))
    for name in (
        "CancelKeyDeletion",
        "DisableKey",
        "DisableKeyRotation",
        "EnableKey",
        "RevokeGrant",
        "RotateKeyOnDemand",
        "TagResource",
        "UntagResource",
        "UpdateKeyDescription",
    ):
        rules[name] = Rule(_on_key(f"kms:{name}"))
    for name in ("CreateAlias", "UpdateAlias", "DeleteAlias"):
        rules[name] = Rule(_alias(f"kms:{name}"))
    return rules


RULES: Final[Mapping[str, Rule]] = _rules()
