"""Policies for tests: a complete one, and random ones."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from holdfast.policy.model.merge import Attached, Level

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
REGIONS = frozenset({"eu-north-1", "eu-west-1", "us-east-1", "dc-helsinki"})
CONTROL = "@@operators_allowed_for_child_policies"
ROLE = "arn:aws:iam::$account:role/Backup"
COPY = "arn:aws:backup:eu-west-1:$account:backup-vault:Far"


def assign(value: Any) -> dict[str, Any]:
    return {"@@assign": value}


def a_selection(**changes: Any) -> dict[str, Any]:
    return {
        "iam_role_arn": assign(ROLE),
        "tag_key": assign("Tier"),
        "tag_value": assign(["gold"]),
    } | changes


def a_rule(**changes: Any) -> dict[str, Any]:
    return {"target_backup_vault_name": assign("Main")} | changes


def a_plan(**changes: Any) -> dict[str, Any]:
    """A plan with one rule `daily` and one selection by tag `tier`; a change to None leaves the part out."""
    plan = {
        "regions": assign(["eu-north-1"]),
        "rules": {"daily": a_rule()},
        "selections": {"tags": {"tier": a_selection()}},
    } | changes
    return {key: part for key, part in plan.items() if part is not None}


def a_policy(**plans: Any) -> dict[str, Any]:
    """A policy with these plans; without any, with one complete plan `core`."""
    return {"plans": plans or {"core": a_plan()}}


FULL_PLAN = a_plan(
    rules={
        "daily": a_rule(
            schedule_expression=assign("cron(0 5 1 * ? *)"),
            target_logically_air_gapped_backup_vault_arn=assign("arn:aws:backup:$region:$account:backup-vault:Gap"),
            start_backup_window_minutes=assign("60"),
            complete_backup_window_minutes=assign(600),
            enable_continuous_backup=assign(False),
            lifecycle={
                "move_to_cold_storage_after_days": assign("30"),
                "delete_after_days": assign(120),
                "opt_in_to_archive_for_supported_resources": assign("true"),
            },
            copy_actions={
                COPY: {"target_backup_vault_arn": assign(COPY), "lifecycle": {"delete_after_days": assign(30)}},
            },
            recovery_point_tags={"Owner": {"tag_key": assign("owner"), "tag_value": assign(7)}},
            index_actions={"resource_types": assign(["EBS"])},
            scan_actions={"GUARDDUTY": {"scan_mode": assign("FULL_SCAN")}},
        )
    },
    selections={
        "tags": {
            "tier": a_selection(
                conditions={
                    "string_equals": {
                        "prod": {"condition_key": assign("aws:ResourceTag/Env"), "condition_value": assign("prod")}
                    }
                }
            )
        },
        "resources": {
            "all": {
                "iam_role_arn": assign(ROLE),
                "resource_types": assign(["*", "arn:aws:s3:::*"]),
                "not_resource_types": {"@@append": ["arn:aws:rds:*:*:db:*"], "@@remove": []},
            }
        },
    },
    advanced_backup_settings={
        "ec2": {"windows_vss": assign("enabled")},
        "s3": {"backup_acls": assign("disabled"), "backup_object_tags": assign("enabled")},
    },
    backup_plan_tags={"cost": {"tag_key": assign("Cost"), "tag_value": assign("12")}},
    scan_settings={"GUARDDUTY": {"resource_types": assign(["ALL"]), "scanner_role_arn": assign(ROLE)}},
)
FULL_POLICY: dict[str, Any] = {CONTROL: ["@@all"], "plans": {CONTROL: ["@@append"], "Core": FULL_PLAN}}


def a_chain(*levels: Sequence[dict[str, Any]]) -> list[Level]:
    """A path of nodes `n0` (the root), `n1`...; the policies of a node are `n0p0`, `n0p1`... in order of attachment."""
    return [
        Level(
            f"n{depth}",
            tuple(Attached(f"n{depth}p{index}", json.dumps(policy)) for index, policy in enumerate(policies)),
        )
        for depth, policies in enumerate(levels)
    ]


controls = st.sampled_from(
    [
        ["@@all"],
        ["@@none"],
        ["@@None"],
        ["@@assign"],
        ["@@append"],
        ["@@remove"],
        ["@@assign", "@@append"],
        ["@@append", "@@REMOVE"],
    ]
)
_REGION_LISTS = st.lists(st.sampled_from(["eu-north-1", "eu-west-1", "us-east-1"]), max_size=3)
_TAG_VALUES = st.lists(st.sampled_from(["gold", "12", 12, True, None]), min_size=1, max_size=3)


@st.composite
def _maybe_controlled(draw: st.DrawFn, members: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    drawn = dict(draw(members))
    if draw(st.integers(0, 3)) == 0:
        drawn[CONTROL] = draw(controls)
    return drawn


def _scalar(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return _maybe_controlled(st.fixed_dictionaries({}, optional={"@@assign": values}))


def _list(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    operators = {"@@assign": values, "@@append": values, "@@remove": values}
    return _maybe_controlled(st.fixed_dictionaries({}, optional=operators))


def _map(names: Sequence[str], each: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.sampled_from(names)
    return _maybe_controlled(
        st.lists(st.tuples(keys, each), max_size=2, unique_by=lambda pair: pair[0].lower()).map(dict)
    )


def _container(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return _maybe_controlled(st.fixed_dictionaries({}, optional=fields))


_LIFECYCLES = _container(
    delete_after_days=_scalar(st.integers(1, 200)),
    move_to_cold_storage_after_days=_scalar(st.integers(1, 90).map(str)),
)
_RULES = _container(
    target_backup_vault_name=_scalar(st.sampled_from(["Main", "Other"])),
    schedule_expression=_scalar(st.sampled_from(["cron(0 5 ? * * *)", "cron(0 5 1 * ? *)"])),
    lifecycle=_LIFECYCLES,
)


@st.composite
def _tag_selections(draw: st.DrawFn) -> dict[str, Any]:
    selection = {}
    if draw(st.booleans()):
        selection = {"tag_key": draw(_scalar(st.just("Tier"))), "tag_value": draw(_list(_TAG_VALUES))}
    if draw(st.booleans()):
        selection["iam_role_arn"] = draw(_scalar(st.just(ROLE)))
    return selection


_PLANS = _container(
    regions=_list(_REGION_LISTS),
    rules=_map(["daily", "Daily", "weekly"], _RULES),
    selections=_container(tags=_map(["tier", "TIER"], _tag_selections())),
)
policies: st.SearchStrategy[dict[str, Any]] = _maybe_controlled(
    st.fixed_dictionaries({"plans": _map(["core", "Core", "extra"], _PLANS)})
)
"""Admissible backup policies over few names, so that they meet each other."""

chains = st.lists(st.lists(policies, max_size=3), min_size=1, max_size=4)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["@@assign", "@@append", CONTROL, "plans", "rules", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)
