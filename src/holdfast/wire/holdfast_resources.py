"""Resources, grants, secrets and storages on the `holdfast` API."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from holdfast.access.tag import check_tags, clear_tags, put_tags, tags_of
from holdfast.assessment.store import intern_class
from holdfast.core.errors import InvalidInputError, NotFoundError
from holdfast.core.settings import LOCAL_SITE, Mode, StorageSettings
from holdfast.database.facts import OPERATOR, recalled
from holdfast.organization.service.membership import find_membership, reader_of
from holdfast.source import service
from holdfast.source.grant import SiteGrant
from holdfast.source.location import place
from holdfast.source.model import InvalidResourceError, Resource, Secret
from holdfast.source.service import Dated, Registration
from holdfast.wire.call import Call, Handler

_PAGE: Final = 100


class UnknownAccountError(NotFoundError):
    """The organization has no such account."""


class UnknownStorageError(NotFoundError):
    """There is no such storage in the configuration."""


def put_resource(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Register a resource, or change the one of this name."""
    wanted = Registration(
        name=shape["Name"],
        type=shape["ResourceType"],
        source_url=shape["SourceUrl"],
        site=shape.get("Site", LOCAL_SITE),
        arn=shape.get("ResourceArn"),
        secret_name=shape.get("SecretName"),
        tags=_tags(shape),
    )
    resource = service.put_resource(
        call.tx,
        call.instance.settings,
        call.caller.account,
        call.region,
        wanted,
        class_of=partial(intern_class, call.tx),
        expected_version=_expected(shape),
        extra_grants=development_grants(call),
        now=call.now,
    )
    return {"Resource": resource_to_wire(resource)}


