"""Tags of registered resources on the `resourcegroupstaggingapi` API: how tag selections come to find them."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from holdfast.access.tag import check_tags
from holdfast.assessment.store import intern_class
from holdfast.core.errors import HoldfastError, InvalidInputError
from holdfast.plan.model.resource_type import RESOURCE_TYPES
from holdfast.source import service
from holdfast.source.model import Resource
from holdfast.wire.call import Call, Handler

_PAGE: Final = 50
_READ_AT_ONCE: Final = 500


def get_resources(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List resources with their tags, filtered by tags, types or ARNs."""
    filters = {name: shape.get(name) for name in ("TagFilters", "ResourceTypeFilters", "ResourceARNList")}
    limit = shape.get("ResourcesPerPage", _PAGE)
    after = call.page_position(filters, shape.get("PaginationToken") or None) or ""
    found: list[Resource] = []
    for resource in _all(call, after):
        if _fits(resource, shape):
            found.append(resource)
        if len(found) > limit:
            break
    return {
        "ResourceTagMappingList": [
            {"ResourceARN": resource.arn, "Tags": [{"Key": k, "Value": v} for k, v in sorted(resource.tags.items())]}
            for resource in found[:limit]
        ],
        "PaginationToken": call.page_token(filters, found[limit - 1].name if len(found) > limit else None) or "",
    }


def get_tag_keys(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tag keys in use."""
    return _strings(call, shape, "TagKeys", {key for resource in _all(call) for key in resource.tags})


def get_tag_values(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the values that a tag key has."""
    key = shape["Key"]
    return _strings(call, shape, "TagValues", {found.tags[key] for found in _all(call) if key in found.tags})


def tag_resources(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Add tags to resources; what could not be tagged is listed with the reason."""
    tags = check_tags(shape["Tags"].items())
    return _change(call, shape["ResourceARNList"], lambda present: {**present, **tags})


def untag_resources(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Take tags from resources; what could not be changed is listed with the reason."""
    keys = set(shape["TagKeys"])
    return _change(call, shape["ResourceARNList"], lambda present: {k: v for k, v in present.items() if k not in keys})


def _change(call: Call, arns: list[str], changed: Any) -> dict[str, Any]:
    failed: dict[str, dict[str, Any]] = {}
    for arn in arns:
        try:
            resource = service.get_resource(call.tx, call.caller.account, call.region, arn)
            service.set_resource_tags(
                call.tx, resource, changed(resource.tags), class_of=partial(intern_class, call.tx), now=call.now
            )
        except HoldfastError as error:
            failed[arn] = {"StatusCode": 400, "ErrorCode": "InvalidParameterException", "ErrorMessage": str(error)}
    return {"FailedResourcesMap": failed}


def _all(call: Call, after: str = "") -> Iterator[Resource]:
    while True:
        page = service.list_resources(call.tx, call.caller.account, call.region, after=after, limit=_READ_AT_ONCE)
        yield from page
        if len(page) < _READ_AT_ONCE:
            return
        after = page[-1].name


def _fits(resource: Resource, shape: Mapping[str, Any]) -> bool:
    arns = shape.get("ResourceARNList")
    if arns and resource.arn not in arns:
        return False
    for wanted in shape.get("TagFilters", ()):
        values = wanted.get("Values") or ()
        if wanted.get("Key") not in resource.tags or (values and resource.tags[wanted["Key"]] not in values):
            return False
    types = shape.get("ResourceTypeFilters")
    return not types or any(_is_of(resource, wanted) for wanted in types)


def _is_of(resource: Resource, wanted: str) -> bool:
    # `elasticfilesystem`, or `elasticfilesystem:file-system`
    service_name, _, kind = wanted.partition(":")
    of = RESOURCE_TYPES[resource.type]
    return of.service == service_name and (not kind or of.prefix.rstrip("/:") == kind)


def _strings(call: Call, shape: Mapping[str, Any], member: str, found: set[str]) -> dict[str, Any]:
    token = shape.get("PaginationToken") or None
    filters = {"Key": shape.get("Key")}
    after = call.page_position(filters, token) or ""
    if not isinstance(after, str):
        raise InvalidInputError("the pagination token is of another list")
    rest = sorted(value for value in found if value > after)
    return {
        member: rest[:_READ_AT_ONCE],
        "PaginationToken": call.page_token(filters, rest[_READ_AT_ONCE - 1] if len(rest) > _READ_AT_ONCE else None)
        or "",
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "GetResources": get_resources,
    "GetTagKeys": get_tag_keys,
    "GetTagValues": get_tag_values,
    "TagResources": tag_resources,
    "UntagResources": untag_resources,
}
