"""Policies of the other types: which documents are stored, and what is said about the others."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.builders import CONTROL, NOW, REGIONS, assign, json_values

from holdfast.policy.model.admission import PolicyTooLongError, admit
from holdfast.policy.model.document import MalformedPolicyError
from holdfast.policy.model.kind import KINDS


def scp(**changes: Any) -> dict[str, Any]:
    statement = {"Effect": "Deny", "Action": "backup:DeleteRecoveryPoint", "Resource": "*"} | changes
    return {"Version": "2012-10-17", "Statement": [{key: part for key, part in statement.items() if part is not None}]}


OTHER_ADMITTED = {
    "an SCP": ("SERVICE_CONTROL_POLICY", scp()),
    "an SCP with conditions": (
        "SERVICE_CONTROL_POLICY",
        scp(
            Sid="a1",
            Action=["s3:*", "*"],
            Resource="arn:aws:s3:::x/*",
            Condition={"StringEquals": {"aws:PrincipalTag/x": ["a", "b"]}, "Bool": {"aws:x": True}},
        ),
    ),
    "an SCP with one statement": (
        "SERVICE_CONTROL_POLICY",
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "*"}},
    ),
    "condition keys in two letter cases": (
        "SERVICE_CONTROL_POLICY",
        scp(Condition={"StringEquals": {"aws:a": "b", "aws:A": "c"}}),
    ),
    "an RCP": ("RESOURCE_CONTROL_POLICY", scp(Principal="*")),
    "a tag policy": (
        "TAG_POLICY",
        {
            "tags": {
                "Cost": {
                    "tag_key": assign("cost"),
                    "tag_value": {"@@append": ["a*", 1]},
                    "enforced_for": assign(["ec2:instance", "ecs:ALL_SUPPORTED"]),
                }
            }
        },
    ),
    "an empty tag rule": ("TAG_POLICY", {"tags": {"cost": {}}}),
    "an opt-out": (
        "AISERVICES_OPT_OUT_POLICY",
        {"services": {"default": {"opt_out_policy": assign("optOut"), CONTROL: ["@@append", "@@all"]}, "lex": {}}},
    ),
    "a chat policy": ("CHATBOT_POLICY", {"chatbot": {"anything": 1}}),
}


@pytest.mark.parametrize(("policy_type", "policy"), OTHER_ADMITTED.values(), ids=OTHER_ADMITTED)
def test_policies_of_other_types_are_admitted(policy_type: str, policy: dict[str, Any]) -> None:
    admit(policy_type, json.dumps(policy), regions=REGIONS, now=NOW)


OTHER_REFUSED: dict[str, tuple[str, Any, str]] = {
    "an SCP without a version": ("SERVICE_CONTROL_POLICY", {"Statement": []}, "/Version"),
    "an SCP without statements": ("SERVICE_CONTROL_POLICY", {"Version": "2012-10-17"}, "/Statement"),
    "a statement that is a text": (
        "SERVICE_CONTROL_POLICY",
        {"Version": "2012-10-17", "Statement": ["x"]},
        "/Statement/0",
    ),
    "an unknown effect": ("SERVICE_CONTROL_POLICY", scp(Effect="deny"), "/Statement/0/Effect"),
    "an unknown element": ("SERVICE_CONTROL_POLICY", scp(Actions="*"), "/Statement/0/Actions"),
    "a principal in an SCP": ("SERVICE_CONTROL_POLICY", scp(Principal="*"), "/Statement/0/Principal"),
    "both kinds of action": ("SERVICE_CONTROL_POLICY", scp(NotAction="*"), "/Statement/0"),
    "no action": ("SERVICE_CONTROL_POLICY", scp(Action=None), "/Statement/0"),
    "an empty list of actions": ("SERVICE_CONTROL_POLICY", scp(Action=[]), "/Statement/0/Action"),
    "an action without a service": ("SERVICE_CONTROL_POLICY", scp(Action=["Delete"]), "/Statement/0/Action"),
    "a number for an action": ("SERVICE_CONTROL_POLICY", scp(Action=1), "/Statement/0/Action"),
    "a resource that is no ARN": ("SERVICE_CONTROL_POLICY", scp(Resource="x"), "/Statement/0/Resource"),
    "a Sid with a space": ("SERVICE_CONTROL_POLICY", scp(Sid="a b"), "/Statement/0/Sid"),
    "a condition that is a list": ("SERVICE_CONTROL_POLICY", scp(Condition=[]), "/Statement/0/Condition"),
    "a condition operator without keys": (
        "SERVICE_CONTROL_POLICY",
        scp(Condition={"Bool": {}}),
        "/Statement/0/Condition/Bool",
    ),
    "a condition on an object": (
        "SERVICE_CONTROL_POLICY",
        scp(Condition={"Bool": {"a": {}}}),
        "/Statement/0/Condition/Bool/a",
    ),
    "an RCP that allows": ("RESOURCE_CONTROL_POLICY", scp(Effect="Allow", Principal="*"), "/Statement/0/Effect"),
    "an RCP for one principal": ("RESOURCE_CONTROL_POLICY", scp(Principal={"AWS": "1"}), "/Statement/0/Principal"),
    "a tag policy without tags": ("TAG_POLICY", {}, ""),
    "a tag spelled as another": ("TAG_POLICY", {"tags": {"a": {"tag_key": assign("b")}}}, "/tags/a/tag_key"),
    "two wildcards in a tag value": (
        "TAG_POLICY",
        {"tags": {"a": {"tag_value": assign(["*a*"])}}},
        "/tags/a/tag_value/@@assign/0",
    ),
    "a wrong opt-out": (
        "AISERVICES_OPT_OUT_POLICY",
        {"services": {"lex": {"opt_out_policy": assign("optout")}}},
        "/services/lex/opt_out_policy/@@assign",
    ),
    "an opt-out list": (
        "AISERVICES_OPT_OUT_POLICY",
        {"services": {"lex": {"opt_out_policy": {"@@append": ["optOut"]}}}},
        "/services/lex/opt_out_policy/@@append",
    ),
    "a chat policy that is a list": ("CHATBOT_POLICY", [], ""),
}


@pytest.mark.parametrize(("policy_type", "policy", "pointer"), OTHER_REFUSED.values(), ids=OTHER_REFUSED)
def test_policies_of_other_types_are_refused_saying_where(policy_type: str, policy: Any, pointer: str) -> None:
    with pytest.raises(MalformedPolicyError) as refusal:
        admit(policy_type, json.dumps(policy), regions=REGIONS, now=NOW)
    assert refusal.value.pointer == pointer


@pytest.mark.parametrize(
    ("policy_type", "most"),
    [("AISERVICES_OPT_OUT_POLICY", 2_500), ("RESOURCE_CONTROL_POLICY", 5_120), ("SERVICE_CONTROL_POLICY", 10_240)],
)
def test_each_type_has_its_own_length(policy_type: str, most: int) -> None:
    with pytest.raises(PolicyTooLongError):
        admit(policy_type, "x" * (most + 1), regions=REGIONS, now=NOW)
    with pytest.raises(MalformedPolicyError):
        admit(policy_type, "x" * most, regions=REGIONS, now=NOW)


@given(st.text(max_size=200) | json_values.map(json.dumps), st.sampled_from(sorted(KINDS)))
def test_any_text_is_admitted_or_refused_with_one_class(text: str, policy_type: str) -> None:
    with contextlib.suppress(MalformedPolicyError):
        admit(policy_type, text, regions=REGIONS, now=NOW)
