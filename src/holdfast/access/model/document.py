"""Policy documents: the grammar of the IAM policy language, checked and compiled once.

Rules: AWS Identity and Access Management User Guide, "Grammar of the IAM JSON policy language" and the pages of its
elements; AWS Organizations User Guide, "SCP syntax" and "RCP syntax".
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from holdfast.access.model.condition import Condition, check_operator, parse_condition
from holdfast.access.model.pattern import (
    Template,
    Values,
    Variable,
    parse_template,
    resource_pattern,
    text_pattern,
    union,
)
from holdfast.access.model.principal import Principals, parse_principals
from holdfast.core.errors import InvalidInputError

CURRENT = "2012-10-17"
_VERSIONS = (CURRENT, "2008-10-17")
_DOCUMENT_ELEMENTS = ("Version", "Id", "Statement")
_STATEMENT_ELEMENTS = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
_ACTION = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9*?]+\Z")
_SID = re.compile(r"[A-Za-z0-9]*\Z")
_ARN_START = re.compile(r"arn:[^:]*:[^:]*")
_MEMO_SIZE = 2048


class MalformedPolicyError(InvalidInputError):
    """A policy document does not follow the grammar of the policy language; the text says where and how."""


class DocumentKind(StrEnum):
    """What a document is for; the grammar differs a little."""

    IDENTITY = "identity-based policy"
    """Also boundaries and session policies: it speaks of whoever has it."""
    RESOURCE = "resource-based policy"
    TRUST = "role trust policy"
    SCP = "service control policy"
    RCP = "resource control policy"


class Effect(StrEnum):
    """What a statement does to the requests that it matches."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Texts:
    """Patterns of one element, with those that need the request's values kept apart."""

    fixed: re.Pattern[str] | None
    templates: tuple[Template, ...]

    def match(self, text: str, request: Values) -> bool:
        """Return whether one of the patterns matches."""
        if self.fixed is not None and self.fixed.match(text) is not None:
            return True
        for template in self.templates:
            resolved = template.resolve(request)
            if resolved is not None and union([resource_pattern(resolved)]).match(text) is not None:
                return True
        return False


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One compiled statement of a document."""

    number: int
    """Counted from 1, as people do."""
    sid: str
    effect: Effect
    actions: re.Pattern[str]
    action_texts: tuple[str, ...]
    is_not_action: bool
    resources: Texts | None
    """None where the document is attached to the resource itself and names none."""
    is_not_resource: bool
    principals: Principals | None
    is_not_principal: bool
    conditions: tuple[Condition, ...]
    needed: tuple[Variable, ...]
    """Variables without which an Allow would say more than was meant; without them it says nothing."""

    def speaks_of_action(self, action: str) -> bool:
        """Return whether the statement is about `action`, given in lower case."""
        return (self.actions.match(action) is not None) is not self.is_not_action

    def speaks_of(self, resource: str, request: Values) -> bool:
        """Return whether the statement is about this resource, and its conditions hold."""
        if any(variable.value(request) is None for variable in self.needed):
            return False
        resources = self.resources
        if resources is not None and resources.match(resource, request) is self.is_not_resource:
            return False
        return all(condition.holds(request) for condition in self.conditions)

    def __str__(self) -> str:
        return f"statement {self.number}" + (f" ({self.sid})" if self.sid else "")


class Document:
    """A policy document, compiled; remembers which of its statements are about which action."""

    __slots__ = ("_by_action", "kind", "statements", "text", "version")

    def __init__(self, kind: DocumentKind, version: str, statements: tuple[Statement, ...], text: str) -> None:
        self.kind = kind
        self.version = version
        self.statements = statements
        self.text = text
        self._by_action: dict[str, tuple[tuple[Statement, ...], tuple[Statement, ...]]] = {}

    def about(self, action: str) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
        """Return the statements about `action` (in lower case): those that deny, those that allow."""
        known = self._by_action.get(action)
        if known is None:
            matching = [statement for statement in self.statements if statement.speaks_of_action(action)]
            known = (
                tuple(statement for statement in matching if statement.effect is Effect.DENY),
                tuple(statement for statement in matching if statement.effect is Effect.ALLOW),
            )
            if len(self._by_action) >= _MEMO_SIZE:
                self._by_action.clear()
            self._by_action[action] = known
        return known


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise MalformedPolicyError(f"the key {key!r} occurs twice in one object")
        seen[key] = value
    return seen


def _no_constants(text: str) -> Any:
    raise MalformedPolicyError(f"{text} is not a value of JSON")


def load_json(text: str) -> Any:
    """Return the JSON value of a policy text, refusing what is not plain JSON.

    Raises:
        MalformedPolicyError: it is not JSON, names a key twice, or is nested absurdly deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except json.JSONDecodeError as error:
        raise MalformedPolicyError(
            f"the policy is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise MalformedPolicyError("the policy is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, MalformedPolicyError):
            raise
        raise MalformedPolicyError("the policy holds a number that is too long") from error


