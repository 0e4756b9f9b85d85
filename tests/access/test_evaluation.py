"""The order of evaluation: which policies decide, and what the refusal says."""

from typing import Any

import pytest
from tests.access.builders import (
    HERE,
    MANAGEMENT,
    THERE,
    VAULT,
    a_request,
    a_session,
    a_user,
    allow,
    deny,
    level,
    policy,
    resource_policy,
    scp,
)

from holdfast.access.model import (
    Caller,
    DocumentKind,
    Policy,
    PolicySet,
    PolicyType,
    Verdict,
    evaluate,
    root_caller,
    service_caller,
)

X = "backup:DeleteRecoveryPoint"
Y = "backup:ListBackupJobs"
EVERYTHING = policy(allow(), name="Everything")
FULL = scp(allow(), name="p-FullAWSAccess")
ONLY_X = scp(allow(X))
ONLY_Y = scp(allow(Y))
NO_X = scp(deny(X))


@pytest.mark.parametrize(
    ("root", "unit", "account", "x_passes", "y_passes"),
    [
        ([FULL], [FULL], [FULL], True, True),
        ([FULL], [FULL, NO_X], [FULL], False, True),
        ([FULL], [ONLY_Y], [FULL], False, True),
        ([FULL], [FULL], [ONLY_Y], False, True),
        ([ONLY_X], [ONLY_Y], [FULL], False, False),
        ([FULL, NO_X], [ONLY_X], [ONLY_X], False, False),
        ([FULL], [ONLY_X, ONLY_Y], [FULL], True, True),
        ([FULL], [], [FULL], False, False),
    ],
    ids=[
        "everything at every level",
        "denied at the unit",
        "an allow list at the unit",
        "an allow list at the account",
        "two allow lists with nothing in common",
        "denied at the root, allowed below",
        "allows of one node are united",
        "a node without any policy",
    ],
)
def test_service_control_policies_filter_at_every_level(
    root: list[Policy], unit: list[Policy], account: list[Policy], x_passes: bool, y_passes: bool
) -> None:
    scps = (level("root r-ab12", *root), level("unit ou-ab12-prod", *unit), level(f"account {HERE}", *account))
    policies = PolicySet(identity=(EVERYTHING,), scps=scps, management_accounts=frozenset({MANAGEMENT}))
    assert evaluate(a_request(action=X), policies).allowed is x_passes
    assert evaluate(a_request(action=Y), policies).allowed is y_passes


def test_a_service_control_policy_grants_nothing() -> None:
    decision = evaluate(a_request(), PolicySet(scps=(level("root r-ab12", FULL),)))
    assert not decision.allowed
    assert decision.reason.policy_type is PolicyType.IDENTITY


@pytest.mark.parametrize(
    ("caller", "passes"),
    [
        (a_user(), False),
        (a_session(), False),
        (root_caller(HERE), False),
        (a_user(account=MANAGEMENT), True),
        (root_caller(MANAGEMENT), True),
        (a_session("Admin", account=MANAGEMENT), True),
        (a_session("AWSServiceRoleForBackup", is_service_linked=True), True),
    ],
    ids=[
        "user",
        "session",
        "root user",
        "management user",
        "management root",
        "management role",
        "service-linked role",
    ],
)
def test_whom_a_service_control_policy_binds(caller: Caller, passes: bool) -> None:
    policies = PolicySet(
        identity=(EVERYTHING,),
        scps=(level("root r-ab12", FULL, NO_X),),
        management_accounts=frozenset({MANAGEMENT}),
    )
    assert evaluate(a_request(caller, X, "*", owner=caller.account), policies).allowed is passes


def test_the_refusal_of_a_control_policy_reads_as_aws_writes_it() -> None:
    controls = scp({**deny(X), "Sid": "KeepThem"}, name="p-keep")
    scps = (level("root r-ab12", FULL), level("unit ou-ab12-prod", FULL, controls))
    decision = evaluate(a_request(action=X), PolicySet(identity=(EVERYTHING,), scps=scps))
    assert decision.sentence == (
        f"User: arn:aws:iam::{HERE}:user/maria is not authorized to perform: {X} on resource: {VAULT} "
        "with an explicit deny in a service control policy"
    )
    assert str(decision.reason) == (
        "explicitly denied by statement 1 (KeepThem) of the service control policy p-keep at unit ou-ab12-prod"
    )


def test_a_missing_allow_is_told_with_the_kind_of_policy_that_lacks_it() -> None:
    decision = evaluate(a_request(action=X), PolicySet(identity=(policy(allow(Y)),)))
    assert decision.sentence.endswith(f"because no identity-based policy allows the {X} action")
    assert str(decision.reason) == "no identity-based policy allows it"


GRANT_NOTHING: tuple[Policy, ...] = ()
USER, SESSION = a_user(), a_session()
ROLE_ARN, SESSION_ARN = SESSION.principal_arn, SESSION.arn


