"""What an attacker tries, each with the refusal that meets it. Real clients against the real authorizer."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sqlalchemy import text
from tests.access.builders import insert_row
from tests.access.conftest import MANAGEMENT, MEMBER, OTHER, REGION, STRANGER, World

from holdfast.database.values import FOREVER

ACCESS_ROLE = f"arn:aws:iam::{MEMBER}:role/OrganizationAccountAccessRole"
NO_DELETION = {"Effect": "Deny", "Action": "backup:DeleteRecoveryPoint", "Resource": "*"}
POINT = f"arn:aws:backup:{REGION}:{MEMBER}:recovery-point:1"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
Who = str | Mapping[str, str]


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trusting(principal: Any, **more: Any) -> str:
    return document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **more})


def refused(call: Callable[..., Any], **parameters: Any) -> str:
    """Return the code and message of the refusal."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


def a_user(world: World, name: str, *statements: dict[str, Any], account: str = MEMBER) -> dict[str, str]:
    """Return the credentials of a user with an inline policy."""
    iam = world.client("iam", account)
    iam.create_user(UserName=name)
    if statements:
        iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(*statements))
    key: dict[str, str] = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AccessKeyId": key["AccessKeyId"], "SecretAccessKey": key["SecretAccessKey"]}


def allow(action: str | list[str], resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def delete_point(world: World, who: Who) -> Callable[[], Any]:
    backup = world.client("backup", who)
    return lambda: backup.delete_recovery_point(BackupVaultName="Daily", RecoveryPointArn=POINT)


DENIED_BY_CONTROL = "with an explicit deny in a service control policy"


@pytest.mark.parametrize("target", ["r-1", "ou-1-prod", MEMBER])
def test_a_control_policy_binds_everybody_in_the_member_and_nobody_in_the_management(world: World, target: str) -> None:
    operator = a_user(world, "operator", allow("*"))
    session = world.assume(ACCESS_ROLE)
    before = [delete_point(world, who) for who in (MEMBER, operator, session)]
    for act in before:
        act()
    world.control(target, document(NO_DELETION))
    for act in before:
        assert DENIED_BY_CONTROL in refused(act)
    delete_point(world, MANAGEMENT)()


def test_a_refusal_names_the_policy_in_the_trail_and_only_its_kind_to_the_client(world: World) -> None:
    world.control("ou-1-prod", document({**NO_DELETION, "Sid": "KeepThem"}), name="p-keep")
    told = refused(delete_point(world, MEMBER))
    assert "p-keep" not in told
    entry = world.trail()[0]
    assert (entry.decision, entry.operation, entry.account) == ("REFUSED", "DeleteRecoveryPoint", MEMBER)
    assert "statement 1 (KeepThem) of the service control policy p-keep (p-keep) at unit ou-1-prod" in entry.reason


def test_a_role_of_the_management_account_assumed_from_a_member_is_no_way_round_without_its_trust(world: World) -> None:
    world.control(MEMBER, document(NO_DELETION))
    iam = world.client("iam", MANAGEMENT)
    iam.create_role(RoleName="Admin", AssumeRolePolicyDocument=trusting({"AWS": MANAGEMENT}))
    iam.attach_role_policy(RoleName="Admin", PolicyArn=ADMINISTRATOR)
    role = f"arn:aws:iam::{MANAGEMENT}:role/Admin"
    told = refused(world.client("sts", MEMBER).assume_role, RoleArn=role, RoleSessionName="inside")
    assert told.startswith("AccessDenied")
    assert "because no role trust policy allows" in told


def test_a_service_linked_role_cannot_be_assumed_by_people(world: World) -> None:
    world.client("iam", MEMBER).create_service_linked_role(AWSServiceName="backup.amazonaws.com")
    role = f"arn:aws:iam::{MEMBER}:role/aws-service-role/backup.amazonaws.com/AWSServiceRoleForBackup"
    assert "no role trust policy allows" in refused(
        world.client("sts", MEMBER).assume_role, RoleArn=role, RoleSessionName="inside"
    )
    iam = world.client("iam", MEMBER)
    for change in (
        lambda: iam.update_assume_role_policy(
            RoleName="AWSServiceRoleForBackup", PolicyDocument=trusting({"AWS": MEMBER})
        ),
        lambda: iam.put_role_policy(
            RoleName="AWSServiceRoleForBackup", PolicyName="own", PolicyDocument=document(allow("*"))
        ),
        lambda: iam.delete_role(RoleName="AWSServiceRoleForBackup"),
    ):
        assert refused(change).startswith("UnmodifiableEntity")


def test_a_chain_of_roles_never_widens_what_a_session_policy_narrowed(world: World) -> None:
    narrow = document(allow(["sts:AssumeRole", "backup:ListBackupJobs"]))
    session = world.assume(ACCESS_ROLE, Policy=narrow)
    world.client("backup", session).list_backup_jobs()
    assert "because no session policy allows" in refused(delete_point(world, session))
    assert "because no session policy allows" in refused(world.client("iam", session).create_user, UserName="mole")
    # By account principal only, the session's own policy must allow the next role as well.
    iam = world.client("iam", MEMBER)
    iam.create_role(RoleName="Next", AssumeRolePolicyDocument=trusting({"AWS": MEMBER}))
    without = world.assume(ACCESS_ROLE, Policy=document(allow("backup:*")))
    role = f"arn:aws:iam::{MEMBER}:role/Next"
    assert "no session policy allows" in refused(
        world.client("sts", without).assume_role, RoleArn=role, RoleSessionName="further"
    )
    world.assume(role, session)


def test_a_chained_session_lasts_an_hour_at_most(world: World) -> None:
    iam = world.client("iam", MEMBER)
    iam.create_role(RoleName="Long", AssumeRolePolicyDocument=trusting({"AWS": MEMBER}), MaxSessionDuration=43_200)
    role = f"arn:aws:iam::{MEMBER}:role/Long"
    session = world.assume(ACCESS_ROLE)
    told = refused(world.client("sts", session).assume_role, RoleArn=role, RoleSessionName="long", DurationSeconds=7200)
    assert told.startswith("ValidationError: The requested DurationSeconds exceeds the 1 hour session limit")


def test_a_confused_deputy_needs_the_external_id(world: World) -> None:
    condition = {"StringEquals": {"sts:ExternalId": "of-this-customer"}}
    iam = world.client("iam", MEMBER)
    iam.create_role(RoleName="Deputy", AssumeRolePolicyDocument=trusting({"AWS": STRANGER}, Condition=condition))
    role = f"arn:aws:iam::{MEMBER}:role/Deputy"
    sts = world.client("sts", STRANGER)
    for more in ({}, {"ExternalId": "of-another"}):
        assert "AccessDenied" in refused(sts.assume_role, RoleArn=role, RoleSessionName="deputy", **more)
    sts.assume_role(RoleArn=role, RoleSessionName="deputy", ExternalId="of-this-customer")


def test_tagging_a_session_needs_a_right_of_its_own(world: World) -> None:
    sts = world.client("sts")
    told = refused(
        sts.assume_role, RoleArn=ACCESS_ROLE, RoleSessionName="tagged", Tags=[{"Key": "team", "Value": "admins"}]
    )
    assert "sts:TagSession" in told


def test_a_foreigner_gets_nothing_but_copies_from_a_vault_policy(world: World) -> None:
    generous = document({**allow("backup:*"), "Principal": "*"})
    with world.database.transaction() as tx:
        insert_row(
            tx, "vault", id="v", account=MEMBER, region=REGION, name="Daily", policy=generous, deleted_at=FOREVER
        )
    foreign = world.client("backup", OTHER)
    told = refused(foreign.describe_backup_vault, BackupVaultName="Daily", BackupVaultAccountId=MEMBER)
    assert told.startswith("AccessDenied")
    assert "because no resource-based policy allows" in told
    world.client("backup", MEMBER).describe_backup_vault(BackupVaultName="Daily")
    # Inside the account the vault's policy is enough by itself.
    world.client("backup", a_user(world, "nobody")).describe_backup_vault(BackupVaultName="Daily")


def test_a_vault_policy_can_deny_even_the_root_of_its_account(world: World) -> None:
    keeping = document({**NO_DELETION, "Principal": "*"})
    with world.database.transaction() as tx:
        insert_row(tx, "vault", id="v", account=MEMBER, region=REGION, name="Daily", policy=keeping, deleted_at=FOREVER)
        tx.execute(text("UPDATE access_version SET version = version + 1"))
    assert "explicit deny in a resource-based policy" in refused(delete_point(world, MEMBER))


def test_keys_of_other_accounts_are_out_of_reach(world: World) -> None:
    kms = world.client("kms", MEMBER)
    key = kms.create_key()["KeyMetadata"]
    boxed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret")["CiphertextBlob"]
    for who in (OTHER, STRANGER, MANAGEMENT):
        foreign = world.client("kms", who)
        for act in (
            lambda kms=foreign: kms.decrypt(CiphertextBlob=boxed),
            lambda kms=foreign: kms.describe_key(KeyId=key["Arn"]),
            lambda kms=foreign: kms.schedule_key_deletion(KeyId=key["Arn"]),
            lambda kms=foreign: kms.create_alias(AliasName="alias/mine", TargetKeyId=key["Arn"]),
        ):
            assert refused(act).startswith("AccessDenied")
    assert kms.decrypt(CiphertextBlob=boxed)["Plaintext"] == b"secret"


def test_a_key_policy_without_the_account_keeps_its_administrators_out(world: World) -> None:
    keeper = a_user(world, "keeper", allow("kms:*"))
    arn = f"arn:aws:iam::{MEMBER}:user/keeper"
    policy = document({**allow("kms:*"), "Principal": {"AWS": arn}})
    key = world.client("kms", keeper).create_key(Policy=policy)["KeyMetadata"]["KeyId"]
    assert "because no resource-based policy allows" in refused(world.client("kms", MEMBER).disable_key, KeyId=key)
    world.client("kms", keeper).disable_key(KeyId=key)


def test_every_way_of_taking_a_right_away_binds_the_next_request(world: World) -> None:
    iam = world.client("iam", MEMBER)
    user = a_user(world, "maria", allow("backup:ListBackupJobs"))
    jobs = world.client("backup", user).list_backup_jobs
    jobs()
    iam.put_user_policy(UserName="maria", PolicyName="own", PolicyDocument=document(allow("s3:*")))
    assert "no identity-based policy" in refused(jobs)
    iam.attach_user_policy(UserName="maria", PolicyArn=ADMINISTRATOR)
    jobs()
    boundary = iam.create_policy(PolicyName="Bound", PolicyDocument=document(allow("s3:*")))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="maria", PermissionsBoundary=boundary)
    assert "no permissions boundary allows" in refused(jobs)
    iam.delete_user_permissions_boundary(UserName="maria")
    jobs()
    iam.update_access_key(UserName="maria", AccessKeyId=user["AccessKeyId"], Status="Inactive")
    assert refused(jobs).startswith("UnrecognizedClientException")
    iam.update_access_key(UserName="maria", AccessKeyId=user["AccessKeyId"], Status="Active")
    jobs()
    iam.delete_access_key(UserName="maria", AccessKeyId=user["AccessKeyId"])
    assert refused(jobs).startswith("UnrecognizedClientException")


