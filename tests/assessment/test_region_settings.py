"""Which types of resources a region takes, and what storage it has, as boto3 sees them."""

from tests.running import REGION, Running, found_organization, join, refusal


def test_each_account_switches_types_on_and_off_for_itself_in_each_region(dev: Running) -> None:
    found_organization(dev)
    shop, abroad = join(dev, "shop").client("backup"), join(dev, "lab", region="us-east-1").client("backup")
    types = shop.get_supported_resource_types()["ResourceTypes"]
    assert {"EFS", "RDS"} <= set(types)
    assert shop.describe_region_settings()["ResourceTypeOptInPreference"] == dict.fromkeys(types, True)
    shop.update_region_settings(
        ResourceTypeOptInPreference={"EFS": False}, ResourceTypeManagementPreference={"DynamoDB": True}
    )
    shop.update_region_settings(ResourceTypeOptInPreference={"RDS": False})
    told = shop.describe_region_settings()
    del told["ResponseMetadata"]
    off = {name for name, is_on in told["ResourceTypeOptInPreference"].items() if not is_on}
    assert off == {"EFS", "RDS"}
    assert told["ResourceTypeManagementPreference"] == {"DynamoDB": True, "EFS": True}
    assert all(abroad.describe_region_settings()["ResourceTypeOptInPreference"].values())
    code, words = refusal(shop.update_region_settings, ResourceTypeOptInPreference={"EFS": True, "Floppy": True})
    assert (code, "Floppy" in words) == ("InvalidParameterValueException", True)
    again = shop.describe_region_settings()
    assert {name: again[name] for name in told} == told


def test_the_storage_of_a_region_is_told_by_name(dev: Running) -> None:
    holdfast = dev.client("holdfast")
    pages = holdfast.get_paginator("list_storages").paginate(PaginationConfig={"PageSize": 1})
    (storage,) = [storage for page in pages for storage in page["Storages"] if REGION in storage["Regions"]]
    assert holdfast.describe_storage(Name=storage["Name"])["Storage"] == storage
    assert storage["FaultDomain"]
    assert refusal(holdfast.describe_storage, Name="nowhere")[0] == "ResourceNotFoundException"
