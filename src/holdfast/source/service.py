"""Registering what can be backed up, granting places to accounts, and keeping the secrets of connectors."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from holdfast.core.arn import partition_of
from holdfast.core.errors import DeniedError, InvalidInputError
from holdfast.core.seal import RootKey
from holdfast.core.settings import LOCAL_SITE, HostGrant, Settings
from holdfast.database.facts import OPERATOR, recalled
from holdfast.database.outbox import publish
from holdfast.organization.service.membership import find_membership, membership_of
from holdfast.organization.service.tree import get_parent, placement_of
from holdfast.source import store
from holdfast.source.confined import own_places, refuse_links
from holdfast.source.grant import Purpose, SiteGrant, granting, refuse_own, refuse_unless_host_allows
from holdfast.source.location import Location, Scheme, location, server_location
from holdfast.source.model import (
    InvalidResourceError,
    LocationTakenError,
    Resource,
    Secret,
    UnknownObjectError,
    UnknownResourceError,
    derived_arn,
    refuse_bad_arn,
    refuse_bad_tags,
    refuse_if_changed,
    refuse_unreadable,
)
from holdfast.source.protocol import SourceSecret
from holdfast.source.restore_metadata import SECRET_KEY, database_restore, file_restore, refuse_bad_restore

RESOURCE_CHANGED: Final = "ResourceChanged"
_SEAL: Final = "source secret"
_LONGEST_NAME: Final = 128
WEB_PORTS: Final = {"https": 443, "http": 80}
"""Secrets of these schemes sign what is sent to a receiver of events."""

ClassOf = Callable[[str, str, Mapping[str, str]], int]
"""Gives the id of the class of resources with a type, region and tags; the assessment station keeps them."""


class NotTheManagerError(DeniedError):
    """Only the management account grants places."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What PutResource was given."""

    name: str
    type: str
    source_url: str
    site: str
    arn: str | None = None
    secret_name: str | None = None
    tags: Mapping[str, str] | None = None
    """None leaves the tags of a known resource as they are."""


@dataclass(frozen=True, slots=True)
class Dated:
    """A grant, and when it was first and last put."""

    grant: SiteGrant
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RestorePlace:
    """Where a restore goes."""

    url: str
    secret: SourceSecret | None
    secret_name: str | None = None
    existing_arn: str | None = None
    """The resource that is restored into; None where the restore makes one."""


def put_resource(
    tx: sa.Connection,
    settings: Settings,
    account: str,
    region: str,
    wanted: Registration,
    *,
    class_of: ClassOf,
    expected_version: int | None = None,
    extra_grants: Iterable[SiteGrant] = (),
    now: datetime,
) -> Resource:
    """Register a resource, or change the one of this name.

    Args:
        tx: the open transaction.
        settings: for the sites there are, and Holdfast's own places.
        account: whose it is.
        region: where.
        wanted: what to register.
        class_of: gives the class of a type, region and tags.
        expected_version: refuse unless the known one has this version; 0 means that there is none.
        extra_grants: grants besides those in the database, as a development server has.
        now: civil time.

    Raises:
        InvalidResourceError: type, URL, site, ARN or secret do not fit together.
        NotGrantedError: no grant lets the account read the place, or it is Holdfast's own.
        LocationTakenError: another account has registered the place or one that overlaps it.
        VersionChangedError: it has another version than was expected.
    """
    source = location(wanted.source_url)
    refuse_unreadable(wanted.type, source)
    if not settings.site_serves(wanted.site, region):
        raise InvalidResourceError(f"there is no site {wanted.site!r} for region {region}")
    granting(
        source,
        Purpose.READ,
        [*(dated.grant for dated in list_grants(tx, manager_of(tx, account))), *extra_grants],
        site=wanted.site,
        account=account,
        unit_path=unit_path_of(tx, account),
    )
    if wanted.site == LOCAL_SITE:
        # The movers of this very host ask the same again; here it is told before anything is scheduled.
        refuse_own(source, own_places(settings.own))
        refuse_unless_host_allows(source, Purpose.READ, settings.host_grants)
        refuse_links(source)
    store.lock_site(tx, wanted.site)
    _refuse_foreign(tx, account, wanted.site, source)
    known = store.find_by_name(tx, account, region, wanted.name)
    refuse_if_changed(wanted.name, 0 if known is None else known.version, expected_version)
    arn = wanted.arn or (
        known.arn
        if known is not None
        else derived_arn(
            wanted.type,
            wanted.name,
            source,
            account=account,
            region=region,
            partition=partition_of(region),
            site=wanted.site,
        )
    )
    refuse_bad_arn(arn, wanted.type, account=account, region=region)
    if known is not None and (known.arn, known.type) != (arn, wanted.type):
        raise InvalidResourceError(
            f"{wanted.name} is {known.arn} of type {known.type}; these never change. Delete it, or choose another name"
        )
    formerly = store.find_by_arn(tx, account, region, arn)
    if known is None and formerly is not None and formerly[1]:
        raise InvalidResourceError(f"{arn} is registered already, under the name {formerly[0].name!r}")
    tags = dict(wanted.tags) if wanted.tags is not None else dict(known.tags if known is not None else {})
    refuse_bad_tags(tags)
    if wanted.secret_name is not None:
        _fitting_secret(tx, account, region, wanted.secret_name, source, wanted.site)
    elif source.scheme is not Scheme.FILE:
        raise InvalidResourceError(
            f"{source.key} is read with a secret; put one with PutSecret and give its SecretName"
        )
    if known is not None and _is_as_wanted(known, wanted, source, tags):
        return known
    publish(tx, RESOURCE_CHANGED, {"account": account, "region": region, "arn": arn}, at=now)
    store.write_resource(
        tx,
        known=known or (None if formerly is None else formerly[0]),
        account=account,
        region=region,
        arn=arn,
        type_name=wanted.type,
        name=wanted.name,
        source_url=source.url,
        place=source,
        site=wanted.site,
        secret_name=wanted.secret_name,
        class_id=class_of(wanted.type, region, tags),
        now=now,
    )
    return get_resource_by_name(tx, account, region, wanted.name)


