"""Condition operators, one table."""

from typing import Any

import pytest
from tests.access.builders import a_request, a_user, allow, deny, policy

from holdfast.access.model import DocumentKind, Policy, PolicySet, evaluate, parse_document, values_of
from holdfast.access.model.condition import parse_condition

ARN = "arn:aws:iam::111122223333:role/service/Backup"
MISSING: dict[str, Any] = {}


def one(value: Any) -> dict[str, Any]:
    return {"k:K": value}


@pytest.mark.parametrize(
    ("operator", "values", "request_values", "holds"),
    [
        ("StringEquals", ["a", "b"], one("b"), True),
        ("StringEquals", ["a"], one("A"), False),
        ("StringEquals", ["a*"], one("ab"), False),
        ("StringEquals", ["a"], MISSING, False),
        ("StringNotEquals", ["a", "b"], one("c"), True),
        ("StringNotEquals", ["a", "b"], one("b"), False),
        ("StringNotEquals", ["a"], MISSING, True),
        ("StringEqualsIgnoreCase", ["AB"], one("ab"), True),
        ("StringNotEqualsIgnoreCase", ["AB"], one("ab"), False),
        ("StringLike", ["a*c?"], one("abbbcd"), True),
        ("StringLike", ["a*c?"], one("abbbc"), False),
        ("StringLike", ["a.c"], one("abc"), False),
        ("StringNotLike", ["a*"], one("abc"), False),
        ("StringNotLike", ["a*"], one("bc"), True),
        ("StringLikeIfExists", ["a*"], MISSING, True),
        ("StringLikeIfExists", ["a*"], one("b"), False),
        ("NumericEquals", ["10"], one("10.0"), True),
        ("NumericEquals", ["10"], one("ten"), False),
        ("NumericNotEquals", ["10"], one("11"), True),
        ("NumericLessThan", ["10"], one("9"), True),
        ("NumericLessThan", ["10"], one("10"), False),
        ("NumericLessThanEquals", ["10"], one("10"), True),
        ("NumericGreaterThan", ["-1"], one("0"), True),
        ("NumericGreaterThanEquals", ["1e2"], one("99"), False),
        ("NumericLessThan", ["10"], MISSING, False),
        ("NumericNotEquals", ["10"], MISSING, True),
        ("DateEquals", ["2026-11-01T00:00:00Z"], one("2026-11-01T02:00:00+02:00"), True),
        ("DateEquals", ["2026-11-01"], one("1793491200"), True),
        ("DateNotEquals", ["2026"], one("2026-01-01T00:00:00Z"), False),
        ("DateLessThan", ["2026-11"], one("2026-10-31T23:59:59Z"), True),
        ("DateLessThanEquals", ["2026-11-01T00:00Z"], one("2026-11-01T00:00:01Z"), False),
        ("DateGreaterThan", ["1793491200"], one("2026-11-01T00:00:01Z"), True),
        ("DateGreaterThanEquals", ["2026-11-01T00:00:00.5Z"], one("2026-11-01T00:00:00Z"), False),
        ("DateLessThan", ["2026-11-01"], one("never"), False),
        ("Bool", ["true"], one("true"), True),
        ("Bool", ["True"], one("false"), False),
        ("Bool", ["false"], MISSING, False),
        ("BoolIfExists", ["true"], MISSING, True),
        ("BinaryEquals", ["aGk="], one("aGk="), True),
        ("BinaryEquals", ["aGk="], one("aGo="), False),
        ("BinaryEquals", ["aGk="], one("not base64!"), False),
        ("IpAddress", ["203.0.113.0/24"], one("203.0.113.77"), True),
        ("IpAddress", ["203.0.113.0/24"], one("203.0.114.77"), False),
        ("IpAddress", ["203.0.113.5"], one("::ffff:203.0.113.5"), True),
        ("IpAddress", ["2001:db8::/32"], one("2001:db8::1"), True),
        ("IpAddress", ["2001:db8::/32"], one("203.0.113.5"), False),
        ("IpAddress", ["0.0.0.0/0"], one("backup.amazonaws.com"), False),
        ("NotIpAddress", ["203.0.113.0/24"], one("backup.amazonaws.com"), True),
        ("NotIpAddress", ["203.0.113.0/24"], one("203.0.113.1"), False),
        ("ArnLike", ["arn:aws:iam::*:role/*"], one(ARN), True),
        ("ArnEquals", ["arn:aws:iam::*:role/service/Back?p"], one(ARN), True),
        ("ArnLike", ["arn:aws:iam::*"], one(ARN), True),
        ("ArnLike", ["arn:aws:*:role/*"], one(ARN), False),
        ("ArnLike", ["*"], one(ARN), True),
        ("ArnLike", ["*"], one("no arn"), False),
        ("ArnNotLike", ["arn:aws:iam::*:user/*"], one(ARN), True),
        ("ArnNotEquals", ["arn:aws:iam::111122223333:role/*"], one(ARN), False),
        ("ArnLike", ["arn:aws:sns:*:1:*"], one("arn:aws:sns:eu:1:t:sub:x"), True),
        ("Null", ["true"], MISSING, True),
        ("Null", ["true"], one("a"), False),
        ("Null", ["false"], one("a"), True),
        ("Null", ["false"], one([]), False),
        ("ForAnyValue:StringEquals", ["a", "b"], one(["x", "b"]), True),
        ("ForAnyValue:StringEquals", ["a"], one(["x"]), False),
        ("ForAnyValue:StringEquals", ["a"], MISSING, False),
        ("ForAnyValue:StringEqualsIfExists", ["a"], MISSING, True),
        ("ForAnyValue:StringNotEquals", ["a"], one(["a", "b"]), True),
        ("ForAnyValue:StringNotEquals", ["a"], one(["a"]), False),
        ("ForAnyValue:StringNotEquals", ["a"], MISSING, False),
        ("ForAllValues:StringLike", ["a*", "b"], one(["ab", "b"]), True),
        ("ForAllValues:StringLike", ["a*"], one(["ab", "b"]), False),
        ("ForAllValues:StringLike", ["a*"], MISSING, True),
        ("ForAllValues:StringLike", ["a*"], one([]), True),
        ("ForAllValues:StringNotEquals", ["a"], one(["b", "c"]), True),
        ("ForAllValues:StringNotEquals", ["a"], one(["b", "a"]), False),
        ("StringEquals", ["a"], one(["x", "a"]), True),
        ("StringNotEquals", ["a"], one(["x", "a"]), False),
    ],
)
def test_an_operator(operator: str, values: list[str], request_values: dict[str, Any], holds: bool) -> None:
    condition = parse_condition(operator, "K:k", values, with_variables=True)
    assert condition.holds(values_of(request_values)) is holds


