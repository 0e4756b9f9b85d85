"""Sessions on the `sts` API: who am I, and acting in a role."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from holdfast.access import store
from holdfast.access.backup_role import find_role_by_arn
from holdfast.access.credentials import RoleSession, assume_role, owner_account, session_token
from holdfast.access.model.identity import Credentials, IdentityNotFoundError, Role
from holdfast.access.second_factor import use_code
from holdfast.wire.call import Call, Handler


def get_caller_identity(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Tell the caller who they are."""
    return {"UserId": call.caller.user_id, "Account": call.caller.account, "Arn": call.caller.arn}


def assume_a_role(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Begin a session in a role; that its trust policy lets the caller is decided before."""
    role = find_role_by_arn(call.tx, shape["RoleArn"])
    if role is None:
        raise IdentityNotFoundError(f"The role {shape['RoleArn']} does not exist.")
    asked = replace(
        _asked_session(shape),
        tags=tuple((tag["Key"], tag["Value"]) for tag in shape.get("Tags") or ()),
        transitive=tuple(shape.get("TransitiveTagKeys") or ()),
        source_identity=shape.get("SourceIdentity"),
        mfa_at=_taken_code(call, shape),
    )
    return _begin(call, role, asked, shape)


def _asked_session(shape: dict[str, Any]) -> RoleSession:
    seconds = shape.get("DurationSeconds")
    return RoleSession(
        name=shape["RoleSessionName"],
        duration=None if seconds is None else timedelta(seconds=seconds),
        policy=shape.get("Policy"),
        policy_arns=tuple(each["arn"] for each in shape.get("PolicyArns") or () if "arn" in each),
    )


def _begin(call: Call, role: Role, asked: RoleSession, shape: dict[str, Any]) -> dict[str, Any]:
    session, credentials = assume_role(
        call.tx, call.instance.root_key, call.caller, role, asked, now=call.instance.machine.now()
    )
    store.role_used(call.tx, role, at=call.now, region=call.region)
    return {
        "Credentials": credentials_to_wire(credentials),
        "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
        "SourceIdentity": session.source_identity,
        "PackedPolicySize": None if session.policies is None else 1 + len(shape.get("Policy") or "") * 99 // 2048,
    }


def assume_a_role_with_web_identity(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Begin a session in a role for somebody whom an identity provider vouches for; both are decided before."""
    identity = call.caller.web_identity
    role = find_role_by_arn(call.tx, shape["RoleArn"])
    if role is None or identity is None:
        raise IdentityNotFoundError(f"The role {shape['RoleArn']} does not exist.")
    asked = replace(
        _asked_session(shape),
        tags=identity.tags,
        transitive=identity.transitive,
        source_identity=identity.source_identity,
        provider=identity.provider,
        person=call.caller.person,
    )
    return {
        **_begin(call, role, asked, shape),
        "SubjectFromWebIdentityToken": identity.subject,
        "Audience": identity.audience,
        "Provider": identity.issuer,
    }


def get_session_token(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Begin a session of the caller as themselves."""
    seconds = shape.get("DurationSeconds")
    mfa_at = _taken_code(call, shape)
    _, credentials = session_token(
        call.tx,
        call.instance.root_key,
        call.caller,
        duration=None if seconds is None else timedelta(seconds=seconds),
        mfa_at=mfa_at,
        now=call.instance.machine.now(),
    )
    return {"Credentials": credentials_to_wire(credentials)}


def _taken_code(call: Call, shape: dict[str, Any]) -> datetime | None:
    """Take the one-time password of a request, so that it counts once; return when, None if there is none."""
    if "TokenCode" not in shape:
        return None
    now = call.instance.machine.now()
    caller = call.caller
    use_code(
        call.tx,
        call.instance.root_key,
        caller.account,
        caller.name,
        shape["SerialNumber"],
        shape["TokenCode"],
        machine_now=now,
    )
    return now


def get_access_key_info(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell which account an access key belongs to."""
    return {"Account": owner_account(call.tx, shape["AccessKeyId"])}


def credentials_to_wire(credentials: Credentials) -> dict[str, Any]:
    """Return temporary credentials as clients read them."""
    return {
        "AccessKeyId": credentials.id,
        "SecretAccessKey": credentials.secret,
        "SessionToken": credentials.token,
        "Expiration": credentials.expires_at,
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "AssumeRole": assume_a_role,
    "AssumeRoleWithWebIdentity": assume_a_role_with_web_identity,
    "GetAccessKeyInfo": get_access_key_info,
    "GetCallerIdentity": get_caller_identity,
    "GetSessionToken": get_session_token,
}