def register_restored(
    tx: sa.Connection,
    account: str,
    region: str,
    *,
    type_name: str,
    url: str,
    site: str,
    secret_name: str | None,
    tags: Mapping[str, str],
    job_id: str,
    class_of: ClassOf,
    now: datetime,
) -> str | None:
    """Register what a restore has made, so that it can itself be backed up; return its ARN.

    It is named after its directory or database, with the job's id where that name is taken; what is registered at that
    place already stays as it is. None if the place has become another account's meanwhile.
    """
    made = location(url)
    store.lock_site(tx, site)
    known = store.find_by_place(tx, account, region, site, made)
    if known is not None:
        return known.arn
    if store.foreign_overlap(tx, account, site, made) is not None:
        return None
    last = made.path[-1].decode(errors="replace") if made.path else type_name
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", last)[:_LONGEST_NAME]
    derive = partial(
        derived_arn, type_name, account=account, region=region, partition=partition_of(region), site=site, place=made
    )
    formerly = store.find_by_arn(tx, account, region, derive(name=name))
    if store.find_by_name(tx, account, region, name) is not None or (formerly is not None and formerly[1]):
        name = f"{name[: _LONGEST_NAME - len(job_id) - 1]}-{job_id}"
        formerly = store.find_by_arn(tx, account, region, derive(name=name))
    arn = derive(name=name)
    publish(tx, RESOURCE_CHANGED, {"account": account, "region": region, "arn": arn}, at=now)
    store.write_resource(
        tx,
        known=None if formerly is None else formerly[0],
        account=account,
        region=region,
        arn=arn,
        type_name=type_name,
        name=name,
        source_url=made.url,
        place=made,
        site=site,
        secret_name=secret_name,
        class_id=class_of(type_name, region, tags),
        now=now,
    )
    return arn


def _is_as_wanted(known: Resource, wanted: Registration, source: Location, tags: Mapping[str, str]) -> bool:
    return (known.source_url, known.site, known.secret_name, known.tags) == (
        source.url,
        wanted.site,
        wanted.secret_name,
        tags,
    )


def _refuse_foreign(tx: sa.Connection, account: str, site: str, wanted: Location) -> None:
    if store.foreign_overlap(tx, account, site, wanted) is not None:
        raise LocationTakenError(
            f"{wanted.key} belongs to another account, which has registered it or a place that overlaps it; "
            "a place has one owner"
        )


def find_resource(tx: sa.Connection, account: str, region: str, arn: str) -> Resource | None:
    """Return the resource with this ARN, None when it is not registered."""
    found = store.find_by_arn(tx, account, region, arn)
    return found[0] if found is not None and found[1] else None


def get_resource(tx: sa.Connection, account: str, region: str, arn: str) -> Resource:
    """Return the resource with this ARN.

    Raises:
        UnknownResourceError: it is not registered in this account and region.
    """
    found = find_resource(tx, account, region, arn)
    if found is None:
        raise UnknownResourceError(f"{arn} is not registered in account {account}, region {region}; use PutResource")
    return found