@lru_cache(maxsize=4096)
def parse_document(text: str, kind: DocumentKind, *, managed: bool = False) -> Document:
    """Return the compiled document; the same text is compiled once.

    `managed` is for documents that come with Holdfast, which may use what customers' resource control policies may not.

    Raises:
        MalformedPolicyError: the text does not follow the grammar for documents of this kind.
    """
    whole = load_json(text)
    if not isinstance(whole, dict):
        raise MalformedPolicyError("a policy is a JSON object with a Version and a Statement")
    _refuse_unknown(whole, _DOCUMENT_ELEMENTS, "the policy")
    version = whole.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise MalformedPolicyError(f"Version is {' or '.join(_VERSIONS)}, not {version!r}")
    if not isinstance(whole.get("Id", ""), str):
        raise MalformedPolicyError("Id is a text")
    if "Statement" not in whole:
        raise MalformedPolicyError("the policy has no Statement")
    listed = whole["Statement"]
    shapes = listed if isinstance(listed, list) else [listed]
    if not shapes:
        raise MalformedPolicyError("the policy has no Statement in its list")
    statements = []
    sids: set[str] = set()
    for number, shape in enumerate(shapes, start=1):
        try:
            statement = _statement(shape, number, kind, with_variables=version == CURRENT, managed=managed)
        except InvalidInputError as error:
            raise MalformedPolicyError(f"Statement {number}: {error}") from error
        if statement.sid and statement.sid in sids:
            raise MalformedPolicyError(f"Statement {number}: the Sid {statement.sid!r} is used twice in this policy")
        sids.add(statement.sid)
        statements.append(statement)
    return Document(kind, version, tuple(statements), text)


