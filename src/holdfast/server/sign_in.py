"""Signing in as a user with a password: `POST /_holdfast/signin` gives temporary credentials for a short session.

    {"Account": "an id or alias", "UserName": "maria", "Password": "...", "MfaCode": "123456", "NewPassword": "..."}

`MfaCode` is needed when the user has a second factor, `NewPassword` when the password has expired or was given by an
administrator. `DurationSeconds` is 900 to 43200, by default 3600. A refusal does not tell whether there is such an
account or user, and takes as long as a right password; whoever guesses is made to wait. Every attempt on an account
that exists is in the audit trail. Pages of other origins are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

from holdfast.access import password_store, second_factor, second_factor_store
from holdfast.access.credentials import caller_of_user, session_token
from holdfast.access.model.identity import User
from holdfast.access.model.password import LoginProfile, PasswordPolicy, WeakPasswordError
from holdfast.access.model.second_factor import WrongCodeError
from holdfast.access.password import change_profile, is_password
from holdfast.access.store import find_user
from holdfast.core.errors import DeniedError, InvalidInputError
from holdfast.core.ids import new_uuid
from holdfast.server.dev import json_reply
from holdfast.trail.service import Decision, Entry, record
from holdfast.wire.attempts import TooManyAttemptsError
from holdfast.wire.call import Instance
from holdfast.wire.message import HttpReply, HttpRequest

_SHORTEST, _LONGEST, _USUAL = 900, 43_200, 3_600
_TEXTS: Final = {"Account": 63, "UserName": 64, "Password": 128, "MfaCode": 6, "NewPassword": 128}
_NEEDED: Final = ("Account", "UserName", "Password")


class SignInRefusedError(DeniedError):
    """Somebody may not sign in; `reason` tells a program what to ask them for."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Found:
    """What the database knows of who wants to sign in."""

    account: str | None
    user: User | None
    profile: LoginProfile | None
    policy: PasswordPolicy | None
    devices: tuple[str, ...]
    """Serial numbers of the user's second factors."""


def sign_in(instance: Instance, request: HttpRequest) -> HttpReply:
    """Answer a request to sign in."""
    if request.method != "POST":
        return json_reply(405, {"error": "send a POST request"})
    try:
        asked = _read(request.body)
    except InvalidInputError as error:
        return json_reply(400, {"error": str(error), "reason": "MALFORMED"})
    try:
        return json_reply(200, _begin(instance, request, asked))
    except SignInRefusedError as refusal:
        return json_reply(401, {"error": str(refusal), "reason": refusal.reason})
    except WeakPasswordError as error:
        return json_reply(400, {"error": str(error), "reason": "WEAK_PASSWORD"})
    except TooManyAttemptsError as error:
        return json_reply(429, {"error": str(error), "reason": "TOO_MANY_ATTEMPTS"})


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the body is no JSON: {error}") from error
    if not isinstance(asked, dict) or set(asked) - {*_TEXTS, "DurationSeconds"}:
        raise InvalidInputError(f"the body is an object of {', '.join((*_TEXTS, 'DurationSeconds'))}")
    for name, longest in _TEXTS.items():
        given = asked.get(name)
        if (given is None and name in _NEEDED) or not isinstance(given, str | None) or len(given or "") > longest:
            raise InvalidInputError(f"{name} is a text of at most {longest} characters")
    seconds = asked.get("DurationSeconds", _USUAL)
    if type(seconds) is not int or not _SHORTEST <= seconds <= _LONGEST:
        raise InvalidInputError(f"DurationSeconds is {_SHORTEST} to {_LONGEST}")
    return asked


def _begin(instance: Instance, request: HttpRequest, asked: Mapping[str, Any]) -> dict[str, Any]:
    now = instance.clock.now()
    with instance.database.reading() as tx:
        found = _look(tx, asked)
    place = request.source_ip, f"{found.account or asked['Account']}/{asked['UserName']}"
    instance.guesses.refuse_if_too_many(*place)
    try:
        return _session(instance, request, asked, found, now)
    except SignInRefusedError as refusal:
        if refusal.reason in {"WRONG", "WRONG_CODE"}:
            instance.guesses.failed(*place)
        if found.account is not None:
            with instance.database.transaction() as tx:
                record(tx, _entry(instance, request, asked, found.account, "anonymous", str(refusal), now))
        raise