def get_resource_by_name(tx: sa.Connection, account: str, region: str, name: str) -> Resource:
    """Return the resource with this name.

    Raises:
        UnknownResourceError: there is none.
    """
    found = store.find_by_name(tx, account, region, name)
    if found is None:
        raise UnknownResourceError(f"there is no resource {name!r} in account {account}, region {region}")
    return found


def list_resources(
    tx: sa.Connection, account: str, region: str, *, type_name: str = "", after: str = "", limit: int
) -> list[Resource]:
    """Return resources by name, at most `limit` of those after `after`."""
    return store.list_resources(tx, account, region, type_name=type_name, after=after, limit=limit)


def delete_resource(
    tx: sa.Connection, account: str, region: str, name: str, *, expected_version: int | None, now: datetime
) -> None:
    """Take a resource out of the register; its recovery points stay.

    Raises:
        UnknownResourceError: there is none of this name.
        VersionChangedError: it has another version than was expected.
    """
    known = get_resource_by_name(tx, account, region, name)
    refuse_if_changed(name, known.version, expected_version)
    store.delete_resource(tx, known.id, now)
    publish(tx, RESOURCE_CHANGED, {"account": account, "region": region, "arn": known.arn}, at=now)


def set_resource_tags(
    tx: sa.Connection, resource: Resource, tags: Mapping[str, str], *, class_of: ClassOf, now: datetime
) -> None:
    """Give a resource these tags and no others."""
    refuse_bad_tags(tags)
    if dict(tags) == dict(resource.tags):
        return
    source = location(resource.source_url)
    body = {"account": resource.account, "region": resource.region, "arn": resource.arn}
    publish(tx, RESOURCE_CHANGED, body, at=now)
    store.write_resource(
        tx,
        known=resource,
        account=resource.account,
        region=resource.region,
        arn=resource.arn,
        type_name=resource.type,
        name=resource.name,
        source_url=resource.source_url,
        place=source,
        site=resource.site,
        secret_name=resource.secret_name,
        class_id=class_of(resource.type, resource.region, tags),
        now=now,
    )


def tags_of_resource(tx: sa.Connection, account: str, region: str, arn: str) -> dict[str, str]:
    """Return the tags of a resource, none when it is not registered any more."""
    found = find_resource(tx, account, region, arn)
    return {} if found is None else dict(found.tags)


def manager_of(tx: sa.Connection, account: str) -> str:
    """Return who grants places to an account: its organization's management account; nobody, if it is in none."""
    membership = find_membership(tx, account)
    return "" if membership is None else membership.organization.management_account


def unit_path_of(tx: sa.Connection, account: str) -> str:
    """Return where an account stands, as `o-1/r-1/ou-1/`; empty when it is in no organization."""
    placement = placement_of(tx, account)
    return "" if placement is None else placement.path


def put_grant(
    tx: sa.Connection,
    settings: Settings,
    account: str,
    grant: SiteGrant,
    *,
    expected_version: int | None,
    now: datetime,
) -> Dated:
    """Put a grant, as the account that grants.

    Raises:
        NotTheManagerError: the account manages no organization.
        ParentNotFoundError: there is no such unit.
        InvalidInputError: there is no such site, or the grant is for nobody or nothing.
        NotGrantedError: the place holds or lies in Holdfast's own.
        VersionChangedError: it has another version than was expected.
    """
    _refuse_member(tx, account)
    if grant.site not in settings.sites:
        raise InvalidInputError(f"there is no site {grant.site!r}; there are {', '.join(settings.sites)}")
    if not grant.accounts and not grant.unit_id:
        raise InvalidInputError("a grant is for Accounts, for a UnitId and everything below it, or for both")
    if not grant.allow_read and not grant.allow_restore:
        raise InvalidInputError("a grant allows to read, to restore, or both: set AllowRead or AllowRestore")
    if grant.site == LOCAL_SITE:
        # A grant of what holds Holdfast's own directories is no harm: these stay closed inside it.
        refuse_own(grant.place, [mine for mine in own_places(settings.own) if mine.contains(grant.place)])
    if grant.unit_id:
        get_parent(tx, membership_of(tx, account).organization, grant.unit_id)
    known = store.find_grant(tx, account, grant.name)
    refuse_if_changed(grant.name, 0 if known is None else known[0].version, expected_version)
    store.put_grant(tx, account, grant, now)
    return get_grant(tx, account, grant.name)


