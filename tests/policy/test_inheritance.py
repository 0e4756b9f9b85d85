"""Inheritance: what policies on the way from the root to an account make together, and where each value comes from."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.builders import CONTROL, NOW, REGIONS, a_chain, a_plan, a_policy, a_rule, assign, chains, policies
from tests.policy.reference import merge

from holdfast.policy.model.admission import admit
from holdfast.policy.model.document import Operator
from holdfast.policy.model.merge import (
    NOTHING,
    Effective,
    canonical,
    conclude,
    document_id,
    effective,
    merge_level,
    replay,
)
from holdfast.policy.model.validation import validate_effective


def regions_of(*levels: list[dict[str, Any]]) -> Any:
    chain = [[{"plans": {"core": {"regions": regions}}} for regions in level] for level in levels]
    return effective(a_chain(*chain)).document.get("plans", {}).get("core", {}).get("regions")


@given(chains)
def test_the_document_is_that_of_the_slow_reference(levels: list[list[dict[str, Any]]]) -> None:
    result = effective(a_chain(*levels))
    document, allowed = merge(levels)
    assert result.document == document
    assert {leaf.path: set(leaf.allowed) for leaf in result.leaves} == allowed


@given(chains)
def test_the_origins_replayed_rebuild_the_document(levels: list[list[dict[str, Any]]]) -> None:
    result = effective(a_chain(*levels))
    assert replay(result.leaves) == result.document
    for leaf in result.leaves:
        assert leaf.origin.policy_id.startswith(leaf.origin.node_id)
        assert all(limit.allowed >= leaf.allowed for limit in leaf.limits)


@given(chains, st.integers(0, 4))
def test_children_may_start_from_the_state_of_their_parent(levels: list[list[dict[str, Any]]], at: int) -> None:
    chain = a_chain(*levels)
    above = NOTHING
    for level in chain[:at]:
        above = merge_level(above, level)
    before = conclude(above)
    state = above
    for level in chain[at:]:
        state = merge_level(state, level)
    assert conclude(state) == effective(chain)
    assert conclude(above) == before


@given(chains, st.integers(0, 4))
def test_a_policy_with_nothing_in_it_changes_nothing(levels: list[list[dict[str, Any]]], at: int) -> None:
    at = min(at, len(levels) - 1)
    more = [[*level, {"plans": {}}] if depth == at else level for depth, level in enumerate(levels)]
    assert effective(a_chain(*more)).document == effective(a_chain(*levels)).document


@given(policies)
def test_a_generated_policy_is_admitted(policy: dict[str, Any]) -> None:
    admit("BACKUP_POLICY", json.dumps(policy), regions=REGIONS, now=NOW)


@given(chains)
def test_everything_that_was_ignored_says_why(levels: list[list[dict[str, Any]]]) -> None:
    for ignored in effective(a_chain(*levels)).ignored:
        assert "policy n" in ignored.reason
        assert ignored.policy_id not in ignored.reason


@given(chains)
def test_every_validation_error_names_a_policy_of_the_path(levels: list[list[dict[str, Any]]]) -> None:
    errors = validate_effective(effective(a_chain(*levels)), NOW)
    attached = {policy.policy_id for level in a_chain(*levels) for policy in level.policies}
    assert all(error.contributing_policies and attached.issuperset(error.contributing_policies) for error in errors)
    assert list(errors) == sorted(set(errors))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        pytest.param(
            [[assign(["eu-north-1"])], [assign(["us-east-1"])]],
            ["us-east-1"],
            id="assign replaces what was inherited",
        ),
        pytest.param(
            [[assign(["eu-north-1"]), assign(["us-east-1"])]],
            ["eu-north-1"],
            id="of two that assign at one node the first attached one counts",
        ),
        pytest.param(
            [[{"@@append": ["us-east-1"]}, assign(["eu-north-1"])]],
            ["eu-north-1", "us-east-1"],
            id="peers assign before peers append, whatever the order of attachment",
        ),
        pytest.param(
            [[{"@@remove": ["us-east-1"]}, assign(["eu-north-1", "us-east-1"])]],
            ["eu-north-1"],
            id="peers remove last",
        ),
        pytest.param(
            [[{"@@assign": ["a"], "@@append": ["b"], "@@remove": ["a"]}]],
            ["b"],
            id="one policy may use several operators",
        ),
        pytest.param([[{"@@append": ["b", "a", "b"]}]], ["b", "a"], id="append alone sets the list"),
        pytest.param([[assign(["a", "b"])], [{"@@append": ["b", "c"]}]], ["a", "b", "c"], id="append adds what is new"),
        pytest.param([[assign(["a"])], [{"@@remove": ["a", "x"]}]], [], id="an emptied list stays"),
        pytest.param([[{"@@remove": ["a"]}]], None, id="removing from nothing leaves nothing"),
        pytest.param([[assign([12, True, None])], [{"@@remove": ["12"]}]], ["true", "null"], id="scalars are strings"),
        pytest.param(
            [[{"@@assign": ["a"], CONTROL: ["@@none"]}, {"@@append": ["b"]}]],
            ["a", "b"],
            id="a control does not bind peers",
        ),
        pytest.param(
            [[{"@@assign": ["a"], CONTROL: ["@@append"]}], [assign(["x"]), {"@@append": ["b"]}]],
            ["a", "b"],
            id="what is not allowed is dropped, the rest of the level applies",
        ),
        pytest.param(
            [
                [{"@@assign": ["a"], CONTROL: ["@@append"]}, {CONTROL: ["@@remove"]}],
                [{"@@append": ["b"], "@@remove": ["a"]}],
            ],
            ["a"],
            id="disjoint controls of peers leave nothing",
        ),
        pytest.param(
            [[{"@@assign": ["a"], CONTROL: ["@@append"]}], [{CONTROL: ["@@all"]}], [assign(["x"])]],
            ["a"],
            id="a lower level cannot widen",
        ),
        pytest.param(
            [[{CONTROL: ["@@none"]}], [assign(["x"])]],
            None,
            id="a control on a value that is not there yet binds too",
        ),
    ],
)
def test_operators_and_controls(levels: list[list[dict[str, Any]]], expected: list[str] | None) -> None:
    assert regions_of(*levels) == expected


def core_of(*levels: list[dict[str, Any]]) -> Any:
    return effective(a_chain(*levels)).document.get("plans", {}).get("core")


def test_a_container_lock_does_not_flow_down_to_nodes_that_exist() -> None:
    root = a_policy(core=a_plan() | {CONTROL: ["@@none"]})
    child = a_policy(core={"regions": assign(["eu-west-1"]), "backup_plan_tags": {"x": {}}})
    assert core_of([root], [child])["regions"] == ["eu-west-1"]


@pytest.mark.parametrize(
    ("control", "may_add"), [("@@append", True), ("@@all", True), ("@@assign", False), ("@@remove", False)]
)
def test_adding_a_key_needs_append(control: str, may_add: bool) -> None:
    root = a_policy(core=a_plan(rules={"daily": a_rule(), CONTROL: [control]}))
    child = a_policy(core={"rules": {"weekly": a_rule()}})
    assert ("weekly" in core_of([root], [child])["rules"]) is may_add


def test_a_key_that_an_ancestor_names_with_a_control_only_is_not_new() -> None:
    root = {"plans": {CONTROL: ["@@none"], "core": {CONTROL: ["@@all"]}}}
    assert core_of([root], [a_policy()]) is not None
    assert core_of([{"plans": {CONTROL: ["@@none"]}}], [a_policy()]) is None


def test_a_refused_key_stays_new_for_the_levels_below() -> None:
    root = {"plans": {CONTROL: ["@@none"]}}
    assert core_of([root], [a_policy()], [a_policy()]) is None


def test_a_policy_of_controls_alone_leaves_no_trace() -> None:
    policy = {"plans": {CONTROL: ["@@none"], "core": {"regions": {CONTROL: ["@@append"]}}}}
    assert effective(a_chain([policy])) == Effective({}, (), ())


def test_no_policies_make_an_empty_document() -> None:
    assert effective([]) == Effective({}, ())


def test_a_leaf_tells_who_made_it_what_it_overrode_and_what_may_still_be_done() -> None:
    root = a_policy(core=a_plan(regions={"@@assign": ["eu-north-1"], CONTROL: ["@@assign", "@@append"]}))
    unit = {"plans": {"core": {"regions": assign(["eu-west-1"])}}}
    account = {"plans": {"core": {"regions": {"@@append": ["us-east-1"], "@@remove": ["eu-west-1"]}}}}
    result = effective(a_chain([root], [unit], [account]))
    leaf = next(leaf for leaf in result.leaves if leaf.path == ("plans", "core", "regions"))
    assert leaf.value == ("eu-west-1", "us-east-1")
    assert [(step.operator.value, step.policy_id, step.node_id) for step in leaf.steps] == [
        ("@@assign", "n1p0", "n1"),
        ("@@append", "n2p0", "n2"),
    ]
    assert [step.operand for step in leaf.overrode] == [("eu-north-1",)]
    assert leaf.allowed == {Operator.ASSIGN, Operator.APPEND}
    assert [(limit.policy_id, limit.node_id) for limit in leaf.limits] == [("n0p0", "n0")]
    assert [(ignored.policy_id, ignored.operator) for ignored in result.ignored] == [("n2p0", Operator.REMOVE)]
    assert result.ignored[0].reason == (
        "@@remove is not allowed here: policy n0p0 at n0 allows @@append, @@assign to policies below"
    )


def test_a_tag_policy_without_spelling_or_values_gets_the_defaults() -> None:
    chain = a_chain([{"tags": {"CostCenter": {}, "Env": {"tag_value": assign(["prod"])}}}])
    assert effective(chain, policy_type="TAG_POLICY").document == {
        "tags": {
            "costcenter": {"tag_key": "costcenter", "tag_value": ["*"]},
            "env": {"tag_key": "env", "tag_value": ["prod"]},
        }
    }
    assert effective(a_chain([{"tags": {}}]), policy_type="TAG_POLICY").document == {}


def test_the_canonical_text_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": "ä", "a": ["2", "1"]}) == '{"a":["2","1"],"b":"ä"}'
    same = [document_id("BACKUP_POLICY", canonical(text)) for text in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})]
    assert same[0] == same[1]
    assert same[0] != document_id("TAG_POLICY", canonical({"a": "1", "b": "2"}))
