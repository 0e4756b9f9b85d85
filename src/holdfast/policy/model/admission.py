"""Admission: whether a document may be stored as a policy of its type.

Backup, tag and AI opt-out policies are checked against their grammar, service and resource control policies against
the language of permission policies; of the remaining types only that they are JSON objects.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

from holdfast.access.model import DocumentKind, parse_document
from holdfast.core.errors import InvalidInputError, LimitExceededError
from holdfast.policy.model import backup_grammar
from holdfast.policy.model.control_grammar import check_control_policy
from holdfast.policy.model.document import Json, MalformedPolicyError, parse
from holdfast.policy.model.grammar import Container, CrossCheck, Fragment, Leaf, length, matching, one_of, problems
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


def _requires(top: str) -> CrossCheck:
    def check(document: Fragment) -> None:
        if not document.has(top):
            raise document.refuse(f"the document has no {top!r}")

    return check


_TAG_POLICY: Final = Container(
    what="part of a tag policy",
    cross_check=_requires("tags"),
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
    cross_check=_requires("services"),
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


_EVALUATED: Final = {SERVICE_CONTROL: DocumentKind.SCP, RESOURCE_CONTROL: DocumentKind.RCP}


def admit(policy_type: str, content: str, *, regions: Collection[str], now: datetime) -> None:
    """Check that `content` may be stored as a policy of `policy_type`.

    `regions` are the known regions; schedules are judged by their next two firings after `now`.

    Raises:
        MalformedPolicyError: it may not; the error has a reason and the JSON pointer of the place.
        PolicyTooLongError: it is longer than policies of this type may be.
    """
    refuse_too_long(policy_type, content)
    parsed = parse(content, fold_keys=KINDS[policy_type].inherits)
    for problem in problems_of(policy_type, parsed.value, regions=regions, now=now):
        raise problem
    if policy_type in _EVALUATED:
        # What decides every call must be understood by what decides it, to the last condition operator.
        try:
            parse_document(content, _EVALUATED[policy_type])
        except InvalidInputError as error:
            raise MalformedPolicyError(str(error)) from error


def refuse_too_long(policy_type: str, content: str) -> None:
    """Refuse a document that has more characters than its type may have, white space included.

    Raises:
        PolicyTooLongError: it has.
    """
    most = KINDS[policy_type].most_characters
    if len(content) > most:
        raise PolicyTooLongError(f"the document has {len(content)} characters; a {policy_type} may have {most}")


def problems_of(
    policy_type: str, value: Json, *, regions: Collection[str], now: datetime
) -> Iterator[MalformedPolicyError]:
    """Yield everything that keeps a parsed document from being a policy of this type, from top to bottom."""
    if not isinstance(value, dict):
        yield MalformedPolicyError("a policy is a JSON object")
    elif policy_type == BACKUP:
        yield from problems(backup_grammar.grammar(regions, now), value)
    elif policy_type == TAG:
        yield from problems(_TAG_POLICY, value)
    elif policy_type == AI_OPT_OUT:
        yield from problems(_AI_OPT_OUT_POLICY, value)
    elif policy_type in {SERVICE_CONTROL, RESOURCE_CONTROL}:
        try:
            check_control_policy(policy_type, value)
        except MalformedPolicyError as problem:
            yield problem
