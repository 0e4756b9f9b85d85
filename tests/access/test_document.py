"""The grammar of policy documents, and errors that point at what is wrong."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.access.builders import a_request, allow, deny, document

from holdfast.access.model import DocumentKind, MalformedPolicyError, PolicySet, evaluate, parse_document
from holdfast.access.model.condition import OPERATORS
from holdfast.access.model.request import Policy

IDENTITY, RESOURCE, TRUST = DocumentKind.IDENTITY, DocumentKind.RESOURCE, DocumentKind.TRUST
SCP, RCP = DocumentKind.SCP, DocumentKind.RCP
TRUSTED = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "backup.amazonaws.com"}}


def with_condition(condition: Any) -> str:
    return document(allow(Condition=condition))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("{", IDENTITY, "not JSON.*line 1"),
        ("[]", IDENTITY, "JSON object"),
        ("[" * 100_000, IDENTITY, "nested too deeply|not JSON"),
        ('{"Statement": [], "Statement": []}', IDENTITY, "'Statement' occurs twice"),
        ('{"Version": NaN, "Statement": []}', IDENTITY, "NaN"),
        ('{"Version": ' + "9" * 5000 + "}", IDENTITY, "too long"),
        ('{"Version": "2012-10-18", "Statement": {}}', IDENTITY, "Version is 2012-10-17 or 2008-10-17"),
        ('{"Version": "2012-10-17"}', IDENTITY, "has no Statement"),
        ('{"Statement": []}', IDENTITY, "no Statement"),
        ('{"Statement": ["a"]}', IDENTITY, "Statement 1: a statement is a JSON object"),
        ('{"statement": []}', IDENTITY, "did you mean Statement"),
        ('{"Id": 5, "Statement": []}', IDENTITY, "Id is a text"),
        (document({**allow(), "Resources": "*"}), IDENTITY, "Statement 1.*no element 'Resources'"),
        (document({"Effect": "allow", "Action": "*", "Resource": "*"}), IDENTITY, "Effect is Allow or Deny.*'allow'"),
        (document({"Action": "*", "Resource": "*"}), IDENTITY, "none is given"),
        (document({**allow(), "Sid": "with space"}), IDENTITY, "Sid takes letters and digits"),
        (document({**allow(), "Sid": 5}), IDENTITY, "Sid is a text"),
        (document({**allow(), "Sid": "One"}, {**deny(), "Sid": "One"}), IDENTITY, "Statement 2.*used twice"),
        (document({"Effect": "Allow", "Resource": "*"}), IDENTITY, "neither Action nor NotAction"),
        (document({**allow(), "NotAction": "*"}), IDENTITY, "Action and NotAction exclude each other"),
        (document(allow("StartBackupJob")), IDENTITY, "service:Operation.*'StartBackupJob'"),
        (document(allow("back*:x")), IDENTITY, "service:Operation"),
        (document(allow([])), IDENTITY, "Action is empty"),
        (document(allow({"a": "b"})), IDENTITY, "text or a list of texts"),  # type: ignore[arg-type]  # on purpose
        (document({"Effect": "Allow", "Action": "*"}), IDENTITY, "neither Resource nor NotResource"),
        (document(allow("*", "my-vault")), IDENTITY, "Resource takes an ARN"),
        (document(allow("*", "arn:aws:s3:::${aws:username")), IDENTITY, "not closed"),
        (document(allow("*", "arn:aws:s3:::${}")), IDENTITY, "not a policy variable"),
        (document(allow("*", "arn:aws:s3:::${a, b}")), IDENTITY, "not a policy variable"),
        (document(allow(Principal="*")), IDENTITY, "takes no Principal"),
        (document(allow(Principal="*")), SCP, "takes no Principal"),
        (document(allow()), RESOURCE, "names a Principal"),
        (document(allow(Principal="me")), RESOURCE, "Principal is"),
        (document(allow(Principal={"AWS": "maria"})), RESOURCE, "Principal.AWS takes"),
        (document(allow(Principal={"AWS": "arn:aws:iam::111122223333:user/*"})), RESOURCE, "without wildcards"),
        (document(allow(Principal={"AWS": []})), RESOURCE, "list of texts"),
        (document(allow(Principal={"Aws": "*"})), RESOURCE, "not 'Aws'"),
        (document(allow(Principal={"Service": "backup"})), RESOURCE, "backup.amazonaws.com"),
        (document(allow(NotPrincipal={"AWS": "111122223333"})), RESOURCE, "goes with Deny only"),
        (document(deny(NotPrincipal={"AWS": "*"})), RESOURCE, "nobody is left"),
        (document({**TRUSTED, "Resource": "*"}), TRUST, "takes no Resource"),
        (document({**TRUSTED, "Action": "backup:*"}), TRUST, "sts actions only"),
        (document(allow("backup:*", Principal="*")), RCP, "only denies"),
        (document(deny("*", Principal="*")), RCP, "names services"),
        (document(deny("backup:*", Principal={"AWS": "111122223333"})), RCP, 'is "\\*"'),
        (with_condition([]), IDENTITY, "Condition is an object"),
        (with_condition({"StringEquals": "x"}), IDENTITY, "object of condition keys"),
        (with_condition({"StringEquals": {"aws:a": {}}}), IDENTITY, "texts, numbers, true and false"),
        (with_condition({"StringEquals": {"aws:a": []}}), IDENTITY, "names no value"),
        (with_condition({"stringEquals": {"aws:a": "b"}}), IDENTITY, "did you mean StringEquals"),
        (with_condition({"ForSomeValues:StringEquals": {"aws:a": "b"}}), IDENTITY, "qualifiers are"),
        (with_condition({"NullIfExists": {"aws:a": "true"}}), IDENTITY, "neither IfExists"),
        (with_condition({"Null": {"aws:a": "perhaps"}}), IDENTITY, "Null takes"),
        (with_condition({"StringEquals": {"username": "b"}}), IDENTITY, "not a condition key"),
        (with_condition({"Odd": {}}), IDENTITY, "not a condition operator"),
        (with_condition({"StringEquals": {"aws:ResourceTag": "b"}}), IDENTITY, "key of a tag"),
        (with_condition({"NumericEquals": {"aws:a": "many"}}), IDENTITY, "compares numbers.*'many'"),
        (with_condition({"NumericEquals": {"aws:a": "${aws:b}"}}), IDENTITY, "no policy variables"),
        (with_condition({"DateLessThan": {"aws:CurrentTime": "soon"}}), IDENTITY, "compares dates"),
        (with_condition({"Bool": {"aws:a": "yes"}}), IDENTITY, '"true" or "false"'),
        (with_condition({"BinaryEquals": {"aws:a": "!"}}), IDENTITY, "base64"),
        (with_condition({"IpAddress": {"aws:SourceIp": "300.1.1.1"}}), IDENTITY, "203.0.113.0/24"),
    ],
)
def test_a_document_that_breaks_the_grammar_is_refused_with_the_place(
    text: str, kind: DocumentKind, words: str
) -> None:
    with pytest.raises(MalformedPolicyError, match=words):
        parse_document(text, kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (document(allow()), IDENTITY),
        (json.dumps({"Statement": allow(["backup:*", "kms:Decrypt"], ["arn:aws:s3:::a", "*"]), "Id": "x"}), IDENTITY),
        (document(allow("*", "arn:aws:s3:::${aws:username}/*")), IDENTITY),
        (document(allow("*", "${aws:PrincipalTag/vault}")), IDENTITY),
        (document(allow("*", "arn:aws:s3:::${x")), IDENTITY),
        (document({**allow(Principal={"AWS": ["111122223333", "AROA" + "A" * 17]}), "Sid": "any text"}), RESOURCE),
        (document(allow(Principal={"CanonicalUser": "a1b2", "Federated": "cognito-identity.amazonaws.com"})), RESOURCE),
        (document(TRUSTED), TRUST),
        (document(deny("backup:*", Principal="*")), RCP),
        (with_condition({"Bool": {"aws:SecureTransport": True}, "NumericLessThan": {"a:b": [1, 2.5]}}), SCP),
    ],
)
def test_a_good_document_is_read(text: str, kind: DocumentKind) -> None:
    old = text.replace("2012-10-17", "2008-10-17") if "${x" in text else text
    assert parse_document(old, kind).statements


def test_a_document_that_comes_with_the_organization_may_allow_everything_to_everybody() -> None:
    text = document(allow(Principal="*"))
    assert parse_document(text, RCP, managed=True).statements


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ODD = st.sampled_from(["*", "${a", "${aws:username}", "arn:aws:s3:::${*}*", "backup:*", "arn:", "\x00", "ü:?"]) | JSON
ELEMENTS = st.sampled_from(
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition", "X"]
)
CONDITIONS = st.dictionaries(
    st.sampled_from(sorted(OPERATORS)) | st.just("ForAllValues:StringLike") | st.text(max_size=5),
    st.dictionaries(st.sampled_from(["aws:SourceIp", "aws:CurrentTime", "a:b"]), ODD, max_size=2) | JSON,
    max_size=2,
)
STATEMENT = st.builds(
    lambda base, extra: {**base, **extra},
    st.fixed_dictionaries(
        {"Effect": st.sampled_from(["Allow", "Deny"])},
        optional={"Action": ODD, "Resource": ODD, "Condition": CONDITIONS},
    ),
    st.dictionaries(ELEMENTS, ODD, max_size=2),
)


@given(
    text=st.one_of(
        st.text(max_size=40),
        JSON.map(json.dumps),
        st.lists(STATEMENT, max_size=2).map(lambda s: json.dumps({"Version": "2012-10-17", "Statement": s})),
    ),
    kind=st.sampled_from(DocumentKind),
)
def test_a_malformed_document_raises_one_class_and_a_good_one_can_be_evaluated(text: str, kind: DocumentKind) -> None:
    try:
        parsed = parse_document(text, kind)
    except MalformedPolicyError:
        return
    given = Policy("random", parsed)
    evaluate(a_request(aws__SourceIp="203.0.113.5"), PolicySet(identity=(given,), resource=(given,)))
