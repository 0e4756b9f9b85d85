"""Passwords and second factors of users on the `iam` API."""

import io
from base64 import b32encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import segno

from holdfast.access import password, password_store, second_factor, second_factor_store
from holdfast.access.model.identity import IdentityNotFoundError
from holdfast.access.model.password import LoginProfile, NoUserError, PasswordPolicy, WrongPasswordError
from holdfast.access.model.second_factor import Device
from holdfast.access.service import get_user
from holdfast.access.store import raise_access_version
from holdfast.access.tag import check_tags, put_tags, remove_tags, tags_of
from holdfast.core.errors import InvalidInputError
from holdfast.wire.call import Call, Handler
from holdfast.wire.iam_page import page_of

_POLICY_MEMBERS: Final = {
    "MinimumPasswordLength": "minimum_length",
    "RequireSymbols": "symbols",
    "RequireNumbers": "numbers",
    "RequireUppercaseCharacters": "upper_case",
    "RequireLowercaseCharacters": "lower_case",
    "AllowUsersToChangePassword": "users_may_change",
    "MaxPasswordAge": "max_age_days",
    "PasswordReusePrevention": "reuse_prevention",
    "HardExpiry": "hard_expiry",
}


def user_name(call: Call, shape: dict[str, Any]) -> str:
    """Return the user that a request names, or the caller.

    Raises:
        InvalidInputError: it names none and the caller is no user.
    """
    name = shape.get("UserName") or call.caller.name
    if name is None:
        raise InvalidInputError("Must specify userName when calling with non-User credentials")
    return str(name)


def _profile_to_wire(profile: LoginProfile) -> dict[str, Any]:
    return {
        "UserName": profile.user_name,
        "CreateDate": profile.created_at,
        "PasswordResetRequired": profile.reset_required,
    }


