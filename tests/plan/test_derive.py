"""From an effective policy to the plans of an account."""

from datetime import timedelta
from typing import Any

import pytest

from holdfast.plan.model.derive import derive_plans, rules_of
from holdfast.plan.model.plan import Lifecycle
from holdfast.plan.model.selection import Operator, TagTerm

DOCUMENT: dict[str, Any] = {
    "plans": {
        "daily": {
            "regions": ["eu-north-1", "us-east-1"],
            "rules": {
                "night": {
                    "schedule_expression": "cron(0 3 ? * * *)",
                    "start_backup_window_minutes": "60",
                    "target_backup_vault_name": "Central",
                    "lifecycle": {"delete_after_days": "30", "move_to_cold_storage_after_days": "7"},
                    "copy_actions": {
                        "arn:aws:backup:us-east-1:$account:backup-vault:second": {
                            "target_backup_vault_arn": "arn:aws:backup:us-east-1:$account:backup-vault:Second",
                            "lifecycle": {"delete_after_days": "90"},
                        }
                    },
                    "recovery_point_tags": {"owner": {"tag_key": "Owner", "tag_value": "Backup"}},
                },
                "plain": {"target_backup_vault_name": "Central"},
            },
            "selections": {
                "tags": {
                    "pii": {
                        "iam_role_arn": "arn:aws:iam::$account:role/Backup",
                        "tag_key": "dataType",
                        "tag_value": ["PII", "RED"],
                        "conditions": {
                            "string_not_equals": {
                                "c": {"condition_key": "aws:ResourceTag/stage", "condition_value": "test"}
                            }
                        },
                    }
                },
                "resources": {"all": {"iam_role_arn": "arn:aws:iam::$account:role/Backup", "resource_types": ["*"]}},
            },
            "advanced_backup_settings": {"ec2": {"windows_vss": "enabled"}},
        },
        "elsewhere": {"regions": ["eu-west-1"], "rules": {}, "selections": {}},
    }
}


def plans(document: dict[str, Any] = DOCUMENT, account: str = "111122223333", region: str = "eu-north-1") -> Any:
    return derive_plans(document, organization_id="o-aaaaaaaaaa", account=account, region=region)


def test_a_plan_appears_in_each_region_it_lists() -> None:
    assert [plan.name for plan in plans()] == ["daily"]
    assert [plan.name for plan in plans(region="eu-west-1")] == ["elsewhere"]
    assert plans(region="ap-south-1") == []


def test_account_and_region_are_filled_in() -> None:
    plan = plans()[0]
    assert plan.id.startswith("orgs/")
    assert plan.arn == f"arn:aws:backup:eu-north-1:111122223333:backup-plan:{plan.id}"
    assert {selection.role_arn for selection in plan.selections} == {"arn:aws:iam::111122223333:role/Backup"}
    assert plan.rules[0].copies[0].vault_arn == "arn:aws:backup:us-east-1:111122223333:backup-vault:Second"


def test_strings_become_values_and_what_is_left_out_gets_its_default() -> None:
    night, plain = plans()[0].rules
    assert night.start_window == timedelta(hours=1)
    assert night.lifecycle == Lifecycle(cold_after_days=7, delete_after_days=30)
    assert night.recovery_point_tags == {"Owner": "Backup"}
    assert plain.schedule == "cron(0 5 ? * * *)"
    assert plain.start_window == timedelta(hours=8)
    assert plain.completion_window == timedelta(days=7)


def test_selections_by_tag_and_by_type() -> None:
    by_type, by_tag = plans()[0].selections
    assert by_tag.selection.tags == (TagTerm("dataType", "PII"), TagTerm("dataType", "RED"))
    assert by_tag.selection.conditions[0].operator is Operator.NOT_EQUALS
    assert by_type.selection.resources == ("*",)


def test_ids_are_the_same_each_time_and_differ_between_accounts_and_regions() -> None:
    assert plans()[0] == plans()[0]
    ids = {
        plans(account=account, region=region)[0].id
        for account in ("111122223333", "444455556666")
        for region in ("eu-north-1", "us-east-1")
    }
    assert len(ids) == 4


def test_an_edit_keeps_the_id_and_makes_a_new_version() -> None:
    edited = {"plans": {"daily": {**DOCUMENT["plans"]["daily"], "regions": ["eu-north-1"]}}}
    before, after = plans()[0], plans(edited)[0]
    assert (before.id, before.rules[0].id) == (after.id, after.rules[0].id)
    assert before.version_id != after.version_id
    assert len(before.version_id) == 48


def test_the_scheduler_sees_rules_before_an_account_is_known() -> None:
    rules = dict(rules_of(DOCUMENT, "daily"))
    assert rules["night"].copies[0].vault_arn == "arn:aws:backup:us-east-1:$account:backup-vault:Second"


@pytest.mark.parametrize("region", ["cn-north-1"])
def test_the_partition_is_that_of_the_region(region: str) -> None:
    document = {"plans": {"daily": {**DOCUMENT["plans"]["daily"], "regions": [region]}}}
    assert plans(document, region=region)[0].arn.startswith("arn:aws-cn:backup:")