def _session(
    instance: Instance, request: HttpRequest, asked: Mapping[str, Any], found: _Found, now: datetime
) -> dict[str, Any]:
    # Compared outside a transaction, since that takes long on purpose; inside it is looked whether all is as it was.
    if not is_password(found.profile, asked["Password"]) or found.user is None or found.profile is None:
        raise SignInRefusedError("WRONG", "The account, the user's name or the password is wrong")
    machine_now = instance.machine.now()
    with instance.database.transaction() as tx:
        if _look(tx, asked) != found:
            raise SignInRefusedError("CHANGED", "The user was changed in this moment; sign in again")
        mfa_at = _take_code(instance, tx, found.user, found.devices, asked.get("MfaCode"), machine_now)
        _renew(tx, found.user, found.profile, found.policy, asked.get("NewPassword"), now)
        session, made = session_token(
            tx,
            instance.root_key,
            caller_of_user(tx, found.user),
            duration=timedelta(seconds=asked.get("DurationSeconds", _USUAL)),
            mfa_at=mfa_at,
            now=machine_now,
        )
        password_store.profile_used(tx, found.user.account, found.user.name, at=now)
        record(tx, _entry(instance, request, asked, found.user.account, session.arn, None, now))
    return {
        "Account": session.account,
        "Arn": session.arn,
        "AccessKeyId": made.id,
        "SecretAccessKey": made.secret,
        "SessionToken": made.token,
        "Expiration": session.expires_at.isoformat(),
    }


def _look(tx: sa.Connection, asked: Mapping[str, Any]) -> _Found:
    account, name = password_store.find_account(tx, asked["Account"]), asked["UserName"]
    if account is None:
        return _Found(None, None, None, None, ())
    return _Found(
        account,
        find_user(tx, account, name),
        password_store.find_profile(tx, account, name),
        password_store.find_policy(tx, account),
        tuple(device.serial for device in second_factor_store.devices_of(tx, account, name)),
    )


def _take_code(
    instance: Instance, tx: sa.Connection, user: User, devices: tuple[str, ...], code: str | None, machine_now: datetime
) -> datetime | None:
    if not devices:
        return None
    if code is None:
        raise SignInRefusedError("MFA_CODE_REQUIRED", "Give the code that your MFA device shows, as MfaCode")
    for serial in devices:
        try:
            second_factor.use_code(
                tx, instance.root_key, user.account, user.name, serial, code, machine_now=machine_now
            )
        except WrongCodeError:
            continue
        return machine_now
    raise SignInRefusedError("WRONG_CODE", "The code is wrong, or was used already; wait for the next one")


def _renew(
    tx: sa.Connection, user: User, profile: LoginProfile, policy: PasswordPolicy | None, new: str | None, now: datetime
) -> None:
    """Change the password where it must be: an administrator said so, or it has expired."""
    ends_at = None if policy is None else policy.expires_at(profile.changed_at)
    has_expired = ends_at is not None and ends_at <= now
    if has_expired and policy is not None and policy.hard_expiry:
        raise SignInRefusedError("PASSWORD_EXPIRED", "Your password has expired; an administrator has to set a new one")
    if not has_expired and not profile.reset_required:
        return
    if new is None:
        raise SignInRefusedError("NEW_PASSWORD_REQUIRED", "Choose a new password, and give it as NewPassword")
    if is_password(profile, new):
        raise WeakPasswordError("The new password is the old one")
    change_profile(tx, user.account, user.name, password=new, reset_required=False, now=now)


def _entry(
    instance: Instance,
    request: HttpRequest,
    asked: Mapping[str, Any],
    account: str,
    principal: str,
    refusal: str | None,
    now: datetime,
) -> Entry:
    return Entry(
        at=now,
        account=account,
        region=instance.settings.default_region,
        service="signin",
        operation="ConsoleLogin",
        principal_arn=principal,
        decision=Decision.ALLOWED if refusal is None else Decision.REFUSED,
        reason=refusal or "the user's password was right",
        request_id=new_uuid(),
        source_ip=request.source_ip,
        user_agent=request.headers.get("user-agent", ""),
        parameters={"UserName": asked["UserName"], "MFAUsed": "MfaCode" in asked},
    )