def test_a_role_that_is_made_anew_is_not_the_one_that_sessions_began_in(world: World) -> None:
    iam = world.client("iam", MEMBER)
    trust = trusting({"AWS": MEMBER})
    iam.create_role(RoleName="Backups", AssumeRolePolicyDocument=trust)
    iam.attach_role_policy(RoleName="Backups", PolicyArn=ADMINISTRATOR)
    role = f"arn:aws:iam::{MEMBER}:role/Backups"
    session = world.assume(role, a_user(world, "maria", allow("sts:*")))
    jobs = world.client("backup", session).list_backup_jobs
    jobs()
    iam.detach_role_policy(RoleName="Backups", PolicyArn=ADMINISTRATOR)
    assert "no identity-based policy" in refused(jobs)
    iam.delete_role(RoleName="Backups")
    assert refused(jobs).startswith("UnrecognizedClientException")
    iam.create_role(RoleName="Backups", AssumeRolePolicyDocument=trust)
    iam.attach_role_policy(RoleName="Backups", PolicyArn=ADMINISTRATOR)
    assert refused(jobs).startswith("UnrecognizedClientException")


def test_a_deleted_user_and_the_sessions_that_they_began_do_nothing_any_more(world: World) -> None:
    iam = world.client("iam", MEMBER)
    user = a_user(world, "maria", allow("backup:*"))
    session = world.client("sts", user).get_session_token()["Credentials"]
    jobs = [world.client("backup", who).list_backup_jobs for who in (user, session)]
    for act in jobs:
        act()
    iam.delete_user_policy(UserName="maria", PolicyName="own")
    iam.delete_access_key(UserName="maria", AccessKeyId=user["AccessKeyId"])
    iam.delete_user(UserName="maria")
    for act in jobs:
        assert refused(act).startswith("UnrecognizedClientException")
    # Nor when somebody of the same name comes.
    a_user(world, "maria", allow("backup:*"))
    for act in jobs:
        assert refused(act).startswith("UnrecognizedClientException")


