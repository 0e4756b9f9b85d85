"""Admission: which documents are stored as policies, and what is said about the others."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.builders import (
    CONTROL,
    COPY,
    FULL_POLICY,
    NOW,
    REGIONS,
    ROLE,
    a_plan,
    a_policy,
    a_rule,
    a_selection,
    assign,
    json_values,
)

from holdfast.policy.model.admission import PolicyTooLongError, admit
from holdfast.policy.model.document import MalformedPolicyError
from holdfast.policy.model.merge import Attached, Level, effective
from holdfast.policy.model.validation import validate_effective

ARCHIVE = "opt_in_to_archive_for_supported_resources"


def admit_backup(policy: Any) -> None:
    content = policy if isinstance(policy, str) else json.dumps(policy)
    admit("BACKUP_POLICY", content, regions=REGIONS, now=NOW)


def a_rule_with(**fields: Any) -> dict[str, Any]:
    return {"plans": {"core": {"rules": {"daily": fields}}}}


def by_tag(**fields: Any) -> dict[str, Any]:
    return {"plans": {"core": {"selections": {"tags": {"tier": fields}}}}}


def by_resource(**fields: Any) -> dict[str, Any]:
    return {"plans": {"core": {"selections": {"resources": {"all": fields}}}}}


def days(cold: int | None = None, delete: int | None = None, *, archive: bool | None = None) -> dict[str, Any]:
    fields = {"move_to_cold_storage_after_days": cold, "delete_after_days": delete, ARCHIVE: archive}
    return {name: assign(value) for name, value in fields.items() if value is not None}


RULE = "/plans/core/rules/daily"
BY_TAG = "/plans/core/selections/tags/tier"
BY_RESOURCE = "/plans/core/selections/resources/all"
MONTHLY = assign("cron(0 5 1 * ? *)")

ADMITTED = {
    "everything there is": FULL_POLICY,
    "no plans": {"plans": {}},
    "an empty plan": {"plans": {"core": {}}},
    "no region": {"plans": {"core": {"regions": assign([])}}},
    "a region twice": {"plans": {"core": {"regions": assign(["eu-north-1", "eu-north-1"])}}},
    "only a remove": {"plans": {"core": {"regions": {"@@remove": ["eu-north-1"]}}}},
    "an empty leaf": {"plans": {"core": {"regions": {}}}},
    "keys in any letter case": {"PLANS": {"core": {"Regions": {"@@Assign": ["eu-north-1"], CONTROL: ["@@None"]}}}},
    "operators at the top that do nothing": {"@@assign": "x", "@@other": [1, None], **a_policy()},
    "eleven rules": {"plans": {"core": {"rules": {f"r{number}": a_rule() for number in range(11)}}}},
    "an operator in two letter cases in one control": {CONTROL: ["@@assign", "@@Assign"], "plans": {}},
    "several operators in one list": {
        "plans": {"core": {"regions": {"@@assign": ["eu-north-1"], "@@append": ["us-east-1"], "@@remove": []}}}
    },
    "a window in digits with a leading zero": a_rule_with(start_backup_window_minutes=assign("060")),
    "a window of sixteen digits": a_rule_with(start_backup_window_minutes=assign("9999999999999999")),
    "a window to complete that is shorter than that to start": a_rule_with(
        start_backup_window_minutes=assign(600), complete_backup_window_minutes=assign(60)
    ),
    "days beyond a hundred years": a_rule_with(lifecycle=days(delete=40_000)),
    "cold storage without ninety days in it": a_rule_with(lifecycle=days(30, 60)),
    "continuous for 35 days": a_rule_with(enable_continuous_backup=assign("true"), lifecycle=days(delete=35)),
    "not continuous": a_rule_with(enable_continuous_backup=assign("false")),
    "archived once a month": a_rule_with(schedule_expression=MONTHLY, lifecycle=days(30, 120, archive=True)),
    "not archived": a_rule_with(lifecycle=days(archive=False)),
    "a copy without a target": a_rule_with(copy_actions={COPY: {"lifecycle": days(delete=30)}}),
    "a copy to a given account": a_rule_with(
        copy_actions={COPY.replace("$account", "111122223333"): {"target_backup_vault_arn": assign(COPY)}}
    ),
    "a copy whose key is in capitals": a_rule_with(
        copy_actions={COPY.upper().replace("$ACCOUNT", "$account"): {CONTROL: ["@@all"]}}
    ),
    "a scan without settings": a_rule_with(scan_actions={"guardduty": {"scan_mode": assign("INCREMENTAL_SCAN")}}),
    "a schedule with a gap of an hour": a_rule_with(schedule_expression=assign("cron(0 0/1 ? * * *)")),
    "a selection by tag without a role": by_tag(tag_key=assign("Tier"), tag_value=assign([""])),
    "an empty selection by tag": by_tag(),
    "a selection by tag with only a role": by_tag(iam_role_arn=assign(ROLE)),
    "a role with a path, in another partition": by_tag(iam_role_arn=assign("arn:aws-cn:iam::$account:role/a/b/Backup")),
    "a name for a selection that is not its tag": {
        "plans": {"c": {"selections": {"tags": {"x.y-z_1": a_selection()}}}}
    },
    "tags and resources side by side": {
        "plans": {
            "c": {"selections": {"tags": {"t": a_selection()}, "resources": {"r": {"resource_types": assign(["*"])}}}}
        }
    },
    "conditions without types": by_resource(conditions={"string_like": {}}),
    "a tag whose id is spelled differently": {
        "plans": {"c": {"backup_plan_tags": {"COST": {"tag_key": assign("cost"), "tag_value": assign(None)}}}}
    },
}


@pytest.mark.parametrize("policy", ADMITTED.values(), ids=ADMITTED)
def test_this_is_admitted(policy: dict[str, Any]) -> None:
    admit_backup(policy)


def many_conditions(count: int) -> dict[str, Any]:
    condition = {"condition_key": assign("aws:ResourceTag/x"), "condition_value": assign("y")}
    half = {f"c{number}": condition for number in range(count // 2)}
    return by_resource(conditions={"string_equals": half, "string_like": half})


REFUSED: dict[str, tuple[Any, str, str]] = {
    "no JSON": ('{"plans": ', "/plans", "ends where a value is expected"),
    "text after the end": ('{"plans": {}} x', "", "after the end"),
    "a key twice": ('{"plans": {}, "plans": {}}', "/plans", "twice"),
    "a key twice but for its letter case": ('{"plans": {"a": {}, "A": {}}}', "/plans/A", "letter case"),
    "half a surrogate pair": (
        '{"plans": {"core": {"regions": {"@@assign": ["\\ud800"]}}}}',
        "/plans/core/regions/@@assign/0",
        "surrogate",
    ),
    "a null character": ('{"plans": {"\\u0000": {}}}', "/plans", "null character"),
    "too deep": ("[" * 5000, "/0" * 65, "deep"),
    "a list": ("[]", "", "JSON object"),
    "nothing in it": ({}, "", "has 'plans'"),
    "another key at the top": ({"plan": {}}, "/plan", "did you mean 'plans'"),
    "plans as a list": ({"plans": []}, "/plans", "an object is expected"),
    "a plan that is a text": ({"plans": {"core": "x"}}, "/plans/core", "an object is expected"),
    "an unknown part of a plan": ({"plans": {"core": {"rule": {}}}}, "/plans/core/rule", "did you mean 'rules'"),
    "an unknown part of a rule": (
        a_rule_with(schedule_expression_timezone=assign("UTC")),
        RULE + "/schedule_expression_timezone",
        "no part of a rule",
    ),
    "an unknown part of a lifecycle": (
        a_rule_with(lifecycle={"x": {}}),
        RULE + "/lifecycle/x",
        "no part of a lifecycle",
    ),
    "an operator on a container": (
        {"plans": {"core": {"rules": {"@@assign": {}}}}},
        "/plans/core/rules/@@assign",
        "not at an object",
    ),
    "an operator with an object at the top": ({"@@assign": {}, "plans": {}}, "/@@assign", "not at an object"),
    "a nested list at the top": ({"@@assign": [[]], "plans": {}}, "/@@assign", "not at an object"),
    "enforced_for": ({"@@enforced_for": ["x"], "plans": {}}, "/@@enforced_for", "not at an object"),
    "an unknown operator": (
        {"plans": {"core": {"regions": {"@@set": []}}}},
        "/plans/core/regions/@@set",
        "no operator",
    ),
    "a bare value": ({"plans": {"core": {"regions": ["eu-north-1"]}}}, "/plans/core/regions", "stands in an operator"),
    "a single value for a list": (
        {"plans": {"core": {"regions": assign("eu-north-1")}}},
        "/plans/core/regions/@@assign",
        "a list is expected",
    ),
    "a list for a single value": (
        a_rule_with(target_backup_vault_name=assign(["Main"])),
        RULE + "/target_backup_vault_name/@@assign",
        "single value",
    ),
    "an object for a value": (
        {"plans": {"core": {"regions": assign([{}])}}},
        "/plans/core/regions/@@assign/0",
        "single value",
    ),
    "appending to a single value": (
        a_rule_with(target_backup_vault_name={"@@append": ["x"]}),
        RULE + "/target_backup_vault_name/@@append",
        "only be assigned",
    ),
    "an unknown word in a control": ({CONTROL: ["@@some"], "plans": {}}, f"/{CONTROL}/0", "no operator"),
    "a control that is no list": ({CONTROL: "@@none", "plans": {}}, f"/{CONTROL}", "list with at least one"),
    "an empty control": ({CONTROL: [], "plans": {}}, f"/{CONTROL}", "list with at least one"),
    "a control twice": ({CONTROL: ["@@assign", "@@assign"], "plans": {}}, f"/{CONTROL}", "twice"),
    "none beside another": ({CONTROL: ["@@none", "@@assign"], "plans": {}}, f"/{CONTROL}", "alone"),
    "a name with a space": ({"plans": {"a b": {}}}, "/plans/a b", "a name of"),
    "a name too long": ({"plans": {"a" * 51: {}}}, "/plans/" + "a" * 51, "a name of"),
    "a vault name with a dot": (
        a_rule_with(target_backup_vault_name=assign("a.b")),
        RULE + "/target_backup_vault_name/@@assign",
        "a vault name",
    ),
    "an unknown region": (
        {"plans": {"core": {"regions": assign(["eu-north-2"])}}},
        "/plans/core/regions/@@assign/0",
        "did you mean 'eu-north-1'",
    ),
    "every region": (
        {"plans": {"core": {"regions": assign(["*"])}}},
        "/plans/core/regions/@@assign/0",
        "no known region",
    ),
    "an unknown type": (
        by_resource(resource_types=assign(["arn:aws:sqs:*:*:*"])),
        BY_RESOURCE + "/resource_types/@@assign/0",
        "no resource type",
    ),
    "no tag values": (
        by_tag(tag_key=assign("a"), tag_value=assign([])),
        BY_TAG + "/tag_value/@@assign",
        "must not be empty",
    ),
    "appending no tag values": (
        by_tag(tag_key=assign("a"), tag_value={"@@append": []}),
        BY_TAG + "/tag_value/@@append",
        "must not be empty",
    ),
    "no types to index": (
        a_rule_with(index_actions={"resource_types": assign([])}),
        RULE + "/index_actions/resource_types/@@assign",
        "must not be empty",
    ),
    "a type that is not indexed": (
        a_rule_with(index_actions={"resource_types": assign(["RDS"])}),
        RULE + "/index_actions/resource_types/@@assign/0",
        "EBS or S3",
    ),
    "an unknown scan": (
        a_rule_with(scan_actions={"GUARDDUTY": {"scan_mode": assign("SOME")}}),
        RULE + "/scan_actions/GUARDDUTY/scan_mode/@@assign",
        "FULL_SCAN",
    ),
    "an unknown scanner": (a_rule_with(scan_actions={"OTHER": {}}), RULE + "/scan_actions/OTHER", "no scanner"),
    "true for a switch": (
        {"plans": {"c": {"advanced_backup_settings": {"ec2": {"windows_vss": assign(True)}}}}},
        "/plans/c/advanced_backup_settings/ec2/windows_vss/@@assign",
        "enabled or disabled",
    ),
    "a rate": (a_rule_with(schedule_expression=assign("rate(1 day)")), RULE + "/schedule_expression/@@assign", "rate"),
    "a malformed cron": (
        a_rule_with(schedule_expression=assign("cron(0 5 * * * *)")),
        RULE + "/schedule_expression/@@assign",
        "must have [?]",
    ),
    "twice within an hour": (
        a_rule_with(schedule_expression=assign("cron(0,30 5 ? * * *)")),
        RULE + "/schedule_expression/@@assign",
        "within an hour",
    ),
    "a schedule that is over": (
        a_rule_with(schedule_expression=assign("cron(0 5 1 1 ? 2027)")),
        RULE + "/schedule_expression/@@assign",
        "less than twice",
    ),
    "a tag key without values": (by_tag(tag_key=assign("a")), BY_TAG, "needs 'tag_value'"),
    "tag values without a key": (by_tag(tag_value=assign(["a"])), BY_TAG, "needs 'tag_key'"),
    "a condition without a value": (
        by_resource(conditions={"string_like": {"c": {"condition_key": assign("a")}}}),
        BY_RESOURCE + "/conditions/string_like/c",
        "needs 'condition_value'",
    ),
    "an unknown condition": (
        by_resource(conditions={"string_is": {}}),
        BY_RESOURCE + "/conditions/string_is",
        "no kind of condition",
    ),
    "thirty-two conditions": (many_conditions(32), BY_RESOURCE + "/conditions", "32 conditions"),
    "a selection of resources with only a role": (
        by_resource(iam_role_arn=assign(ROLE)),
        BY_RESOURCE,
        "'resource_types' or 'conditions'",
    ),
    "a tag whose id is another": (
        {"plans": {"c": {"backup_plan_tags": {"a": {"tag_key": assign("b"), "tag_value": assign("c")}}}}},
        "/plans/c/backup_plan_tags/a/tag_key",
        "letter case apart",
    ),
    "half a tag": (
        a_rule_with(recovery_point_tags={"a": {"tag_key": assign("a")}}),
        RULE + "/recovery_point_tags/a",
        "needs 'tag_value'",
    ),
    "an empty copy action": (
        a_rule_with(copy_actions={COPY: {}}),
        RULE + "/copy_actions/" + COPY.replace("/", "~1"),
        "without anything in it",
    ),
    "a copy to this region": (
        a_rule_with(copy_actions={COPY: {"target_backup_vault_arn": assign(COPY.replace("eu-west-1", "$region"))}}),
        RULE + "/copy_actions/" + COPY + "/target_backup_vault_arn/@@assign",
        "the ARN of a vault",
    ),
    "a copy to an unknown region": (
        a_rule_with(copy_actions={COPY.replace("west", "east"): {"lifecycle": {}}}),
        RULE + "/copy_actions/" + COPY.replace("west", "east"),
        "no known region",
    ),
    "a role in one account": (
        by_tag(iam_role_arn=assign("arn:aws:iam::111122223333:role/x")),
        BY_TAG + "/iam_role_arn/@@assign",
        "role in each account",
    ),
    "an air gap in one account": (
        a_rule_with(
            target_logically_air_gapped_backup_vault_arn=assign("arn:aws:backup:$region:111122223333:backup-vault:x")
        ),
        RULE + "/target_logically_air_gapped_backup_vault_arn/@@assign",
        "[$]region",
    ),
    "continuous without an end": (
        a_rule_with(enable_continuous_backup=assign(True)),
        RULE + "/enable_continuous_backup",
        "at most 35",
    ),
    "continuous for 36 days": (
        a_rule_with(enable_continuous_backup=assign("true"), lifecycle=days(delete=36)),
        RULE + "/enable_continuous_backup",
        "at most 35",
    ),
    "continuous and cold": (
        a_rule_with(enable_continuous_backup=assign("true"), lifecycle=days(1, 35)),
        RULE + "/enable_continuous_backup",
        "cold storage",
    ),
    "continuous in capitals": (
        a_rule_with(enable_continuous_backup=assign("TRUE")),
        RULE + "/enable_continuous_backup/@@assign",
        "true or false",
    ),
    "archived without days": (
        a_rule_with(schedule_expression=MONTHLY, lifecycle=days(archive=True)),
        RULE + f"/lifecycle/{ARCHIVE}",
        "at least 90",
    ),
    "archived with 89 days": (
        a_rule_with(schedule_expression=MONTHLY, lifecycle=days(30, 119, archive=True)),
        RULE + f"/lifecycle/{ARCHIVE}",
        "at least 90",
    ),
    "archived without a schedule": (
        a_rule_with(lifecycle=days(30, 120, archive=True)),
        RULE + f"/lifecycle/{ARCHIVE}",
        "28 days apart",
    ),
    "archived daily": (
        a_rule_with(schedule_expression=assign("cron(0 5 ? * * *)"), lifecycle=days(30, 120, archive=True)),
        RULE + f"/lifecycle/{ARCHIVE}",
        "28 days apart",
    ),
    "copies archived daily": (
        a_rule_with(
            schedule_expression=assign("cron(0 5 ? * * *)"),
            copy_actions={COPY: {"lifecycle": days(30, 120, archive=True)}},
        ),
        RULE + f"/copy_actions/{COPY}/lifecycle/{ARCHIVE}",
        "28 days apart",
    ),
}


@pytest.mark.parametrize(("policy", "pointer", "what"), REFUSED.values(), ids=REFUSED)
def test_this_is_refused_saying_where_and_why(policy: Any, pointer: str, what: str) -> None:
    with pytest.raises(MalformedPolicyError, match=what) as refusal:
        admit_backup(policy)
    assert refusal.value.pointer == pointer


@pytest.mark.parametrize(
    "minutes", ["59", "+60", " 60", "60 ", "1e2", 60.0, "60.5", True, None, "", "10000000000000000", "٦٠"]
)
def test_a_window_is_a_whole_number_of_minutes_from_sixty_up(minutes: Any) -> None:
    with pytest.raises(MalformedPolicyError, match="no whole number from 60 up"):
        admit_backup(a_rule_with(start_backup_window_minutes=assign(minutes)))


def test_a_document_may_have_ten_thousand_characters_and_no_more() -> None:
    text = json.dumps(a_policy())
    admit_backup(text + " " * (10_000 - len(text)))
    with pytest.raises(PolicyTooLongError, match="10001 characters"):
        admit_backup(text + " " * (10_001 - len(text)))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, below in inner for found in places(below, (*path, key)))]


@given(st.sampled_from(places(FULL_POLICY)[1:]), json_values)
def test_a_damaged_policy_is_admitted_and_works_or_is_refused_with_one_class(path: tuple[Any, ...], value: Any) -> None:
    policy = copy.deepcopy(FULL_POLICY)
    place = policy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    content = json.dumps(policy)
    try:
        admit_backup(content)
    except MalformedPolicyError:
        return
    validate_effective(effective([Level("r-1", (Attached("p-1", content),))]), NOW)


def test_a_complete_plan_is_valid_at_once() -> None:
    assert (
        validate_effective(effective([Level("r-1", (Attached("p-1", json.dumps(a_policy(core=a_plan()))),))]), NOW)
        == ()
    )