def test_conditions_of_one_statement_must_all_hold() -> None:
    both = policy(
        allow(
            Condition={
                "StringEquals": {"aws:RequestedRegion": ["eu-north-1", "eu-west-1"]},
                "IpAddress": {"aws:SourceIp": "203.0.113.0/24"},
            }
        )
    )
    inside: dict[str, Any] = {"aws__SourceIp": "203.0.113.9"}
    for values, passes in (
        ({**inside, "aws__RequestedRegion": "eu-west-1"}, True),
        ({**inside, "aws__RequestedRegion": "us-east-1"}, False),
        (inside, False),
    ):
        assert evaluate(a_request(**values), PolicySet(identity=(both,))).allowed is passes


def test_a_key_in_two_letter_cases_is_asked_twice() -> None:
    both = policy(allow(Condition={"StringEquals": {"k:a": ["x", "y"], "K:A": ["y", "z"]}}))
    for value, passes in (("x", False), ("y", True), ("z", False)):
        assert evaluate(a_request(k__a=value), PolicySet(identity=(both,))).allowed is passes


BUCKET = "arn:aws:s3:::home/"


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        (BUCKET + "${aws:username}/*", BUCKET + "maria/x", True),
        (BUCKET + "${aws:username}/*", BUCKET + "juan/x", False),
        (BUCKET + "${AWS:UserName}/*", BUCKET + "maria/x", True),
        (BUCKET + "${aws:PrincipalTag/team, 'shared'}/*", BUCKET + "shared/x", True),
        (BUCKET + "${aws:PrincipalTag/team}/*", BUCKET + "/x", False),
        (BUCKET + "${*}", BUCKET + "*", True),
        (BUCKET + "${*}", BUCKET + "anything", False),
        (BUCKET + "${$}{aws:username}", BUCKET + "${aws:username}", True),
    ],
)
def test_policy_variables_in_a_resource(pattern: str, resource: str, matches: bool) -> None:
    own = policy(allow("s3:*", pattern))
    assert evaluate(a_request(action="s3:GetObject", resource=resource), PolicySet(identity=(own,))).allowed is matches


def test_a_variables_value_is_no_pattern() -> None:
    own = policy(allow("s3:*", BUCKET + "${aws:PrincipalTag/team}/*"))
    caller = a_user(tags=(("team", "*"),))
    assert not evaluate(a_request(caller, "s3:GetObject", BUCKET + "others/x"), PolicySet(identity=(own,))).allowed
    assert evaluate(a_request(caller, "s3:GetObject", BUCKET + "*/x"), PolicySet(identity=(own,))).allowed


def test_in_the_old_version_a_variable_is_only_text() -> None:
    text = '{"Version": "2008-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "%s"}}'
    old = Policy("old", parse_document(text % (BUCKET + "${aws:username}"), DocumentKind.IDENTITY))
    assert not evaluate(a_request(resource=BUCKET + "maria"), PolicySet(identity=(old,))).allowed
    assert evaluate(a_request(resource=BUCKET + "${aws:username}"), PolicySet(identity=(old,))).allowed


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Action": "*", "NotResource": BUCKET + "${aws:PrincipalTag/team}"},
        allow(Condition={"StringNotEquals": {"aws:RequestedRegion": "${aws:PrincipalTag/region}"}}),
        allow(Condition={"StringEquals": {"aws:RequestedRegion": "${aws:PrincipalTag/region}"}}),
    ],
)
def test_an_allow_with_a_variable_that_has_no_value_allows_nothing(statement: dict[str, Any]) -> None:
    request = a_request(aws__RequestedRegion="eu-north-1")
    assert not evaluate(request, PolicySet(identity=(policy(statement),))).allowed


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Deny", "Action": "*", "NotResource": BUCKET + "${aws:PrincipalTag/team}"},
        deny(Condition={"StringNotEquals": {"aws:RequestedRegion": "${aws:PrincipalTag/region}"}}),
    ],
)
def test_a_deny_of_everything_but_a_variable_that_has_no_value_denies_everything(statement: dict[str, Any]) -> None:
    request = a_request(aws__RequestedRegion="eu-north-1")
    assert not evaluate(request, PolicySet(identity=(policy(allow(), statement),))).allowed


def test_a_session_tag_hides_the_roles_tag_of_the_same_key() -> None:
    by_team = policy(allow(Condition={"StringEquals": {"aws:PrincipalTag/team": "red"}}))
    for tags, passes in (((("Team", "blue"), ("team", "red")), False), ((("team", "red"), ("team", "blue")), True)):
        assert evaluate(a_request(a_user(tags=tags)), PolicySet(identity=(by_team,))).allowed is passes
