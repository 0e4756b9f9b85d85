"""The grammar of service and resource control policies: permission statements without an own principal.

AWS Organizations User Guide, "SCP syntax" and "RCP syntax". What the statements mean is evaluated elsewhere; here it
is only checked that they say something.
"""

import re
from typing import Final

from holdfast.policy.model.document import Json, Literal, MalformedPolicyError, child
from holdfast.policy.model.grammar import closest
from holdfast.policy.model.kind import RESOURCE_CONTROL

_VERSION: Final = "2012-10-17"
_DOCUMENT_KEYS: Final = frozenset({"Version", "Id", "Statement"})
_STATEMENT_KEYS: Final = frozenset(
    {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition", "Principal"}
)
_ACTION = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_RESOURCE = re.compile(r"\*|arn:[^:]*:[^:]+:[^:]*:[^:]*:.+")
_SID = re.compile(r"[A-Za-z0-9]*")


def check_control_policy(policy_type: str, document: dict[str, Json]) -> None:
    """Check that `document` is a service or resource control policy.

    Raises:
        MalformedPolicyError: it is not; the error says where and why.
    """
    _check_keys(document, _DOCUMENT_KEYS, "")
    if document.get("Version") != _VERSION:
        raise MalformedPolicyError(f"the Version of a control policy is {_VERSION!r}", "/Version")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        _check_statement(policy_type, statements, "/Statement")
        return
    if not isinstance(statements, list) or not statements:
        raise MalformedPolicyError("Statement is an object, or a list with at least one", "/Statement")
    for index, statement in enumerate(statements):
        pointer = child("/Statement", index)
        if not isinstance(statement, dict):
            raise MalformedPolicyError("a statement is an object", pointer)
        _check_statement(policy_type, statement, pointer)


def _check_keys(members: dict[str, Json], known: frozenset[str], pointer: str) -> None:
    for key in members:
        if key not in known:
            reason = f"{key!r} is no element of a control policy"
            raise MalformedPolicyError(reason, child(pointer, key), suggestion=closest(key, known))


def _check_statement(policy_type: str, statement: dict[str, Json], pointer: str) -> None:
    _check_keys(statement, _STATEMENT_KEYS, pointer)
    _check_effect_and_principal(policy_type, statement, pointer)
    sid = statement.get("Sid", "")
    if not isinstance(sid, str) or not _SID.fullmatch(sid):
        raise MalformedPolicyError("a Sid has letters and digits only", child(pointer, "Sid"))
    _check_one_of(statement, "Action", "NotAction", _ACTION, "SERVICE:ACTION", pointer)
    _check_one_of(statement, "Resource", "NotResource", _RESOURCE, "an ARN or '*'", pointer)
    if "Condition" in statement:
        _check_condition(statement["Condition"], child(pointer, "Condition"))


def _check_effect_and_principal(policy_type: str, statement: dict[str, Json], pointer: str) -> None:
    effects = ("Deny",) if policy_type == RESOURCE_CONTROL else ("Allow", "Deny")
    if statement.get("Effect") not in effects:
        raise MalformedPolicyError(f"the Effect is {' or '.join(effects)}", child(pointer, "Effect"))
    if policy_type == RESOURCE_CONTROL and statement.get("Principal") != "*":
        raise MalformedPolicyError("the Principal of a resource control policy is '*'", child(pointer, "Principal"))
    if policy_type != RESOURCE_CONTROL and "Principal" in statement:
        raise MalformedPolicyError("a service control policy has no Principal", child(pointer, "Principal"))


def _check_one_of(
    statement: dict[str, Json], one: str, other: str, pattern: re.Pattern[str], what: str, pointer: str
) -> None:
    present = [key for key in (one, other) if key in statement]
    if len(present) != 1:
        raise MalformedPolicyError(f"a statement has either {one} or {other}", pointer)
    values = statement[present[0]]
    listed = values if isinstance(values, list) else [values]
    if not listed:
        raise MalformedPolicyError("the list must not be empty", child(pointer, present[0]))
    for value in listed:
        if not isinstance(value, str) or isinstance(value, Literal) or not pattern.fullmatch(value):
            raise MalformedPolicyError(f"{present[0]} holds {what}", child(pointer, present[0]))


def _check_condition(condition: Json, pointer: str) -> None:
    if not isinstance(condition, dict):
        raise MalformedPolicyError("a Condition is an object of operators", pointer)
    for operator, tests in condition.items():
        here = child(pointer, operator)
        if not isinstance(tests, dict) or not tests:
            raise MalformedPolicyError("a condition operator holds an object of keys and values", here)
        for key, values in tests.items():
            listed = values if isinstance(values, list) else [values]
            if not listed or not all(isinstance(value, str) for value in listed):
                raise MalformedPolicyError("a condition compares with a value or a list of values", child(here, key))
