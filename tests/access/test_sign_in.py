"""Passwords, second factors and what is signed in with them: over HTTP, with codes as authenticator apps make them."""

import base64
import csv
import io
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.access.conftest import MEMBER, NOW, OTHER, World
from tests.access.test_attacks import a_user, allow, refused, trusting

from holdfast.access import password
from holdfast.access.model.password import LoginProfile, PasswordPolicy, WeakPasswordError, check_password
from holdfast.access.model.second_factor import Device, accepted_step, code_at, synchronized_step
from holdfast.access.store import raise_access_version

PASSWORD = "Correct-Horse-7"
RFC_SEED = b"12345678901234567890"


class Phone:
    """An authenticator app."""

    def __init__(self, world: World, seed: bytes) -> None:
        self._world = world
        self._app = TOTP(base64.b32decode(seed), 6, SHA1(), 30)  # noqa: S303 - as RFC 6238 has it

    def code(self, *, later: float = 0) -> str:
        return self._app.generate(self._world.machine.now().timestamp() + later).decode()


def a_device(world: World, user: str, *, account: str = MEMBER) -> tuple[str, Phone]:
    """Return the serial number and the app of a device that a user has enabled."""
    iam = world.client("iam", account)
    made = iam.create_virtual_mfa_device(VirtualMFADeviceName=f"phone-of-{user}")["VirtualMFADevice"]
    phone = Phone(world, made["Base32StringSeed"])
    codes = {"AuthenticationCode1": phone.code(later=-60), "AuthenticationCode2": phone.code(later=-30)}
    iam.enable_mfa_device(UserName=user, SerialNumber=made["SerialNumber"], **codes)
    return made["SerialNumber"], phone


