"""Laws of the evaluation, on random organizations, callers and policies."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.access.builders import HERE, MANAGEMENT, THERE, a_session, a_user, document
from tests.access.reference import Situation, Statements, allowed

from holdfast.access.model import (
    AccessRequest,
    DocumentKind,
    Level,
    Policy,
    PolicySet,
    caller_values,
    evaluate,
    parse_document,
    root_caller,
    values_of,
)
from holdfast.access.model.caller import federated_caller, service_caller
from holdfast.access.model.web_identity import WebIdentity

ISSUER = f"arn:aws:iam::{HERE}:oidc-provider/login.example.com"
ACTIONS = ["backup:DeleteRecoveryPoint", "backup:ListBackupJobs", "kms:Decrypt"]
RESOURCES = [f"arn:aws:backup:eu-north-1:{HERE}:backup-vault:{name}" for name in ("Daily", "Weekly")]
CALLERS = [
    a_user(),
    a_user(account=THERE),
    a_user(account=MANAGEMENT),
    a_session(),
    a_session(account=THERE),
    a_session("AWSServiceRoleForBackup", is_service_linked=True),
    root_caller(HERE),
    root_caller(THERE),
    federated_caller(HERE, WebIdentity(ISSUER, "https://login.example.com", "maria", "holdfast", ())),
    a_user(tags=(("team", "red"),)),
    service_caller("backup.amazonaws.com", account=HERE),
]
NOTHING: dict[str, Any] = {"Effect": "Allow", "Action": "nothing:AtAll", "Resource": "*"}

one_action = st.sampled_from([*ACTIONS, "*", "backup:*", "BACKUP:delete*", "kms:?ecrypt"])
one_resource = st.sampled_from([*RESOURCES, "*", f"arn:aws:backup:*:{HERE}:backup-vault:*"])
some_condition = st.sampled_from(
    [
        None,
        None,
        {"StringEquals": {"aws:RequestedRegion": ["eu-north-1"]}},
        {"StringNotEquals": {"aws:RequestedRegion": "eu-north-1"}},
        {"StringEqualsIfExists": {"aws:RequestedRegion": "eu-north-1"}},
        {"StringEquals": {"aws:PrincipalTag/team": "red"}},
        {"ForAnyValue:StringLike": {"aws:TagKeys": ["te*"]}},
        {"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}},
        {"Null": {"aws:TagKeys": "true"}},
    ]
)
principal_names = st.sampled_from(
    [HERE, THERE, MANAGEMENT, *[c.arn for c in CALLERS[:6]], *[c.principal_arn for c in CALLERS[3:5]]]
)
some_names = st.lists(principal_names, min_size=1, max_size=3)
one_principal = st.one_of(
    st.just("*"),
    some_names.map(lambda names: {"AWS": names}),
    st.just({"Federated": ISSUER}),
    st.just({"Service": ["backup.amazonaws.com", "ec2.amazonaws.com"]}),
    some_names.map(lambda names: {"AWS": names, "Service": "backup.amazonaws.com"}),
)
spared = st.sampled_from(
    [
        {"AWS": [HERE]},
        {"AWS": [HERE, a_user().arn]},
        {"AWS": [HERE, a_session().principal_arn]},
        {"AWS": [HERE, a_session().principal_arn, a_session().arn]},
        {"Federated": ISSUER},
        {"Service": "backup.amazonaws.com"},
    ]
)


@st.composite
def a_statement(draw: st.DrawFn, *, with_principal: bool = False) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    statement[draw(st.sampled_from(["Action", "Action", "NotAction"]))] = draw(
        one_action | st.lists(one_action, min_size=1, max_size=2)
    )
    statement[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(one_resource)
    condition = draw(some_condition)
    if condition is not None:
        statement["Condition"] = condition
    if with_principal:
        if statement["Effect"] == "Deny" and draw(st.booleans()):
            statement["NotPrincipal"] = draw(spared)
        else:
            statement["Principal"] = draw(one_principal)
    return statement


some_statements = st.lists(a_statement(), min_size=1, max_size=3)
some_levels = st.lists(
    st.lists(some_statements, max_size=1).map(
        lambda more: [[{"Effect": "Allow", "Action": "*", "Resource": "*"}], *more]
    )
    | st.lists(some_statements, min_size=1, max_size=2),
    max_size=3,
)
situations = st.builds(
    Situation,
    caller=st.sampled_from(CALLERS),
    action=st.sampled_from(ACTIONS),
    resource=st.sampled_from(RESOURCES),
    owner=st.sampled_from([HERE, HERE, HERE, MANAGEMENT]),
    region=st.sampled_from(["eu-north-1", "us-east-1", None]),
    tag_keys=st.none() | st.lists(st.sampled_from(["team", "ten", "other"]), min_size=1, max_size=2, unique=True),
    management=st.just(MANAGEMENT),
    identity=st.lists(some_statements, max_size=2),
    boundary=st.none() | some_statements,
    session=st.none() | some_statements,
    scps=some_levels,
    rcps=some_levels,
    resource_policy=st.lists(a_statement(with_principal=True), max_size=3),
    resource_policy_decides=st.booleans(),
)


def compiled(statements: Statements, kind: DocumentKind = DocumentKind.IDENTITY) -> Policy:
    return Policy("random", parse_document(document(*statements), kind))


def decide(s: Situation) -> bool:
    def levels(shape: list[list[Statements]]) -> tuple[Level, ...]:
        return tuple(
            Level(f"level {number}", tuple(compiled(policy) for policy in node)) for number, node in enumerate(shape)
        )

    policies = PolicySet(
        identity=tuple(compiled(policy) for policy in s.identity),
        boundary=compiled(s.boundary) if s.boundary else None,
        session=(compiled(s.session),) if s.session else None,
        scps=levels(s.scps),
        rcps=levels(s.rcps),
        resource=(compiled(s.resource_policy, DocumentKind.RESOURCE),) if s.resource_policy else (),
        resource_policy_decides=s.resource_policy_decides,
        management_accounts=frozenset({s.management}),
    )
    values = {**caller_values(s.caller), **values_of({"aws:RequestedRegion": s.region, "aws:TagKeys": s.tag_keys})}
    decision = evaluate(AccessRequest(s.caller, s.action, s.resource, s.owner, values), policies)
    assert decision.reason == decision.steps[-1]
    assert ("not authorized" in decision.sentence) is not decision.allowed
    return decision.allowed


@given(situation=situations)
def test_the_evaluator_decides_as_the_rules_read(situation: Situation) -> None:
    assert decide(situation) is allowed(situation)


def places(situation: Situation) -> list[Statements]:
    """Return every policy of the situation, to be changed in place."""
    found = [*situation.identity, *[p for level in (*situation.scps, *situation.rcps) for p in level]]
    found += [policy for policy in (situation.boundary, situation.session) if policy]
    return [*found, situation.resource_policy] if situation.resource_policy else found


@given(situation=situations, denial=a_statement(with_principal=True), data=st.data())
def test_adding_a_deny_never_adds_a_right(situation: Situation, denial: dict[str, Any], data: st.DataObject) -> None:
    found = places(situation)
    if not found:
        return
    before = decide(situation)
    chosen = data.draw(st.sampled_from(found))
    if chosen is not situation.resource_policy:
        denial.pop("Principal", None)
        denial.pop("NotPrincipal", None)
    chosen.append({**denial, "Effect": "Deny"})
    assert before or not decide(situation)


@given(situation=situations, data=st.data())
def test_removing_an_allow_never_adds_a_right(situation: Situation, data: st.DataObject) -> None:
    allowing = [(policy, i) for policy in places(situation) for i, s in enumerate(policy) if s["Effect"] == "Allow"]
    if not allowing:
        return
    before = decide(situation)
    policy, index = data.draw(st.sampled_from(allowing))
    nothing = {**NOTHING, "Principal": "*"} if policy is situation.resource_policy else NOTHING
    policy[index] = nothing
    assert before or not decide(situation)


@given(situation=situations)
def test_control_policies_only_take_away(situation: Situation) -> None:
    if decide(situation):
        assert decide(replace(situation, scps=[], rcps=[]))