@pytest.mark.parametrize(
    ("caller", "principal", "identity", "boundary", "session", "passes"),
    [
        (USER, {"AWS": USER.arn}, False, None, None, True),
        (USER, {"AWS": USER.arn}, False, False, None, True),
        (USER, {"AWS": USER.unique_id}, False, False, None, True),
        (USER, {"AWS": HERE}, False, None, None, False),
        (USER, {"AWS": HERE}, True, None, None, True),
        (USER, {"AWS": f"arn:aws:iam::{HERE}:root"}, False, None, None, False),
        (USER, "*", False, None, None, True),
        (USER, "*", False, False, None, False),
        (SESSION, {"AWS": ROLE_ARN}, False, None, None, True),
        (SESSION, {"AWS": ROLE_ARN}, False, False, None, False),
        (SESSION, {"AWS": ROLE_ARN}, False, None, False, False),
        (SESSION, {"AWS": ROLE_ARN}, False, True, True, True),
        (SESSION, {"AWS": SESSION_ARN}, False, False, False, True),
        (SESSION, {"AWS": SESSION.unique_id}, False, False, None, False),
        (SESSION, "*", False, None, False, False),
        (SESSION, {"AWS": THERE}, True, None, None, True),
        (SESSION, {"AWS": THERE}, False, None, None, False),
        (SESSION, {"AWS": THERE}, True, False, None, False),
        (SESSION, {"AWS": THERE}, True, None, False, False),
        (root_caller(HERE), {"AWS": HERE}, False, None, None, True),
        (root_caller(HERE), {"AWS": THERE}, False, None, None, True),
    ],
)
def test_a_grant_by_the_resource_within_the_account(
    caller: Caller, principal: Any, identity: bool, boundary: bool | None, session: bool | None, passes: bool
) -> None:
    nothing = policy(allow("s3:GetObject"), name="Unrelated")
    policies = PolicySet(
        identity=(EVERYTHING,) if identity else (nothing,),
        boundary=None if boundary is None else EVERYTHING if boundary else nothing,
        session=None if session is None else (EVERYTHING,) if session else (nothing,),
        resource=(resource_policy(allow(X, Principal=principal)),),
    )
    assert evaluate(a_request(caller, X), policies).allowed is passes


@pytest.mark.parametrize(
    ("principal", "identity", "passes"),
    [
        ({"AWS": THERE}, True, True),
        ({"AWS": THERE}, False, False),
        ({"AWS": f"arn:aws:iam::{THERE}:user/maria"}, True, True),
        ({"AWS": f"arn:aws:iam::{THERE}:user/maria"}, False, False),
        ({"AWS": f"arn:aws:iam::{THERE}:user/juan"}, True, False),
        ({"AWS": HERE}, True, False),
        ("*", True, True),
        ("*", False, False),
        (None, True, False),
    ],
)
def test_across_accounts_both_sides_must_allow(principal: Any, identity: bool, passes: bool) -> None:
    caller = a_user(account=THERE)
    policies = PolicySet(
        identity=(EVERYTHING,) if identity else GRANT_NOTHING,
        resource=() if principal is None else (resource_policy(allow(X, Principal=principal)),),
    )
    assert evaluate(a_request(caller, X, owner=HERE), policies).allowed is passes


def test_across_accounts_the_boundary_binds_even_a_user_who_is_named() -> None:
    caller = a_user(account=THERE)
    policies = PolicySet(
        identity=(EVERYTHING,),
        boundary=policy(allow(Y)),
        resource=(resource_policy(allow(X, Principal={"AWS": caller.arn})),),
    )
    decision = evaluate(a_request(caller, X, owner=HERE), policies)
    assert decision.sentence.endswith(f"because no permissions boundary allows the {X} action")


def test_the_management_account_has_no_rights_in_a_member_by_itself() -> None:
    caller = root_caller(MANAGEMENT)
    policies = PolicySet(management_accounts=frozenset({MANAGEMENT}))
    assert not evaluate(a_request(caller, X, owner=HERE), policies).allowed


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("identity", "an identity-based policy"),
        ("boundary", "a permissions boundary"),
        ("session", "a session policy"),
        ("resource", "a resource-based policy"),
        ("scps", "a service control policy"),
        ("rcps", "a resource control policy"),
    ],
)
def test_an_explicit_deny_anywhere_wins(kind: str, where: str) -> None:
    everywhere: dict[str, Any] = {
        "identity": (EVERYTHING,),
        "boundary": EVERYTHING,
        "session": (EVERYTHING,),
        "resource": (resource_policy(allow(X, Principal={"AWS": SESSION_ARN})),),
        "scps": (level("root r-ab12", FULL),),
        "rcps": (level("root r-ab12", FULL),),
    }
    assert evaluate(a_request(SESSION, X), PolicySet(**everywhere)).allowed
    refusing = {
        "identity": (EVERYTHING, policy(deny(X))),
        "boundary": policy(allow(), deny(X)),
        "session": (policy(allow(), deny(X)),),
        "resource": (resource_policy(allow(X, Principal="*"), deny(X, Principal="*")),),
        "scps": (level("root r-ab12", FULL, NO_X),),
        "rcps": (level("root r-ab12", FULL, policy(deny(X, Principal="*"), kind=DocumentKind.RCP)),),
    }
    decision = evaluate(a_request(SESSION, X), PolicySet(**{**everywhere, kind: refusing[kind]}))
    assert decision.reason.verdict is Verdict.EXPLICIT_DENY
    assert decision.sentence.endswith(f"with an explicit deny in {where}")