def create_login_profile(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a user a password."""
    if "Password" not in shape:
        raise InvalidInputError("Password must be given")
    profile = password.create_profile(
        call.tx,
        call.caller.account,
        user_name(call, shape),
        shape["Password"],
        reset_required=shape.get("PasswordResetRequired", False),
        now=call.now,
    )
    return {"LoginProfile": _profile_to_wire(profile)}


def get_login_profile(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell whether, and since when, a user has a password."""
    profile = password.get_profile(call.tx, call.caller.account, user_name(call, shape))
    return {"LoginProfile": _profile_to_wire(profile)}


def update_login_profile(call: Call, shape: dict[str, Any]) -> None:
    """Give a user another password, or ask them to choose one."""
    password.change_profile(
        call.tx,
        call.caller.account,
        shape["UserName"],
        password=shape.get("Password"),
        reset_required=shape.get("PasswordResetRequired"),
        now=call.now,
    )


def delete_login_profile(call: Call, shape: dict[str, Any]) -> None:
    """Take a user's password away."""
    password.delete_profile(call.tx, call.caller.account, user_name(call, shape))


def change_password(call: Call, shape: dict[str, Any]) -> None:
    """Choose another password for oneself; who guesses the old one is made to wait."""
    if call.caller.name is None:
        raise NoUserError("Only IAM Users can change their own password.")
    guesses = call.instance.guesses
    guesses.refuse_if_too_many(call.caller.principal_arn, "password")
    try:
        password.change_own_password(
            call.tx, call.caller.account, call.caller.name, shape["OldPassword"], shape["NewPassword"], now=call.now
        )
    except WrongPasswordError:
        guesses.failed(call.caller.principal_arn, "password")
        raise


def update_account_password_policy(call: Call, shape: dict[str, Any]) -> None:
    """Say what the account asks of passwords; what is not said is set back."""
    given = {name: shape[member] for member, name in _POLICY_MEMBERS.items() if member in shape}
    password_store.put_policy(call.tx, call.caller.account, PasswordPolicy(**given))


def get_account_password_policy(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Tell what the account asks of passwords."""
    policy = password_store.find_policy(call.tx, call.caller.account)
    if policy is None:
        raise IdentityNotFoundError(f"The Password Policy with domain name {call.caller.account} cannot be found.")
    shown = {member: getattr(policy, name) for member, name in _POLICY_MEMBERS.items()}
    return {"PasswordPolicy": {**shown, "ExpirePasswords": policy.max_age_days is not None}}


def delete_account_password_policy(call: Call, _shape: dict[str, Any]) -> None:
    """Ask of passwords what is asked everywhere."""
    if not password_store.delete_policy(call.tx, call.caller.account):
        raise IdentityNotFoundError("The account policy with name PasswordPolicy cannot be found.")


def _tags(call: Call, serial: str) -> list[dict[str, str]]:
    found = tags_of(call.tx, call.caller.account, "", serial)
    return [{"Key": key, "Value": value} for key, value in found.items()]


def create_virtual_mfa_device(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a virtual device; its seed, also as a picture for authenticator apps, is shown this once."""
    tags = check_tags([(tag["Key"], tag["Value"]) for tag in shape.get("Tags") or ()])
    device, seed = second_factor.create_device(
        call.tx,
        call.instance.root_key,
        call.caller.account,
        shape["VirtualMFADeviceName"],
        path=shape.get("Path", "/"),
        partition=call.partition,
        now=call.now,
    )
    put_tags(call.tx, call.caller.account, "", device.serial, tags)
    text = b32encode(seed)
    label = quote(f"Holdfast:{shape['VirtualMFADeviceName']}@{call.caller.account}", safe=":@")
    picture = io.BytesIO()
    segno.make(f"otpauth://totp/{label}?secret={text.decode()}&issuer=Holdfast", micro=False).save(
        picture, kind="png", scale=5
    )
    return {
        "VirtualMFADevice": {
            "SerialNumber": device.serial,
            "Base32StringSeed": text,
            "QRCodePNG": picture.getvalue(),
            "Tags": _tags(call, device.serial) or None,
        }
    }


def _codes(shape: dict[str, Any]) -> tuple[str, str]:
    return shape["AuthenticationCode1"], shape["AuthenticationCode2"]


def enable_mfa_device(call: Call, shape: dict[str, Any]) -> None:
    """Give a device to a user."""
    second_factor.enable_device(
        call.tx,
        call.instance.root_key,
        call.caller.account,
        shape["UserName"],
        shape["SerialNumber"],
        _codes(shape),
        now=call.now,
        machine_now=call.instance.machine.now(),
    )


def resync_mfa_device(call: Call, shape: dict[str, Any]) -> None:
    """Learn how far a device's clock is off."""
    second_factor.resync_device(
        call.tx,
        call.instance.root_key,
        call.caller.account,
        shape["UserName"],
        shape["SerialNumber"],
        _codes(shape),
        machine_now=call.instance.machine.now(),
    )


def deactivate_mfa_device(call: Call, shape: dict[str, Any]) -> None:
    """Take a device away from its user."""
    second_factor.deactivate_device(call.tx, call.caller.account, user_name(call, shape), shape["SerialNumber"])


def delete_virtual_mfa_device(call: Call, shape: dict[str, Any]) -> None:
    """Delete a device that is nobody's."""
    second_factor.delete_device(call.tx, call.caller.account, shape["SerialNumber"])


def _device_to_wire(device: Device) -> dict[str, Any]:
    return {"UserName": device.user_name, "SerialNumber": device.serial, "EnableDate": device.enabled_at}


def get_mfa_device(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a device of a user."""
    device = second_factor.get_device(call.tx, call.caller.account, shape["SerialNumber"])
    if "UserName" in shape and device.user_name != shape["UserName"]:
        raise IdentityNotFoundError(f"MFA device {device.serial} is not enabled for the user {shape['UserName']}.")
    return _device_to_wire(device)


def list_mfa_devices(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the devices of a user, or of the caller."""
    account = call.caller.account
    user = get_user(call.tx, account, user_name(call, shape))
    page = page_of(call, shape, {"user": user.name})
    found = page.cut(second_factor_store.devices_of(call.tx, account, user.name), lambda device: device.serial)
    return page.answer("MFADevices", found, lambda device: device.serial, _device_to_wire)


def list_virtual_mfa_devices(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the account's virtual devices."""
    wanted = shape.get("AssignmentStatus", "Any")
    page = page_of(call, shape, {"status": wanted})
    devices = [
        device
        for device in second_factor_store.devices_of(call.tx, call.caller.account)
        if wanted == "Any" or (device.user_name is not None) == (wanted == "Assigned")
    ]
    found = page.cut(devices, lambda device: device.serial)
    return page.answer("VirtualMFADevices", found, lambda device: device.serial, lambda each: _virtual(call, each))


def _virtual(call: Call, device: Device) -> dict[str, Any]:
    shown: dict[str, Any] = {"SerialNumber": device.serial, "EnableDate": device.enabled_at}
    if device.user_name is not None:
        user = get_user(call.tx, call.caller.account, device.user_name)
        shown["User"] = {
            "Path": user.path,
            "UserName": user.name,
            "UserId": user.id,
            "Arn": user.arn,
            "CreateDate": user.created_at,
        }
    return shown


def tag_mfa_device(call: Call, shape: dict[str, Any]) -> None:
    """Tag a device."""
    device = second_factor.get_device(call.tx, call.caller.account, shape["SerialNumber"])
    tags = check_tags([(tag["Key"], tag["Value"]) for tag in shape["Tags"]])
    put_tags(call.tx, call.caller.account, "", device.serial, tags)
    raise_access_version(call.tx)


def untag_mfa_device(call: Call, shape: dict[str, Any]) -> None:
    """Take tags off a device."""
    device = second_factor.get_device(call.tx, call.caller.account, shape["SerialNumber"])
    remove_tags(call.tx, call.caller.account, "", device.serial, shape["TagKeys"])
    raise_access_version(call.tx)


def list_mfa_device_tags(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a device."""
    device = second_factor.get_device(call.tx, call.caller.account, shape["SerialNumber"])
    return {"Tags": _tags(call, device.serial), "IsTruncated": False}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "ChangePassword": change_password,
    "CreateLoginProfile": create_login_profile,
    "CreateVirtualMFADevice": create_virtual_mfa_device,
    "DeactivateMFADevice": deactivate_mfa_device,
    "DeleteAccountPasswordPolicy": delete_account_password_policy,
    "DeleteLoginProfile": delete_login_profile,
    "DeleteVirtualMFADevice": delete_virtual_mfa_device,
    "EnableMFADevice": enable_mfa_device,
    "GetAccountPasswordPolicy": get_account_password_policy,
    "GetLoginProfile": get_login_profile,
    "GetMFADevice": get_mfa_device,
    "ListMFADeviceTags": list_mfa_device_tags,
    "ListMFADevices": list_mfa_devices,
    "ListVirtualMFADevices": list_virtual_mfa_devices,
    "ResyncMFADevice": resync_mfa_device,
    "TagMFADevice": tag_mfa_device,
    "UntagMFADevice": untag_mfa_device,
    "UpdateAccountPasswordPolicy": update_account_password_policy,
    "UpdateLoginProfile": update_login_profile,
}
