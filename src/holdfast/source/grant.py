"""What may be touched, decided on locations: by the host's own list, and by the management account's site grants.

Both must agree. The host's list has the last word: the mover asks it again, for the place that it has really opened
(`confined.py`). Holdfast's own directories are never granted, and neither is what the kernel shows as files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from holdfast.core.settings import HostGrant
from holdfast.source.location import Location, file_location, overlaps, place
from holdfast.source.protocol import NotGrantedError

_KERNEL_TREES: Final = tuple(file_location(path) for path in ("/proc", "/sys", "/dev"))


class Purpose(StrEnum):
    """What a place shall be touched for."""

    READ = "read"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class SiteGrant:
    """What the management account lets some accounts read or restore at a site."""

    name: str
    site: str
    place: Location
    accounts: tuple[str, ...]
    unit_id: str | None
    allow_read: bool
    allow_restore: bool
    version: int = 1

    def reaches(self, account: str, unit_path: str) -> bool:
        """Return whether `account`, which stands at `unit_path` (`o-1/r-1/ou-1/`), is one that this is for."""
        return account in self.accounts or (bool(self.unit_id) and self.unit_id in unit_path.split("/"))

    def allows(self, purpose: Purpose) -> bool:
        """Return whether this lets places be touched for `purpose`."""
        return self.allow_read if purpose is Purpose.READ else self.allow_restore


def refuse_own(wanted: Location, own: Iterable[Location]) -> None:
    """Refuse a place that lies in, or holds, one of Holdfast's own, and what the kernel shows as files.

    Raises:
        NotGrantedError: it does.
    """
    if any(overlaps(wanted, mine) for mine in own):
        raise NotGrantedError(
            f"{wanted.key} holds or lies in what belongs to Holdfast itself, which no grant opens; "
            "name a place beside it, not above or below"
        )
    if any(tree.contains(wanted) for tree in _KERNEL_TREES):
        raise NotGrantedError(f"{wanted.key} is shown by the kernel and is no data that could be backed up")


def refuse_unless_host_allows(wanted: Location, purpose: Purpose, grants: Iterable[HostGrant]) -> None:
    """Refuse a place that the host's own list does not name.

    Raises:
        NotGrantedError: no line of it fits; the text says which line would.
    """
    for grant in grants:
        allowed = grant.read if purpose is Purpose.READ else grant.restore
        if allowed and place(grant.url_prefix).contains(wanted):
            return
    raise NotGrantedError(
        f"this host does not allow to {purpose} {wanted.key}: add it, or a place above it, to the host's own grants "
        f"({_how_to_grant(wanted, purpose)}) and start the process again"
    )


def granting(
    wanted: Location, purpose: Purpose, grants: Iterable[SiteGrant], *, site: str, account: str, unit_path: str
) -> SiteGrant:
    """Return the site grant that lets `account` touch a place of `site`.

    Raises:
        NotGrantedError: there is none; the text says what the management account would have to put.
    """
    for grant in grants:
        if (
            grant.site == site
            and grant.allows(purpose)
            and grant.reaches(account, unit_path)
            and grant.place.contains(wanted)
        ):
            return grant
    raise NotGrantedError(
        f"account {account} has no grant to {purpose} {wanted.key} at site {site!r}: ask the management account to "
        f"call PutSiteGrant with Site {site}, a UrlPrefix at or above {wanted.key}, this account or its unit, "
        f"and {'AllowRead' if purpose is Purpose.READ else 'AllowRestore'}"
    )


def _how_to_grant(wanted: Location, purpose: Purpose) -> str:
    return f'[[grant]] url_prefix = "{wanted.key}", {purpose} = true; or --grant for a development server'