def test_sessions_from_before_an_instant_are_revoked_by_a_policy(world: World) -> None:
    iam = world.client("iam", MEMBER)
    before = world.client("backup", world.assume(ACCESS_ROLE)).list_backup_jobs
    before()
    instant = (world.machine.now() + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    revocation = {**allow("*"), "Effect": "Deny", "Condition": {"DateLessThan": {"aws:TokenIssueTime": instant}}}
    iam.put_role_policy(
        RoleName="OrganizationAccountAccessRole", PolicyName="RevokeOlder", PolicyDocument=document(revocation)
    )
    assert "explicit deny in an identity-based policy" in refused(before)
    world.machine.advance(timedelta(seconds=6))
    world.client("backup", world.assume(ACCESS_ROLE)).list_backup_jobs()


def test_a_delegated_administrator_is_bound_by_control_policies_as_any_member(world: World) -> None:
    with world.database.transaction() as tx:
        insert_row(
            tx, "delegated_administrator", organization_id="o-1", account_id=MEMBER, principal="backup.amazonaws.com"
        )
    world.control(MEMBER, document(NO_DELETION))
    for who in (MEMBER, a_user(world, "operator", allow("*")), world.assume(ACCESS_ROLE)):
        assert DENIED_BY_CONTROL in refused(delete_point(world, who))


def test_the_way_over_the_management_account_and_back_is_bound_in_the_member(world: World) -> None:
    world.control(MEMBER, document(NO_DELETION))
    iam = world.client("iam", MANAGEMENT)
    iam.create_role(RoleName="Helper", AssumeRolePolicyDocument=trusting({"AWS": MEMBER}))
    iam.attach_role_policy(RoleName="Helper", PolicyArn=ADMINISTRATOR)
    out = world.assume(f"arn:aws:iam::{MANAGEMENT}:role/Helper", MEMBER)
    # There its own account is the management account, whose vault of this name is another one.
    assert world.client("sts", out).get_caller_identity()["Account"] == MANAGEMENT
    foreign = world.client("backup", out).describe_backup_vault
    assert refused(foreign, BackupVaultName="Daily", BackupVaultAccountId=MEMBER).startswith("AccessDenied")
    back = world.assume(ACCESS_ROLE, out)
    assert DENIED_BY_CONTROL in refused(delete_point(world, back))


def test_a_session_ends_by_machine_time_and_needs_its_token(world: World) -> None:
    session = world.assume(ACCESS_ROLE, DurationSeconds=900)
    identity = world.client("sts", session).get_caller_identity
    identity()
    for wrong in ({**session, "SessionToken": "other"}, {k: v for k, v in session.items() if k != "SessionToken"}):
        assert refused(world.client("sts", wrong).get_caller_identity).startswith("InvalidClientTokenId")
    stolen = {**session, "SecretAccessKey": "guess"}
    assert refused(world.client("sts", stolen).get_caller_identity).startswith("SignatureDoesNotMatch")
    with world.database.transaction() as tx:
        past = "UPDATE session SET expires_at = expires_at - :by"
        tx.execute(text(past), {"by": timedelta(seconds=901) // timedelta(microseconds=1)})
        tx.execute(text("UPDATE access_version SET version = version + 1"))
    assert refused(identity).startswith("ExpiredToken")


def test_a_suspended_account_does_nothing(world: World) -> None:
    identity = world.client("sts", OTHER).get_caller_identity
    identity()
    with world.database.transaction() as tx:
        tx.execute(text("UPDATE account SET status = 'SUSPENDED' WHERE id = :id"), {"id": OTHER})
        tx.execute(text("UPDATE access_version SET version = version + 1"))
    assert refused(identity).startswith("InvalidClientTokenId")


def test_passing_a_role_needs_a_right_of_its_own_and_the_role_must_be_ones_own(world: World) -> None:
    user = a_user(world, "planner", allow("backup:*"))
    select = world.client("backup", user).create_backup_selection
    role = f"arn:aws:iam::{MEMBER}:role/Backups"
    asked = {"BackupPlanId": "p", "BackupSelection": {"SelectionName": "s", "IamRoleArn": role}}
    assert f"iam:PassRole on resource: {role}" in refused(select, **asked)
    iam = world.client("iam", MEMBER)
    to_backup = allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "backup.amazonaws.com"}})
    iam.put_user_policy(UserName="planner", PolicyName="pass", PolicyDocument=document(to_backup))
    select(**asked)
    foreign = {**asked, "BackupSelection": {"SelectionName": "s", "IamRoleArn": role.replace(MEMBER, OTHER)}}
    assert "iam:PassRole" in refused(select, **foreign)


