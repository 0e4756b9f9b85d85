"""Second factors: one-time passwords that change with time, as authenticator apps show them.

Rules: RFC 6238, "TOTP: Time-Based One-Time Password Algorithm" (SHA-1, six digits, thirty seconds); RFC 4226, section
7.4, "Resynchronization of the Counter"; AWS Identity and Access Management User Guide, "Assign a virtual MFA device".
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from holdfast.core.errors import DeniedError

SEED_BYTES: Final = 20
STEP_SECONDS: Final = 30
_NEIGHBOURS: Final = 1
"""How many steps before and after the present one still count: clocks differ and people type slowly."""
_SEARCHED: Final = 120
"""How many steps off a device's clock may be when two codes in a row are given: an hour."""


class WrongCodeError(DeniedError):
    """A one-time password is not the device's, or was taken already."""


@dataclass(frozen=True, slots=True)
class Device:
    """A virtual device: a seed that a server and an authenticator app share."""

    serial: str
    """Its ARN."""
    account: str
    user_name: str | None
    """Whose it is; None while nobody has enabled it."""
    enabled_at: datetime | None
    drift: int
    """How many steps its clock is ahead of ours."""
    last_step: int
    """The newest step whose code was taken."""
    created_at: datetime


def step_of(now: datetime) -> int:
    """Return the number of the time step that an instant is in."""
    return int(now.timestamp()) // STEP_SECONDS


def code_at(seed: bytes, step: int) -> str:
    """Return the six digits that a device with this seed shows during a time step."""
    made = TOTP(seed, 6, SHA1(), STEP_SECONDS, enforce_key_length=False)  # noqa: S303 - as RFC 6238 and the apps have it
    return made.generate(step * STEP_SECONDS).decode()


def accepted_step(device: Device, seed: bytes, code: str, *, now: datetime) -> int | None:
    """Return the time step whose code this is, None if it is wrong, too old, or not newer than the last one taken."""
    present = step_of(now) + device.drift
    steps = range(present - _NEIGHBOURS, present + _NEIGHBOURS + 1)
    return _matching(seed, code, (step for step in steps if step > device.last_step))


def synchronized_step(seed: bytes, first: str, second: str, *, now: datetime) -> int | None:
    """Return the time step of `second`, when the two are codes of steps in a row within an hour of now; else None."""
    present = step_of(now)
    for distance in range(_SEARCHED + 1):
        for step in {present - distance, present + distance}:
            if _same(code_at(seed, step), first) and _same(code_at(seed, step + 1), second):
                return step + 1
    return None


def _matching(seed: bytes, code: str, steps: Iterable[int]) -> int | None:
    found = None
    for step in steps:  # all of them, whichever fits
        if _same(code_at(seed, step), code):
            found = step
    return found


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))
