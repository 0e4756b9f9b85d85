"""Admission: whether a document may be stored as a policy of its type.

Backup, tag and AI opt-out policies are checked against their grammar, service and resource control policies against
the language of permission policies; of the remaining types only that they are JSON objects.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from holdfast.core.errors import LimitExceededError
from holdfast.policy.model import backup_grammar
from holdfast.policy.model.control_grammar import check_control_policy
from holdfast.policy.model.document import Json, MalformedPolicyError, parse
from holdfast.policy.model.grammar import Container, Fragment, Leaf, check, length, matching, one_of
from holdfast.policy.model.kind import AI_OPT_OUT, BACKUP, KINDS, RESOURCE_CONTROL, SERVICE_CONTROL, TAG


class PolicyTooLongError(LimitExceededError):
    """A policy document has more characters than its type may have."""

    reason = "POLICY_CONTENT_LIMIT_EXCEEDED"


def _check_tag_key(rule: Fragment) -> None:
    key = rule.assigned("tag_key")
    if key is not None and key.lower() != rule.key.lower():
        raise rule.refuse(f"tag_key must spell {rule.key!r}, letter case apart, not {key!r}", "tag_key")


def _tag_value(value: str) -> str | None:
    if value.count("*") > 1:
        return "a tag value may have one '*'"
    return length(0, 256)(value)


_SUPPORTED_RESOURCE = matching(r"[a-z0-9-]+:[A-Za-z0-9_*/-]+", "SERVICE:RESOURCE, such as ec2:instance or ec2:*")

_TAG_POLICY: Final = Container(
    what="part of a tag policy",
    fields={
        "tags": Container(
            name=length(1, 128),
            each=Container(
                what="part of a tag rule",
                fields={
                    "tag_key": Leaf(length(1, 128)),
                    "tag_value": Leaf(_tag_value, is_list=True),
                    "enforced_for": Leaf(_SUPPORTED_RESOURCE, is_list=True),
                    "report_required_tag_for": Leaf(_SUPPORTED_RESOURCE, is_list=True),
                },
                cross_check=_check_tag_key,
            ),
        )
    },
)

_AI_OPT_OUT_POLICY: Final = Container(
    what="part of an AI services opt-out policy",
    fields={
        "services": Container(
            name=matching("[A-Za-z0-9:_-]{1,64}", "the name of a service, or default"),
            each=Container(
                what="setting of a service",
                fields={"opt_out_policy": Leaf(one_of("optIn", "optOut"))},
            ),
        )
    },
)


def admit(policy_type: str, content: str, *, regions: Collection[str], now: datetime) -> None:
    """Check that `content` may be stored as a policy of `policy_type`.

    `regions` are the known regions; schedules are judged by their next two firings after `now`.

    Raises:
        MalformedPolicyError: it may not; the error has a reason and the JSON pointer of the place.
        PolicyTooLongError: it is longer than policies of this type may be.
    """
    kind = KINDS[policy_type]
    if len(content) > kind.most_characters:
        raise PolicyTooLongError(
            f"the document has {len(content)} characters; a {policy_type} may have {kind.most_characters}"
        )
    value = parse(content, fold_keys=kind.inherits).value
    if not isinstance(value, dict):
        raise MalformedPolicyError("a policy is a JSON object")
    if policy_type == BACKUP:
        check(backup_grammar.grammar(regions, now), value)
    elif policy_type == TAG:
        _check_with_top(_TAG_POLICY, value, "tags")
    elif policy_type == AI_OPT_OUT:
        _check_with_top(_AI_OPT_OUT_POLICY, value, "services")
    elif policy_type in {SERVICE_CONTROL, RESOURCE_CONTROL}:
        check_control_policy(policy_type, value)


def _check_with_top(grammar: Container, value: dict[str, Json], top: str) -> None:
    check(grammar, value)
    if top not in {key.lower() for key in value}:
        raise MalformedPolicyError(f"the document has no {top!r}")