def test_a_resource_control_policy_binds_foreigners_and_spares_the_management_accounts_resources() -> None:
    stranger = a_user(account=THERE)
    rcps = (level("root r-ab12", FULL, policy(deny(X, Principal="*"), kind=DocumentKind.RCP)),)
    grant = resource_policy(allow(X, Principal={"AWS": THERE}))
    policies = PolicySet(
        identity=(EVERYTHING,), resource=(grant,), rcps=rcps, management_accounts=frozenset({MANAGEMENT})
    )
    assert not evaluate(a_request(stranger, X, owner=HERE), policies).allowed
    assert evaluate(a_request(stranger, X, owner=MANAGEMENT), policies).allowed


@pytest.mark.parametrize(
    ("principal", "identity", "passes"),
    [({"AWS": HERE}, True, True), ({"AWS": HERE}, False, False), ({"AWS": USER.arn}, False, True), (None, True, False)],
    ids=["the account, with a policy", "the account alone", "the user", "nobody"],
)
def test_a_keys_own_policy_decides_even_within_the_account(principal: Any, identity: bool, passes: bool) -> None:
    other = {"AWS": f"arn:aws:iam::{HERE}:user/somebody-else"}
    policies = PolicySet(
        identity=(policy(allow("kms:*")),) if identity else (),
        resource=(resource_policy(allow("kms:*", Principal=principal or other)),),
        resource_policy_decides=True,
    )
    assert evaluate(a_request(USER, "kms:Decrypt"), policies).allowed is passes


def test_not_even_the_root_user_passes_a_key_policy_that_forgets_the_account() -> None:
    lonely = resource_policy(allow("kms:*", Principal={"AWS": USER.arn}))
    policies = PolicySet(resource=(lonely,), resource_policy_decides=True)
    assert not evaluate(a_request(root_caller(HERE), "kms:PutKeyPolicy"), policies).allowed


def test_a_service_may_only_what_the_resource_lets_it() -> None:
    backup = service_caller("backup.amazonaws.com")
    for services, passes in (("backup.amazonaws.com", True), ("ec2.amazonaws.com", False)):
        trust = Policy(
            "trust",
            policy(
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": services}},
                kind=DocumentKind.TRUST,
            ).document,
        )
        decision = evaluate(a_request(backup, "sts:AssumeRole"), PolicySet(resource=(trust,)))
        assert decision.allowed is passes
        assert decision.reason.policy_type is PolicyType.TRUST


@pytest.mark.parametrize(
    ("named", "passes"),
    [
        ([SESSION_ARN, ROLE_ARN, HERE], True),
        ([SESSION_ARN, HERE], False),
        ([ROLE_ARN, HERE], False),
        ([SESSION_ARN, ROLE_ARN], False),
    ],
)
def test_not_principal_spares_only_whom_it_names_with_role_and_account(named: list[str], passes: bool) -> None:
    statement = {"Effect": "Deny", "Action": "*", "Resource": "*", "NotPrincipal": {"AWS": named}}
    policies = PolicySet(identity=(EVERYTHING,), resource=(resource_policy(statement),))
    assert evaluate(a_request(SESSION), policies).allowed is passes


def test_an_administrator_of_everything_but_backup_cannot_touch_a_recovery_point() -> None:
    ec2_only = policy(allow(["ec2:*", "s3:*", "rds:*", "iam:*", "kms:*"]))
    snapshot = "arn:aws:ec2:eu-north-1::snapshot/snap-1"
    assert not evaluate(a_request(action=X, resource=snapshot), PolicySet(identity=(ec2_only,))).allowed


def test_a_decision_shows_every_step_on_the_way() -> None:
    policies = PolicySet(
        identity=(EVERYTHING,),
        boundary=policy(allow("backup:*"), name="Bound"),
        scps=(level("root r-ab12", FULL), level(f"account {HERE}", FULL)),
    )
    decision = evaluate(a_request(), policies)
    assert [(step.policy_type, step.policy, step.node) for step in decision.steps] == [
        (PolicyType.SCP, "p-FullAWSAccess", "root r-ab12"),
        (PolicyType.SCP, "p-FullAWSAccess", f"account {HERE}"),
        (PolicyType.IDENTITY, "Everything", None),
        (PolicyType.BOUNDARY, "Bound", None),
    ]
