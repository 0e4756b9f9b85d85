"""Settings on the `backup` API: resource types per region, the organization's global settings."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.assessment import settings
from holdfast.plan.model.resource_type import RESOURCE_TYPES
from holdfast.wire.call import Call, Handler


def describe_region_settings(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Say which resource types are switched on in the region."""
    opted, managed = settings.region_settings(call.tx, call.caller.account, call.region)
    return {"ResourceTypeOptInPreference": opted, "ResourceTypeManagementPreference": managed}


def update_region_settings(call: Call, shape: dict[str, Any]) -> None:
    """Switch resource types on or off; what is not named stays as it is."""
    settings.update_region_settings(
        call.tx,
        call.caller.account,
        call.region,
        opt_in=shape.get("ResourceTypeOptInPreference", {}),
        management=shape.get("ResourceTypeManagementPreference", {}),
        now=call.now,
    )


def describe_global_settings(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Give the organization's global settings."""
    values, changed_at = settings.global_settings(call.tx, call.caller.account)
    return {"GlobalSettings": values, "LastUpdateTime": changed_at}


def update_global_settings(call: Call, shape: dict[str, Any]) -> None:
    """Change the organization's global settings."""
    settings.update_global_settings(call.tx, call.caller.account, shape.get("GlobalSettings", {}), now=call.now)


def get_supported_resource_types(_call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """List the resource types that can be backed up here."""
    return {"ResourceTypes": sorted(RESOURCE_TYPES)}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "DescribeRegionSettings": describe_region_settings,
    "UpdateRegionSettings": update_region_settings,
    "DescribeGlobalSettings": describe_global_settings,
    "UpdateGlobalSettings": update_global_settings,
    "GetSupportedResourceTypes": get_supported_resource_types,
}