def _refuse_unknown(shape: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for name in shape:
        if name not in known:
            near = next((element for element in known if element.lower() == name.lower()), None)
            hint = f"; did you mean {near}?" if near else f"; it has {', '.join(known)}"
            raise MalformedPolicyError(f"{what} has no element {name!r}{hint}")


def _one_of(shape: Mapping[str, Any], name: str, other: str) -> str | None:
    if name in shape and other in shape:
        raise MalformedPolicyError(f"{name} and {other} exclude each other")
    return name if name in shape else other if other in shape else None


def _text_list(value: Any, name: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise MalformedPolicyError(f"{name} is a text or a list of texts")
    if not texts:
        raise MalformedPolicyError(f"{name} is empty")
    return texts


def _statement(shape: Any, number: int, kind: DocumentKind, *, with_variables: bool, managed: bool) -> Statement:
    if not isinstance(shape, dict):
        raise MalformedPolicyError("a statement is a JSON object")
    _refuse_unknown(shape, _STATEMENT_ELEMENTS, "a statement")
    sid = shape.get("Sid", "")
    if not isinstance(sid, str):
        raise MalformedPolicyError("Sid is a text")
    if kind is not DocumentKind.RESOURCE and _SID.match(sid) is None:
        raise MalformedPolicyError(f"Sid takes letters and digits only, not {sid!r}")
    effect = shape.get("Effect")
    if effect not in ("Allow", "Deny"):
        given = "none is given" if effect is None else f"not {effect!r}"
        raise MalformedPolicyError(f"Effect is Allow or Deny (in this letter case), {given}")
    principals, is_not_principal = _principals(shape, kind, effect)
    action_texts, is_not_action = _actions(shape, kind)
    resources, is_not_resource, open_ones = _resources(shape, kind, with_variables=with_variables)
    conditions = _conditions(shape.get("Condition", {}), with_variables=with_variables)
    if kind is DocumentKind.RCP and not managed:
        _check_rcp(effect, action_texts, principals, is_not_action=is_not_action, is_not_principal=is_not_principal)
    needed: list[Variable] = []
    if effect == "Allow":
        widening = [template for condition in conditions if condition.is_negated for template in condition.templates]
        widening += open_ones if is_not_resource else ()
        needed = [variable for template in widening for variable in template.variables]
    return Statement(
        number=number,
        sid=sid,
        effect=Effect(effect),
        actions=union([text_pattern(Template((text.lower(),))) for text in action_texts]),
        action_texts=tuple(action_texts),
        is_not_action=is_not_action,
        resources=resources,
        is_not_resource=is_not_resource,
        principals=principals,
        is_not_principal=is_not_principal,
        conditions=conditions,
        needed=tuple(needed),
    )


def _principals(shape: Mapping[str, Any], kind: DocumentKind, effect: str) -> tuple[Principals | None, bool]:
    name = _one_of(shape, "Principal", "NotPrincipal")
    if kind in {DocumentKind.IDENTITY, DocumentKind.SCP}:
        if name is not None:
            raise MalformedPolicyError(f"a {kind} speaks of whoever has it and takes no {name}")
        return None, False
    if name is None:
        raise MalformedPolicyError(f"a {kind} names a Principal")
    if name == "NotPrincipal" and effect == "Allow":
        raise MalformedPolicyError("NotPrincipal goes with Deny only: with Allow it would let in everybody else")
    return parse_principals(shape[name], name=name), name == "NotPrincipal"


def _actions(shape: Mapping[str, Any], kind: DocumentKind) -> tuple[list[str], bool]:
    name = _one_of(shape, "Action", "NotAction")
    if name is None:
        raise MalformedPolicyError("there is neither Action nor NotAction")
    texts = _text_list(shape[name], name)
    for text in texts:
        if text not in {"*", "*:*"} and _ACTION.match(text) is None:
            raise MalformedPolicyError(f"{name} takes service:Operation, such as backup:StartBackupJob, not {text!r}")
        if kind is DocumentKind.TRUST and not text.lower().startswith("sts:"):
            raise MalformedPolicyError(f"a role trust policy speaks of sts actions only, not {text!r}")
    return texts, name == "NotAction"


def _resources(
    shape: Mapping[str, Any], kind: DocumentKind, *, with_variables: bool
) -> tuple[Texts | None, bool, tuple[Template, ...]]:
    name = _one_of(shape, "Resource", "NotResource")
    if kind is DocumentKind.TRUST:
        if name is not None:
            raise MalformedPolicyError(f"a role trust policy is about its role and takes no {name}")
        return None, False, ()
    if name is None:
        raise MalformedPolicyError("there is neither Resource nor NotResource")
    texts = _text_list(shape[name], name)
    for text in texts:
        if text != "*" and _ARN_START.match(text) is None and not (with_variables and text.startswith("${")):
            raise MalformedPolicyError(f"{name} takes an ARN or *, not {text!r}")
    templates = [parse_template(text, with_variables=with_variables) for text in texts]
    fixed = [resource_pattern(template) for template in templates if not template.variables]
    open_ones = tuple(template for template in templates if template.variables)
    return Texts(union(fixed) if fixed else None, open_ones), name == "NotResource", open_ones


def _conditions(element: Any, *, with_variables: bool) -> tuple[Condition, ...]:
    if not isinstance(element, dict):
        raise MalformedPolicyError(
            'Condition is an object such as {"StringEquals": {"aws:RequestedRegion": "eu-north-1"}}'
        )
    conditions = []
    for operator, keys in element.items():
        if not isinstance(keys, dict):
            raise MalformedPolicyError(f"Condition.{operator} is an object of condition keys")
        check_operator(operator)
        for key, value in keys.items():
            values = [_condition_value(one, operator) for one in (value if isinstance(value, list) else [value])]
            conditions.append(parse_condition(operator, key, values, with_variables=with_variables))
    return tuple(conditions)


def _condition_value(value: Any, operator: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise MalformedPolicyError(f"Condition.{operator} takes texts, numbers, true and false as values")


def _check_rcp(
    effect: str,
    actions: Sequence[str],
    principals: Principals | None,
    *,
    is_not_action: bool,
    is_not_principal: bool,
) -> None:
    if effect != "Deny":
        raise MalformedPolicyError("a resource control policy only denies")
    if is_not_action:
        raise MalformedPolicyError("a resource control policy takes no NotAction")
    if "*" in actions:
        raise MalformedPolicyError('a resource control policy names services: "backup:*", not "*"')
    if is_not_principal or principals is None or not principals.everybody:
        raise MalformedPolicyError('the Principal of a resource control policy is "*"; narrow it with a Condition')