def test_an_arn_with_odd_characters_matches_nothing_by_accident(world: World) -> None:
    vault = f"arn:aws:backup:{REGION}:{MEMBER}:recovery-point:a"
    user = a_user(world, "narrow", allow("backup:DeleteRecoveryPoint", vault))
    backup = world.client("backup", user)
    for odd in (vault + "*", vault + "/../b", vault + "\n", vault.upper(), vault.replace("a", "\u0430", 1)):
        with pytest.raises(ClientError):
            backup.delete_recovery_point(BackupVaultName="Daily", RecoveryPointArn=odd)
    backup.delete_recovery_point(BackupVaultName="Daily", RecoveryPointArn=vault)


def test_tags_decide_where_policies_ask_for_them(world: World) -> None:
    condition = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}
    user = a_user(world, "red", allow("iam:DeleteRole", Condition=condition))
    iam = world.client("iam", MEMBER)
    iam.tag_user(UserName="red", Tags=[{"Key": "team", "Value": "red"}])
    for team in ("red", "blue"):
        iam.create_role(
            RoleName=team, AssumeRolePolicyDocument=trusting({"AWS": MEMBER}), Tags=[{"Key": "team", "Value": team}]
        )
    own = world.client("iam", user)
    assert "no identity-based policy" in refused(own.delete_role, RoleName="blue")
    own.delete_role(RoleName="red")