def describe_resource(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a resource."""
    found = service.get_resource_by_name(call.tx, call.caller.account, call.region, shape["Name"])
    return {"Resource": resource_to_wire(found)}


def list_resources(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List resources in the region by name: the caller's, or those of an account of the organization it may read."""
    wanted = shape.get("AccountId", call.caller.account)
    if wanted != call.caller.account:
        refuse_stranger(call, wanted)
    filters = {"type": shape.get("ResourceType", ""), "account": wanted}
    limit = shape.get("MaxResults", _PAGE)
    found = service.list_resources(
        call.tx,
        wanted,
        call.region,
        type_name=filters["type"],
        after=call.page_position(filters, shape.get("NextToken")) or "",
        limit=limit + 1,
    )
    return {
        "Resources": [resource_to_wire(resource) for resource in found[:limit]],
        "NextToken": call.page_token(filters, found[limit - 1].name if len(found) > limit else None),
    }


def refuse_stranger(call: Call, account: str) -> None:
    """Refuse to show anything of an account that is not of the organization the caller reads.

    Raises:
        DeniedError: the caller reads nobody's but its own.
        UnknownAccountError: the organization has no such account.
    """
    organization = reader_of(call.tx, call.caller.account)
    theirs = find_membership(call.tx, account)
    if theirs is None or theirs.organization.id != organization.id:
        raise UnknownAccountError(f"there is no account {account} in organization {organization.id}")


def delete_resource(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Take a resource out of the register; its recovery points stay."""
    service.delete_resource(
        call.tx,
        call.caller.account,
        call.region,
        shape["Name"],
        expected_version=_expected(shape),
        now=call.now,
    )
    return {}


def put_site_grant(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Grant a place to accounts."""
    grant = SiteGrant(
        name=shape["Name"],
        site=shape["Site"],
        place=place(shape["UrlPrefix"]),
        accounts=tuple(shape.get("Accounts", ())),
        unit_id=shape.get("UnitId"),
        allow_read=shape.get("AllowRead", False),
        allow_restore=shape.get("AllowRestore", False),
    )
    dated = service.put_grant(
        call.tx,
        call.instance.settings,
        call.caller.account,
        grant,
        expected_version=_expected(shape),
        now=call.now,
    )
    _retag(call, _grant_arn(call, grant.name), shape)
    return {"SiteGrant": _grant_to_wire(call, dated)}


def describe_site_grant(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a grant of the caller's manager."""
    manager = service.manager_of(call.tx, call.caller.account)
    return {"SiteGrant": _grant_to_wire(call, service.get_grant(call.tx, manager, shape["Name"]))}


def list_site_grants(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the grants of the caller's manager by name."""
    manager = service.manager_of(call.tx, call.caller.account)
    filters = {"site": shape.get("Site")}
    after = call.page_position(filters, shape.get("NextToken")) or ""
    found = [
        dated
        for dated in service.list_grants(call.tx, manager)
        if dated.grant.name > after and filters["site"] in {None, dated.grant.site}
    ]
    limit = shape.get("MaxResults", _PAGE)
    return {
        "SiteGrants": [_grant_to_wire(call, dated) for dated in found[:limit]],
        "NextToken": call.page_token(filters, found[limit - 1].grant.name if len(found) > limit else None),
    }


def delete_site_grant(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Take a grant back."""
    service.delete_grant(call.tx, call.caller.account, shape["Name"], expected_version=_expected(shape))
    clear_tags(call.tx, call.caller.account, "", _grant_arn(call, shape["Name"]))
    return {}


def put_secret(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Keep a secret for one scheme, host, port and site."""
    if re.fullmatch(r"[^:]*:\d+", shape["Host"]):
        raise InvalidResourceError(f"Host {shape['Host']!r} names a port, too; give that as Port")
    secret = Secret(
        account=call.caller.account,
        region=call.region,
        name=shape["Name"],
        username=shape.get("Username", ""),
        scheme=shape["Scheme"],
        host=shape["Host"],
        port=shape.get("Port"),
        site=shape.get("Site", LOCAL_SITE),
        version=0,
        created_at=call.now,
        updated_at=call.now,
        sealed=b"",
    )
    stored = service.put_secret(
        call.tx,
        call.instance.root_key,
        call.caller.account,
        call.region,
        secret,
        shape.get("Value"),
        expected_version=_expected(shape),
    )
    _retag(call, _secret_arn(call, secret.name), shape)
    return {"Secret": _secret_to_wire(call, stored)}


def describe_secret(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a secret; its value is never shown."""
    found = service.get_secret(call.tx, call.caller.account, call.region, shape["Name"])
    return {"Secret": _secret_to_wire(call, found)}


def list_secrets(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the caller's secrets in the region by name."""
    limit = shape.get("MaxResults", _PAGE)
    after = call.page_position({}, shape.get("NextToken")) or ""
    found = service.list_secrets(call.tx, call.caller.account, call.region, after=after, limit=limit + 1)
    return {
        "Secrets": [_secret_to_wire(call, secret) for secret in found[:limit]],
        "NextToken": call.page_token({}, found[limit - 1].name if len(found) > limit else None),
    }


def delete_secret(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Forget a secret that no resource uses."""
    service.delete_secret(call.tx, call.caller.account, call.region, shape["Name"], expected_version=_expected(shape))
    clear_tags(call.tx, call.caller.account, call.region, _secret_arn(call, shape["Name"]))
    return {}


def describe_storage(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a storage of the configuration."""
    found = call.instance.settings.storages.get(shape["Name"])
    if found is None:
        raise UnknownStorageError(f"there is no storage {shape['Name']!r} in the configuration")
    return {"Storage": _storage_to_wire(call, found)}


def list_storages(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the storages of the configuration by name."""
    found = sorted(call.instance.settings.storages.values(), key=lambda storage: storage.name)
    after = call.page_position({}, shape.get("NextToken")) or ""
    rest = [storage for storage in found if storage.name > after]
    limit = shape.get("MaxResults", _PAGE)
    return {
        "Storages": [_storage_to_wire(call, storage) for storage in rest[:limit]],
        "NextToken": call.page_token({}, rest[limit - 1].name if len(rest) > limit else None),
    }


def development_grants(call: Call) -> list[SiteGrant]:
    """Return what a development server grants every account: its sandbox, and what its command line names."""
    settings = call.instance.settings
    if settings.mode is not Mode.DEV:
        return []
    account = call.caller.account
    return [
        SiteGrant("development", site, place(grant.url_prefix), (account,), None, grant.read, grant.restore)
        for grant in settings.host_grants
        for site in settings.sites
    ]


def resource_to_wire(resource: Resource) -> dict[str, Any]:
    """Return a resource as DescribeResource shows it."""
    return {
        "Name": resource.name,
        "ResourceArn": resource.arn,
        "ResourceType": resource.type,
        "AccountId": resource.account,
        "Region": resource.region,
        "SourceUrl": resource.source_url,
        "Site": resource.site,
        "SecretName": resource.secret_name,
        "Tags": dict(resource.tags),
        "Version": str(resource.version),
        "CreatedAt": resource.created_at,
        "UpdatedAt": resource.updated_at,
    }


def _grant_to_wire(call: Call, dated: Dated) -> dict[str, Any]:
    grant = dated.grant
    arn = _grant_arn(call, grant.name)
    return {
        "Name": grant.name,
        "GrantArn": arn,
        "Site": grant.site,
        "UrlPrefix": grant.place.key,
        "Accounts": list(grant.accounts),
        "UnitId": grant.unit_id,
        "AllowRead": grant.allow_read,
        "AllowRestore": grant.allow_restore,
        "Tags": dict(tags_of(call.tx, arn.split(":")[4], "", arn)),
        "Version": str(grant.version),
        "CreatedAt": dated.created_at,
        "UpdatedAt": dated.updated_at,
    }


def _secret_to_wire(call: Call, secret: Secret) -> dict[str, Any]:
    arn = _secret_arn(call, secret.name)
    return {
        "Name": secret.name,
        "SecretArn": arn,
        "Username": secret.username,
        "Scheme": secret.scheme,
        "Host": secret.host,
        "Port": secret.port,
        "Site": secret.site,
        "Tags": dict(tags_of(call.tx, secret.account, secret.region, arn)),
        "Version": str(secret.version),
        "CreatedAt": secret.created_at,
        "UpdatedAt": secret.updated_at,
    }


def _storage_to_wire(call: Call, storage: StorageSettings) -> dict[str, Any]:
    regions = call.instance.settings.regions
    return {
        "Name": storage.name,
        # Where it lies is the operator's business; members see what fails together with what.
        "Url": storage.url if recalled(call.tx, OPERATOR) in {None, call.caller.account} else None,
        "FaultDomain": storage.fault_domain,
        "Regions": sorted(name for name, of in regions.items() if of == storage.name),
        "ObjectLock": False,
        "AppendOnly": False,
    }


def _grant_arn(call: Call, name: str) -> str:
    manager = service.manager_of(call.tx, call.caller.account)
    return f"arn:{call.partition}:holdfast::{manager}:site-grant/{name}"


def _secret_arn(call: Call, name: str) -> str:
    return f"arn:{call.partition}:holdfast:{call.region}:{call.caller.account}:secret/{name}"


def _expected(shape: Mapping[str, Any]) -> int | None:
    text = shape.get("ExpectedVersion")
    if text is None:
        return None
    if not text.isdecimal():
        raise InvalidInputError(
            f"ExpectedVersion {text!r} is no version that was ever given; 0 means that there is none"
        )
    return int(text)


def _tags(shape: Mapping[str, Any]) -> dict[str, str] | None:
    given = shape.get("Tags")
    return None if given is None else check_tags(given.items())


def _retag(call: Call, arn: str, shape: Mapping[str, Any]) -> None:
    tags = _tags(shape)
    if tags is not None:
        _, _, _, region, account, _ = arn.split(":", 5)
        clear_tags(call.tx, account, region, arn)
        put_tags(call.tx, account, region, arn, tags)


OPERATIONS: Final[Mapping[str, Handler]] = {
    "PutResource": put_resource,
    "DescribeResource": describe_resource,
    "ListResources": list_resources,
    "DeleteResource": delete_resource,
    "PutSiteGrant": put_site_grant,
    "DescribeSiteGrant": describe_site_grant,
    "ListSiteGrants": list_site_grants,
    "DeleteSiteGrant": delete_site_grant,
    "PutSecret": put_secret,
    "DescribeSecret": describe_secret,
    "ListSecrets": list_secrets,
    "DeleteSecret": delete_secret,
    "DescribeStorage": describe_storage,
    "ListStorages": list_storages,
}