def get_grant(tx: sa.Connection, manager: str, name: str) -> Dated:
    """Return a grant.

    Raises:
        UnknownObjectError: there is none of this name.
    """
    found = store.find_grant(tx, manager, name)
    if found is None:
        raise UnknownObjectError(f"there is no site grant {name!r}")
    return Dated(*found)


def list_grants(tx: sa.Connection, manager: str) -> list[Dated]:
    """Return the grants of a manager by name."""
    return [Dated(*found) for found in store.grants(tx, manager)]


def delete_grant(tx: sa.Connection, account: str, name: str, *, expected_version: int | None) -> None:
    """Take a grant back; jobs under way go on, later ones are refused.

    Raises:
        NotTheManagerError: the account manages no organization.
        UnknownObjectError: there is none of this name.
    """
    _refuse_member(tx, account)
    refuse_if_changed(name, get_grant(tx, account, name).grant.version, expected_version)
    store.delete_grant(tx, account, name)


def grants_of(tx: sa.Connection, account: str, site: str, purpose: Purpose) -> tuple[HostGrant, ...]:
    """Return what the grants let an account touch at a site for a purpose, as a mover is told of it."""
    unit_path = unit_path_of(tx, account)
    return tuple(
        HostGrant(dated.grant.place.key, dated.grant.allow_read, dated.grant.allow_restore)
        for dated in list_grants(tx, manager_of(tx, account))
        if dated.grant.site == site and dated.grant.allows(purpose) and dated.grant.reaches(account, unit_path)
    )


def put_secret(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    region: str,
    secret: Secret,
    value: str | None,
    *,
    expected_version: int | None,
) -> Secret:
    """Keep a secret, sealed under the root key; without a value the known one keeps its own.

    Raises:
        InvalidInputError: there is no value, where the secret may be used changes without a new one, or scheme, host
            and port name no server.
        VersionChangedError: it has another version than was expected.
    """
    if secret.scheme in WEB_PORTS:
        secret = replace(secret, host=secret.host.lower(), port=secret.port or WEB_PORTS[secret.scheme])
    else:
        place = server_location(secret.scheme, secret.host, secret.port)
        secret = replace(secret, scheme=place.scheme.value, host=place.host, port=place.port)
    known = store.find_secret(tx, account, region, secret.name)
    refuse_if_changed(secret.name, 0 if known is None else known.version, expected_version)
    if value is None and known is None:
        raise InvalidInputError("a new secret needs a Value")
    if value is None and known is not None:
        if known.context != secret.context:
            raise InvalidInputError("a secret that is to be used elsewhere needs its Value again")
        sealed = known.sealed
    else:
        sealed = root_key.seal(_SEAL, (value or "").encode(), context=secret.context)
    version = 1 if known is None else known.version + 1
    stored = replace(secret, sealed=sealed, version=version)
    store.put_secret(tx, stored, stored.updated_at)
    return get_secret(tx, account, region, secret.name)


def get_secret(tx: sa.Connection, account: str, region: str, name: str) -> Secret:
    """Return a secret, still sealed.

    Raises:
        UnknownObjectError: there is none of this name.
    """
    found = store.find_secret(tx, account, region, name)
    if found is None:
        raise UnknownObjectError(f"there is no secret {name!r} in account {account}, region {region}")
    return found


def list_secrets(tx: sa.Connection, account: str, region: str, *, after: str = "", limit: int) -> list[Secret]:
    """Return secrets by name, still sealed."""
    return store.list_secrets(tx, account, region, after=after, limit=limit)


def delete_secret(tx: sa.Connection, account: str, region: str, name: str, *, expected_version: int | None) -> None:
    """Forget a secret.

    Raises:
        UnknownObjectError: there is none of this name.
        InvalidInputError: a resource uses it.
    """
    known = get_secret(tx, account, region, name)
    refuse_if_changed(name, known.version, expected_version)
    user = store.user_of_secret(tx, account, region, name)
    if user is not None:
        raise InvalidInputError(f"the secret {name!r} is used by the resource {user!r}; give that another one first")
    store.delete_secret(tx, account, region, name)


def web_secret(tx: sa.Connection, root_key: RootKey, account: str, region: str, name: str, url: str) -> bytes:
    """Return the secret that signs what is sent to a URL.

    Raises:
        UnknownObjectError: there is none of this name.
        InvalidResourceError: it is not for this scheme, host and port.
    """
    found = get_secret(tx, account, region, name)
    parts = urlsplit(url)
    if (found.scheme, found.host, found.port) != (
        parts.scheme,
        parts.hostname,
        parts.port or WEB_PORTS.get(parts.scheme),
    ):
        raise InvalidResourceError(
            f"the secret {name!r} is for {found.scheme}://{found.host}:{found.port}, not for {url}"
        )
    return _opened(root_key, found).password.encode()