def test_a_control_policy_that_is_not_understood_shuts_the_member_and_never_the_management(world: World) -> None:
    world.control("r-1", document({"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": {"Odd": {}}}))
    assert DENIED_BY_CONTROL in refused(delete_point(world, MEMBER))
    delete_point(world, MANAGEMENT)()


def test_a_session_token_needs_no_leave_and_can_be_denied(world: World) -> None:
    user = a_user(world, "maria")
    session = world.client("sts", user).get_session_token()["Credentials"]
    assert world.client("sts", session).get_caller_identity()["Arn"] == f"arn:aws:iam::{MEMBER}:user/maria"
    told = refused(world.client("sts", session).get_session_token)
    assert told == "ValidationError: Cannot call GetSessionToken with session credentials"
    denial = {"Effect": "Deny", "Action": "sts:GetSessionToken", "Resource": "*"}
    world.client("iam", MEMBER).put_user_policy(UserName="maria", PolicyName="own", PolicyDocument=document(denial))
    assert "explicit deny in an identity-based policy" in refused(world.client("sts", user).get_session_token)


def test_guessing_a_secret_is_slowed_down_and_told_so(world: World) -> None:
    guess = {"AccessKeyId": world.keys[MEMBER][0], "SecretAccessKey": "guess"}
    identity = world.client("sts", guess).get_caller_identity
    told = {refused(identity).partition(":")[0] for _ in range(70)}
    assert told == {"SignatureDoesNotMatch", "Throttling"}


def test_refusals_do_not_tell_which_roles_keys_vaults_and_principals_exist_elsewhere(world: World) -> None:
    key = world.client("kms", MEMBER).create_key()["KeyMetadata"]["Arn"]
    with world.database.transaction() as tx:
        insert_row(tx, "vault", id="v", account=MEMBER, region=REGION, name="Daily", deleted_at=FOREVER)
    sts, kms, backup, holdfast = (world.client(name, STRANGER) for name in ("sts", "kms", "backup", "holdfast"))
    questions: list[tuple[str, Callable[[str], str]]] = [
        (ACCESS_ROLE, lambda role: refused(sts.assume_role, RoleArn=role, RoleSessionName="foreigner")),
        (key, lambda arn: refused(kms.describe_key, KeyId=arn)),
        (
            "Daily",
            lambda name: refused(backup.describe_backup_vault, BackupVaultName=name, BackupVaultAccountId=MEMBER),
        ),
        (
            ACCESS_ROLE,
            lambda role: refused(holdfast.explain_access, PrincipalArn=role, Action="iam:CreateUser"),
        ),
    ]
    for existing, ask in questions:
        missing = existing[:-1] + ("0" if existing[-1] != "0" else "1")
        assert ask(existing).replace(existing, "X") == ask(missing).replace(missing, "X")