@pytest.mark.parametrize(
    ("seconds", "digits"),
    [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")],
)
def test_codes_are_those_of_the_published_examples(seconds: int, digits: str) -> None:
    assert code_at(RFC_SEED, seconds // 30) == digits  # RFC 6238, appendix B: the last six digits


@given(drift=st.integers(-100, 100), used=st.integers(-3, 3), shown=st.integers(-4, 4))
def test_a_code_counts_for_a_minute_and_a_half_and_only_once(drift: int, used: int, shown: int) -> None:
    present = int(NOW.timestamp()) // 30
    device = Device("arn", MEMBER, "maria", NOW, drift, present + drift + used, NOW)
    step = accepted_step(device, RFC_SEED, code_at(RFC_SEED, present + drift + shown), now=NOW)
    fits = -1 <= shown <= 1 and shown > used
    assert step == (present + drift + shown if fits else None)


def test_two_codes_in_a_row_tell_how_far_a_clock_is_off() -> None:
    present = int(NOW.timestamp()) // 30
    for distance in (-120, -1, 0, 7, 120):
        codes = code_at(RFC_SEED, present + distance), code_at(RFC_SEED, present + distance + 1)
        assert synchronized_step(RFC_SEED, *codes, now=NOW) == present + distance + 1
        assert synchronized_step(RFC_SEED, *reversed(codes), now=NOW) is None
    assert synchronized_step(RFC_SEED, code_at(RFC_SEED, present), code_at(RFC_SEED, present), now=NOW) is None


def test_a_second_factor_opens_what_asks_for_one(world: World) -> None:
    with_factor = {"Bool": {"aws:MultiFactorAuthPresent": "true"}, "NumericLessThan": {"aws:MultiFactorAuthAge": "900"}}
    user = a_user(world, "maria", allow("backup:ListBackupJobs", Condition=with_factor), allow("sts:AssumeRole"))
    serial, phone = a_device(world, "maria")
    sts = world.client("sts", user)
    assert "no identity-based policy" in refused(world.client("backup", user).list_backup_jobs)
    plain = sts.get_session_token()["Credentials"]
    assert "no identity-based policy" in refused(world.client("backup", plain).list_backup_jobs)
    code = phone.code()
    session = sts.get_session_token(SerialNumber=serial, TokenCode=code)["Credentials"]
    world.client("backup", session).list_backup_jobs()
    # Each code counts once, also the ones before it.
    for used in (code, phone.code(later=-30)):
        told = refused(sts.get_session_token, SerialNumber=serial, TokenCode=used)
        assert told == "AccessDenied: MultiFactorAuthentication failed with invalid MFA one time pass code."
    world.client("iam", MEMBER).create_role(
        RoleName="Careful", AssumeRolePolicyDocument=trusting({"AWS": MEMBER}, Condition=with_factor)
    )
    role = {"RoleArn": f"arn:aws:iam::{MEMBER}:role/Careful", "RoleSessionName": "careful"}
    assert "no role trust policy allows" in refused(sts.assume_role, **role)
    world.machine.advance(timedelta(seconds=30))
    sts.assume_role(**role, SerialNumber=serial, TokenCode=phone.code())
    world.client("sts", session).assume_role(**role)
    with world.database.transaction() as tx:  # the factor is too old now, though the session goes on
        tx.execute(text("UPDATE session SET mfa_at = mfa_at - 1000000000"))
        raise_access_version(tx)
    assert "no role trust policy allows" in refused(world.client("sts", session).assume_role, **role)


def test_a_device_is_its_users_alone_and_guessing_its_codes_is_slowed_down(world: World) -> None:
    for name in ("maria", "mallory"):
        a_user(world, name)
    user = a_user(world, "other")
    serial, phone = a_device(world, "maria")
    sts = world.client("sts", user)
    assert "AccessDenied" in refused(sts.get_session_token, SerialNumber=serial, TokenCode=phone.code())
    assert "AccessDenied" in refused(sts.get_session_token, SerialNumber=serial)
    told = {
        refused(sts.get_session_token, SerialNumber=serial, TokenCode=f"{n:06}").partition(":")[0] for n in range(12)
    }
    assert told == {"AccessDenied", "Throttling"}
    iam = world.client("iam", MEMBER)
    wrong = {"SerialNumber": serial, "AuthenticationCode1": "000000", "AuthenticationCode2": "000001"}
    assert refused(iam.resync_mfa_device, UserName="maria", **wrong).startswith("InvalidAuthenticationCode")
    assert refused(iam.resync_mfa_device, UserName="mallory", **wrong).startswith("NoSuchEntity")
    assert refused(iam.enable_mfa_device, UserName="mallory", **wrong).startswith("EntityAlreadyExists")
    assert refused(world.client("iam", OTHER).get_mfa_device, SerialNumber=serial).startswith("AccessDenied")
    assert refused(iam.delete_virtual_mfa_device, SerialNumber=serial).startswith("DeleteConflict")
    (device,) = iam.list_mfa_devices(UserName="maria")["MFADevices"]
    assert (device["SerialNumber"], device["EnableDate"]) == (serial, NOW)
    assert iam.list_virtual_mfa_devices(AssignmentStatus="Unassigned")["VirtualMFADevices"] == []
    iam.resync_mfa_device(
        UserName="maria",
        SerialNumber=serial,
        AuthenticationCode1=phone.code(later=300),
        AuthenticationCode2=phone.code(later=330),
    )
    iam.deactivate_mfa_device(UserName="maria", SerialNumber=serial)
    iam.delete_virtual_mfa_device(SerialNumber=serial)
    assert iam.list_virtual_mfa_devices()["VirtualMFADevices"] == []


def test_a_device_comes_with_a_picture_for_authenticator_apps(world: World) -> None:
    iam = world.client("iam", MEMBER)
    made = iam.create_virtual_mfa_device(VirtualMFADeviceName="phone", Tags=[{"Key": "team", "Value": "red"}])
    device = made["VirtualMFADevice"]
    assert device["QRCodePNG"].startswith(b"\x89PNG\r\n\x1a\n")
    assert len(base64.b32decode(device["Base32StringSeed"])) == 20
    assert refused(iam.create_virtual_mfa_device, VirtualMFADeviceName="phone").startswith("EntityAlreadyExists")
    iam.untag_mfa_device(SerialNumber=device["SerialNumber"], TagKeys=["team"])
    iam.tag_mfa_device(SerialNumber=device["SerialNumber"], Tags=[{"Key": "kind", "Value": "virtual"}])
    tags = iam.list_mfa_device_tags(SerialNumber=device["SerialNumber"])["Tags"]
    assert tags == [{"Key": "kind", "Value": "virtual"}]
    assert device["Base32StringSeed"].decode() not in str(world.trail())


def sign_in(world: World, **asked: Any) -> tuple[int, Mapping[str, Any]]:
    """Return the status and the answer of signing in."""
    return world.post("/_holdfast/signin", {"Account": MEMBER, "Password": PASSWORD, **asked})


def test_a_user_signs_in_with_password_and_second_factor(world: World) -> None:
    iam = world.client("iam", MEMBER)
    a_user(world, "maria", allow("backup:ListBackupJobs"))
    iam.create_login_profile(UserName="maria", Password=PASSWORD)
    iam.create_account_alias(AccountAlias="team-red")
    assert iam.list_account_aliases()["AccountAliases"] == ["team-red"]
    status, made = sign_in(world, UserName="maria", Account="team-red", DurationSeconds=900)
    assert (status, made["Account"], made["Arn"]) == (200, MEMBER, f"arn:aws:iam::{MEMBER}:user/maria")
    world.client("backup", made).list_backup_jobs()
    serial, phone = a_device(world, "maria")
    status, told = sign_in(world, UserName="maria")
    assert (status, told["reason"]) == (401, "MFA_CODE_REQUIRED")
    code = phone.code()
    assert sign_in(world, UserName="maria", MfaCode=code)[0] == 200
    assert sign_in(world, UserName="maria", MfaCode=code)[1]["reason"] == "WRONG_CODE"
    kinds = [(entry.operation, entry.decision) for entry in world.trail() if entry.service == "signin"]
    allowed, denied = ("ConsoleLogin", "ALLOWED"), ("ConsoleLogin", "REFUSED")
    assert kinds == [denied, allowed, denied, allowed]
    assert not [entry for entry in world.trail() if PASSWORD in f"{entry.parameters} {entry.reason}"]
    report = iam.generate_credential_report() and iam.get_credential_report()["Content"].decode()
    rows = {row["user"]: row for row in csv.DictReader(io.StringIO(report))}
    assert (rows["maria"]["password_enabled"], rows["maria"]["mfa_active"]) == ("true", "true")
    assert rows["maria"]["password_last_used"] == NOW.isoformat()
    summary = iam.get_account_summary()["SummaryMap"]
    assert (summary["Users"], summary["MFADevicesInUse"], summary["AccountAccessKeysPresent"]) == (1, 1, 1)
    assert serial in iam.list_virtual_mfa_devices()["VirtualMFADevices"][0]["SerialNumber"]


def test_a_refused_sign_in_does_not_tell_who_exists(world: World) -> None:
    iam = world.client("iam", MEMBER)
    for name in ("maria", "keyless"):
        a_user(world, name)
    iam.create_login_profile(UserName="maria", Password=PASSWORD)
    asked: list[dict[str, Any]] = [
        {"UserName": "maria", "Password": "wrong"},
        {"UserName": "keyless"},
        {"UserName": "nobody"},
        {"UserName": "maria", "Account": OTHER},
        {"UserName": "maria", "Account": "000000000000"},
    ]
    answers = {str(sign_in(world, **each)) for each in asked}
    assert len(answers) == 1
    assert "401" in answers.pop()


def test_every_refusal_of_a_password_does_the_whole_work(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    class Counting:
        def verify(self, encoded: str, given: str) -> bool:
            compared.append((encoded.split("$")[1:4], given))
            return bool(password_hasher.verify(encoded, given))

    password_hasher = password._HASHER
    profile = LoginProfile(MEMBER, "maria", password_hasher.hash(PASSWORD), (), False, NOW, NOW)
    password._nobodys()
    monkeypatch.setattr(password, "_HASHER", Counting())
    assert [password.is_password(each, "wrong") for each in (profile, None)] == [False, False]
    assert compared[0] == compared[1]  # the same parameters: it takes as long


def test_who_guesses_a_password_is_made_to_wait(world: World) -> None:
    a_user(world, "maria")
    world.client("iam", MEMBER).create_login_profile(UserName="maria", Password=PASSWORD)
    statuses = [sign_in(world, UserName="maria", Password=f"wrong {n}")[0] for n in range(10)]
    assert statuses == [401] * 10
    status, told = sign_in(world, UserName="maria")  # even the right one now
    assert (status, told["reason"]) == (429, "TOO_MANY_ATTEMPTS")
    world.machine.advance(timedelta(minutes=2))
    assert sign_in(world, UserName="maria")[0] == 200


def test_pages_of_other_origins_cannot_sign_anybody_in(world: World) -> None:
    a_user(world, "maria")
    world.client("iam", MEMBER).create_login_profile(UserName="maria", Password=PASSWORD)
    body = {"Account": MEMBER, "UserName": "maria", "Password": PASSWORD}
    own = {"Origin": world.url, "Sec-Fetch-Site": "same-origin"}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {**own, "Sec-Fetch-Site": "cross-site"},
        {**own, "Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
    ):
        assert world.post("/_holdfast/signin", body, headers)[0] == 403
    assert world.post("/_holdfast/signin", body, own)[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"\xff", {"UserName": 7}, {"DurationSeconds": 1}, {"DurationSeconds": True}, {"Odd": ""}],
    ids=str,
)
def test_what_is_no_sign_in_is_named(world: World, body: Any) -> None:
    full = {"Account": MEMBER, "UserName": "maria", "Password": PASSWORD}
    status, told = world.post(
        "/_holdfast/signin", body if isinstance(body, bytes) or len(body) > 5 else {**full, **body}
    )
    assert status in {400, 401}
    assert told["reason"] in {"MALFORMED", "WRONG"}


def test_a_password_given_by_somebody_else_is_changed_first(world: World) -> None:
    iam = world.client("iam", MEMBER)
    a_user(world, "maria")
    iam.create_login_profile(UserName="maria", Password=PASSWORD, PasswordResetRequired=True)
    assert iam.get_login_profile(UserName="maria")["LoginProfile"]["PasswordResetRequired"] is True
    assert sign_in(world, UserName="maria")[1]["reason"] == "NEW_PASSWORD_REQUIRED"
    for weak in (PASSWORD, "short"):
        assert sign_in(world, UserName="maria", NewPassword=weak)[1]["reason"] == "WEAK_PASSWORD"
    assert sign_in(world, UserName="maria", NewPassword="Battery-Staple-8")[0] == 200
    assert sign_in(world, UserName="maria")[1]["reason"] == "WRONG"
    assert sign_in(world, UserName="maria", Password="Battery-Staple-8")[0] == 200
    iam.delete_login_profile(UserName="maria")
    assert sign_in(world, UserName="maria", Password="Battery-Staple-8")[0] == 401
    assert refused(iam.get_login_profile, UserName="maria").startswith("NoSuchEntity")


def test_an_account_asks_of_passwords_what_it_likes(world: World) -> None:
    iam = world.client("iam", MEMBER)
    assert refused(iam.get_account_password_policy).startswith("NoSuchEntity")
    user = a_user(world, "maria")
    own = world.client("iam", user)
    iam.create_login_profile(UserName="maria", Password=PASSWORD)
    change = {"OldPassword": PASSWORD, "NewPassword": "Battery-Staple-8"}
    assert "iam:ChangePassword" in refused(own.change_password, **change)
    iam.update_account_password_policy(
        MinimumPasswordLength=12,
        RequireSymbols=True,
        AllowUsersToChangePassword=True,
        PasswordReusePrevention=2,
        MaxPasswordAge=90,
    )
    shown = iam.get_account_password_policy()["PasswordPolicy"]
    assert (shown["MinimumPasswordLength"], shown["ExpirePasswords"], shown["RequireNumbers"]) == (12, True, False)
    assert refused(own.change_password, **{**change, "OldPassword": "wrong"}).startswith("AccessDenied")
    for weak in ("Battery-8", "BatteryStaple88", PASSWORD):
        assert refused(own.change_password, OldPassword=PASSWORD, NewPassword=weak).startswith(
            "PasswordPolicyViolation"
        )
    own.change_password(**change)
    back = {"OldPassword": "Battery-Staple-8", "NewPassword": PASSWORD}
    assert "may not come back" in refused(own.change_password, **back)
    assert refused(iam.change_password, **back).startswith("InvalidUserType")
    iam.update_login_profile(UserName="maria", Password="Third-Password-9")
    own.change_password(OldPassword="Third-Password-9", NewPassword=PASSWORD)
    told = {refused(own.change_password, **change | {"OldPassword": "guess"}).partition(":")[0] for _ in range(12)}
    assert told == {"AccessDenied", "Throttling"}
    iam.delete_account_password_policy()
    assert refused(iam.delete_account_password_policy).startswith("NoSuchEntity")


def test_a_password_expires_by_civil_time(world: World) -> None:
    iam = world.client("iam", MEMBER)
    a_user(world, "maria")
    iam.create_login_profile(UserName="maria", Password=PASSWORD)
    iam.update_account_password_policy(MaxPasswordAge=30)
    assert sign_in(world, UserName="maria")[0] == 200
    world.clock.advance(timedelta(days=30))
    assert sign_in(world, UserName="maria")[1]["reason"] == "NEW_PASSWORD_REQUIRED"
    iam.update_account_password_policy(MaxPasswordAge=30, HardExpiry=True)
    assert sign_in(world, UserName="maria", NewPassword="Battery-Staple-8")[1]["reason"] == "PASSWORD_EXPIRED"


@pytest.mark.parametrize(
    ("password_", "lacks"),
    [
        ("Short-1", "at least 8 characters"),
        ("alllowercase", "three of"),
        ("Maria-User-1", "something else"),
    ],
)
def test_without_a_policy_the_common_rule_holds(password_: str, lacks: str) -> None:
    with pytest.raises(WeakPasswordError, match=lacks):
        check_password(password_, None, user_name="maria-user-1")
    check_password(PASSWORD, None, user_name="maria")


@given(
    password_=st.text(min_size=6, max_size=20),
    policy=st.builds(PasswordPolicy, st.integers(6, 12), *[st.booleans()] * 4),
)
def test_what_one_policy_takes_a_laxer_one_takes_too(password_: str, policy: PasswordPolicy) -> None:
    try:
        check_password(password_, policy, user_name="maria")
    except WeakPasswordError:
        return
    check_password(password_, PasswordPolicy(), user_name="maria")


def test_an_alias_is_one_accounts_alone(world: World) -> None:
    iam = world.client("iam", MEMBER)
    iam.create_account_alias(AccountAlias="team-red")
    other = world.client("iam", OTHER)
    assert refused(other.create_account_alias, AccountAlias="team-red").startswith("EntityAlreadyExists")
    assert refused(other.delete_account_alias, AccountAlias="team-red").startswith("NoSuchEntity")
    assert refused(iam.create_account_alias, AccountAlias="111122223333").startswith("InvalidInput")
    iam.create_account_alias(AccountAlias="team-blue")
    iam.delete_account_alias(AccountAlias="team-blue")
    other.create_account_alias(AccountAlias="team-red")
    assert iam.list_account_aliases()["AccountAliases"] == []


def test_a_user_with_password_or_second_factor_is_not_deleted(world: World) -> None:
    iam = world.client("iam", MEMBER)
    iam.create_user(UserName="maria")
    iam.create_login_profile(UserName="maria", Password=PASSWORD)
    assert "login profile" in refused(iam.delete_user, UserName="maria")
    iam.delete_login_profile(UserName="maria")
    serial, _ = a_device(world, "maria")
    assert "MFA devices" in refused(iam.delete_user, UserName="maria")
    iam.deactivate_mfa_device(UserName="maria", SerialNumber=serial)
    iam.delete_user(UserName="maria")


def test_what_is_denied_of_passwords_stays_denied(world: World) -> None:
    denial = {"Effect": "Deny", "Action": "iam:ChangePassword", "Resource": "*"}
    user = a_user(world, "maria", denial)
    iam = world.client("iam", MEMBER)
    iam.create_login_profile(UserName="maria", Password=PASSWORD)
    iam.update_account_password_policy(AllowUsersToChangePassword=True)
    own = world.client("iam", user)
    told = refused(own.change_password, OldPassword=PASSWORD, NewPassword="Battery-Staple-8")
    assert "explicit deny in an identity-based policy" in told