def open_secret(tx: sa.Connection, root_key: RootKey, resource: Resource) -> SourceSecret | None:
    """Return username and value of the secret that a resource is read with, None when it needs none.

    Raises:
        InvalidResourceError: the secret is gone, or is not for this place.
    """
    if resource.secret_name is None:
        return None
    source = location(resource.source_url)
    return _opened(
        root_key, _fitting_secret(tx, resource.account, resource.region, resource.secret_name, source, resource.site)
    )


def restore_place(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    region: str,
    *,
    type_name: str,
    resource_arn: str,
    metadata: Mapping[str, str],
    site: str = LOCAL_SITE,
) -> RestorePlace:
    """Return where a restore with this metadata goes, and the secret for it.

    Raises:
        InvalidInputError: the metadata does not say where, or makes no sense.
        NotRestoredError: recovery points of this type are not restored.
        InvalidResourceError: the secret is not for the server that is restored to.
        LocationTakenError: the place belongs to another account.
        UnknownResourceError: it names a file system, or came from a database server, that is not registered any more.
    """
    refuse_bad_restore(type_name, metadata)
    if type_name == "EFS":
        asked = file_restore(metadata)
        target, arn = asked.target, None
        if target is None:
            # Of this account, wherever the recovery point was copied from.
            arn = f"arn:{partition_of(region)}:elasticfilesystem:{region}:{account}:file-system/{asked.file_system_id}"
            target = location(get_resource(tx, account, region, arn).source_url)
        _refuse_foreign(tx, account, site, target)
        return RestorePlace(target.url, None, existing_arn=arn)
    wanted = database_restore(metadata)
    original = find_resource(tx, account, region, resource_arn)
    if wanted.target is not None:
        target = wanted.target
    else:
        target = wanted.place(location(get_resource(tx, account, region, resource_arn).source_url))
    _refuse_foreign(tx, account, site, target)
    name = wanted.secret_name or (None if original is None else original.secret_name)
    if name is None:
        raise InvalidResourceError(
            f"{resource_arn} is not registered any more, so the restore has to name a secret for {target.key}, "
            f"as {SECRET_KEY}"
        )
    # Checked against the server that is restored to: a restore must not carry a password to another one.
    secret = _opened(root_key, _fitting_secret(tx, account, region, name, target, site))
    return RestorePlace(target.url, secret, name)


def _refuse_member(tx: sa.Connection, account: str) -> None:
    manager = manager_of(tx, account)
    if not manager:
        # An account that left must not grant itself what it could reach before.
        raise NotTheManagerError(
            f"account {account} is in no organization; places are granted by an organization's management account, "
            "so create one first with CreateOrganization"
        )
    if manager != account:
        raise NotTheManagerError(f"grants are put by the management account {manager}, not by account {account}")
    operator = recalled(tx, OPERATOR)
    if operator not in {None, account}:
        # Anybody may found an organization; only the installation's own says what its hosts give away.
        raise NotTheManagerError(
            f"places of this installation are granted by account {operator}, which runs it, and by nobody else"
        )


def _fitting_secret(tx: sa.Connection, account: str, region: str, name: str, source: Location, site: str) -> Secret:
    found = store.find_secret(tx, account, region, name)
    if found is None:
        raise InvalidResourceError(f"there is no secret {name!r} in account {account}, region {region}; use PutSecret")
    if not found.fits(source, site):
        raise InvalidResourceError(
            f"the secret {name!r} is for {found.scheme}://{found.host}:{found.port or ''} at site {found.site}, "
            f"and not for {source.key} at site {site}"
        )
    return found


def _opened(root_key: RootKey, secret: Secret) -> SourceSecret:
    return SourceSecret(secret.username, root_key.unseal(_SEAL, secret.sealed, context=secret.context).decode())


def change_root_key(tx: sa.Connection, old: RootKey, new: RootKey) -> int:
    """Seal every secret under another root key; return how many there were."""
    found = store.every_secret(tx)
    opened = [(secret, old.unseal(_SEAL, secret.sealed, context=secret.context)) for secret in found]
    store.reseal_secrets(
        tx, [replace(secret, sealed=new.seal(_SEAL, value, context=secret.context)) for secret, value in opened]
    )
    return len(found)
