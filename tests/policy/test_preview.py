"""Previews: what a change would do, and that it then does exactly that."""

import json
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from tests.policy.builders import COPY, REGIONS, a_chain, a_plan, a_policy, a_rule, assign
from tests.policy.organization import Tree, a_tree
from tests.policy.test_distribution import CONTENTS, LATER
from tests.policy.test_service import DENY

from holdfast.database.connection import Database
from holdfast.organization.errors import AccountNotFoundError, DestinationParentNotFoundError, DuplicateAccountError
from holdfast.organization.service.tree import path_of
from holdfast.policy.errors import (
    DuplicateAttachmentError,
    PolicyInputError,
    PolicyNotAttachedError,
    PolicyTypeAlreadyEnabledError,
    PolicyTypeNotAvailableError,
    PolicyTypeNotEnabledError,
)
from holdfast.policy.model.comparison import Comparison, Shortening, compare
from holdfast.policy.model.document import MalformedPolicyError
from holdfast.policy.model.kind import BACKUP, SERVICE_CONTROL
from holdfast.policy.model.merge import effective
from holdfast.policy.model.validation import ValidationError
from holdfast.policy.preview import (
    DRAFT_ID,
    AttachDraft,
    CreateDraft,
    DetachDraft,
    DisableDraft,
    Draft,
    Effect,
    EnableDraft,
    MoveDraft,
    UpdateDraft,
    preview,
)
from holdfast.policy.store import Policy


def foresee(tree: Tree, draft: Draft) -> tuple[Effect, ...]:
    return preview(tree.tx, tree.id, draft, regions=REGIONS, now=tree.now)


def keeping(days: int | None, copy: int | None = None) -> dict[str, Any]:
    lifecycle = {} if days is None else {"delete_after_days": assign(days)}
    copies = {COPY: {"lifecycle": {"delete_after_days": assign(copy)}}} if copy else {}
    return a_policy(core=a_plan(rules={"daily": a_rule(lifecycle=lifecycle, copy_actions=copies)}))


def test_an_edit_is_foreseen_for_every_account_that_it_reaches(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy(keeping(90, copy=30))
    tree.attach(policy, tree.units["Prod"])
    (effect,) = foresee(tree, UpdateDraft(policy.id, json.dumps(keeping(30, copy=60))))
    assert effect.account_ids == tuple(sorted(tree.accounts[name] for name in ("web1", "web2", "data")))
    assert effect.comparison == Comparison((), (), ("core",), (Shortening("core", "daily", None, 90, 30),))
    assert json.loads(effect.before) == tree.document(tree.accounts["web1"])
    assert effect.errors == ()


def test_an_edit_that_breaks_the_document_is_foreseen_with_its_errors(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    (effect,) = foresee(tree, UpdateDraft(policy.id, json.dumps(a_policy(core=a_plan(regions=None)))))
    assert effect.after == effect.before
    assert [error.message for error in effect.errors] == ["'regions' is missing"]
    assert len(effect.account_ids) == 6


def test_a_new_policy_is_foreseen_where_it_would_be_attached(tree: Tree) -> None:
    tree.enable()
    draft = json.dumps(a_policy())
    assert foresee(tree, CreateDraft(BACKUP, draft)) == ()
    (effect,) = foresee(tree, CreateDraft(BACKUP, draft, tree.units["Dev"]))
    assert (effect.account_ids, effect.comparison.plans_gained) == ((tree.accounts["dev"],), ("core",))


def test_switching_a_type_off_loses_every_plan(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.root)
    (effect,) = foresee(tree, DisableDraft(BACKUP))
    assert (effect.after, effect.comparison.plans_lost) == ("{}", ("core",))


def test_an_edit_that_changes_nothing_touches_nobody(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    assert foresee(tree, UpdateDraft(policy.id, json.dumps(a_policy(), indent=2))) == ()


def test_control_policies_have_no_effective_policy_to_foresee(tree: Tree) -> None:
    tree.enable(SERVICE_CONTROL)
    assert foresee(tree, CreateDraft(SERVICE_CONTROL, json.dumps(DENY), tree.root)) == ()


def test_a_preview_writes_nothing(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    tables = sa.inspect(tree.tx).get_table_names()
    before = {table: tree.tx.execute(text(f"SELECT * FROM {table}")).all() for table in tables}
    foresee(tree, UpdateDraft(policy.id, json.dumps(LATER)))
    foresee(tree, CreateDraft(BACKUP, json.dumps(LATER), tree.units["Prod"]))
    assert {table: tree.tx.execute(text(f"SELECT * FROM {table}")).all() for table in tables} == before


def test_what_the_change_would_refuse_the_preview_refuses(tree: Tree) -> None:
    with pytest.raises(PolicyTypeNotEnabledError):
        foresee(tree, DisableDraft(BACKUP))
    with pytest.raises(PolicyTypeNotEnabledError):
        foresee(tree, MoveDraft(BACKUP, tree.accounts["dev"], tree.root))
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    with pytest.raises(PolicyTypeAlreadyEnabledError):
        foresee(tree, EnableDraft(BACKUP))
    with pytest.raises(DuplicateAttachmentError):
        foresee(tree, AttachDraft(policy.id, tree.root))
    with pytest.raises(PolicyNotAttachedError):
        foresee(tree, DetachDraft(policy.id, tree.units["Prod"]))
    with pytest.raises(MalformedPolicyError):
        foresee(tree, UpdateDraft(policy.id, "{}"))
    with pytest.raises(MalformedPolicyError):
        foresee(tree, CreateDraft(BACKUP, "{}"))
    with pytest.raises(AccountNotFoundError):
        foresee(tree, MoveDraft(BACKUP, "999999999999", tree.root))
    with pytest.raises(DestinationParentNotFoundError):
        foresee(tree, MoveDraft(BACKUP, tree.accounts["dev"], tree.accounts["web1"]))
    with pytest.raises(DuplicateAccountError):
        foresee(tree, MoveDraft(BACKUP, tree.accounts["dev"], tree.units["Dev"]))
    tree.enable(SERVICE_CONTROL)
    with pytest.raises(PolicyInputError):
        foresee(tree, UpdateDraft("p-FullAWSAccess", json.dumps(DENY)))
    tree.tx.execute(text("UPDATE organization SET feature_set = 'CONSOLIDATED_BILLING'"))
    for draft in (EnableDraft("TAG_POLICY"), CreateDraft(BACKUP, json.dumps(a_policy()))):
        with pytest.raises(PolicyTypeNotAvailableError):
            foresee(tree, draft)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(keeping(30), keeping(30), [], id="the same"),
        pytest.param(keeping(30), keeping(90), [], id="longer"),
        pytest.param(keeping(30), keeping(None), [], id="for ever"),
        pytest.param(keeping(None), keeping(30), [(None, None, 30)], id="no longer for ever"),
        pytest.param(keeping(90, copy=60), keeping(90, copy=7), [(COPY.lower(), 60, 7)], id="the copy"),
        pytest.param(keeping(90, copy=60), keeping(90), [], id="the copy is gone"),
    ],
)
def test_what_is_kept_for_less_long_is_found(
    before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str | None, int | None, int]]
) -> None:
    found = compare(effective(a_chain([before])).document, effective(a_chain([after])).document).shortened
    assert [(each.copy_action, each.days_before, each.days_after) for each in found] == expected


def test_a_copy_without_a_lifecycle_follows_the_backup() -> None:
    rule = {"target_backup_vault_name": assign("V"), "copy_actions": {COPY: {"target_backup_vault_arn": assign(COPY)}}}
    documents = [
        effective(
            a_chain([a_policy(core=a_plan(rules={"r": rule | {"lifecycle": {"delete_after_days": assign(days)}}}))])
        )
        for days in (90, 30)
    ]
    found = compare(documents[0].document, documents[1].document).shortened
    assert {(each.copy_action, each.days_before, each.days_after) for each in found} == {
        (None, 90, 30),
        (COPY.lower(), 90, 30),
    }


def draw_draft(data: st.DataObject, tree: Tree, policies: dict[str, Policy], attached: set[tuple[str, str]]) -> Draft:
    if not attached and data.draw(st.integers(0, 3)) == 0:
        tree.disable()  # with nothing attached, nothing is lost but what an account kept from before
        return EnableDraft(BACKUP)
    nodes = [tree.root, *tree.units.values(), *tree.accounts.values()]
    content = st.sampled_from(CONTENTS).map(json.dumps)
    policy_ids = st.sampled_from(sorted(policies))
    free = sorted({(policy, node) for policy in policies for node in nodes} - attached)
    choices: list[st.SearchStrategy[Draft]] = [
        st.builds(UpdateDraft, policy_ids, content),
        st.sampled_from(
            [
                MoveDraft(BACKUP, account, parent)
                for account in sorted(tree.accounts.values())
                for parent in [tree.root, *tree.units.values()]
                if path_of(tree.tx, account)[-2].id != parent
            ]
        ),
        st.just(DisableDraft(BACKUP)),
        st.builds(CreateDraft, st.just(BACKUP), content, st.none() | st.sampled_from(nodes)),
    ]
    if free:
        choices.append(st.sampled_from(free).map(lambda pair: AttachDraft(*pair)))
    if attached:
        choices.append(st.sampled_from(sorted(attached)).map(lambda pair: DetachDraft(*pair)))
    return data.draw(st.one_of(choices))


def carry_out(tree: Tree, draft: Draft, policies: dict[str, Policy]) -> Policy | None:
    """Make the change that a draft describes; return the policy that it made, if it did."""
    match draft:
        case UpdateDraft(policy_id, content):
            tree.update(policies[policy_id], json.loads(content))
        case AttachDraft(policy_id, target_id):
            tree.attach(policies[policy_id], target_id)
        case DetachDraft(policy_id, target_id):
            tree.detach(policies[policy_id], target_id)
        case MoveDraft(_, account_id, destination_id):
            tree.move(account_id, path_of(tree.tx, account_id)[-2].id, destination_id)
        case CreateDraft(_, content, target_id):
            made = tree.policy(json.loads(content))
            if target_id is not None:
                tree.attach(made, target_id)
            return made
        case EnableDraft():
            tree.enable()
        case DisableDraft():
            tree.disable()
            tree.enable()
        case _:
            raise AssertionError(draft)
    return None


def named(error: ValidationError, made: Policy | None) -> ValidationError:
    """Return an error with the id that a draft's policy got."""
    ids = [made.id if made and each == DRAFT_ID else each for each in error.contributing_policies]
    return replace(error, contributing_policies=tuple(ids))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=settings.default.max_examples // 4 if settings.default else 12,  # each is a long story
)
@given(st.data())
def test_a_preview_equals_what_the_change_then_does(shared_database: Database, data: st.DataObject) -> None:
    with shared_database.engine.connect() as tx, tx.begin() as transaction:
        tree = a_tree(tx)
        tree.enable()
        policies = {
            policy.id: policy
            for policy in (
                tree.policy(content)
                for content in data.draw(st.lists(st.sampled_from(CONTENTS), min_size=2, max_size=4))
            )
        }
        attached: set[tuple[str, str]] = set()
        for _ in range(data.draw(st.integers(1, 8))):
            draft = draw_draft(data, tree, policies, attached)
            enabling = isinstance(draft, EnableDraft)
            everyone = [*tree.accounts.values(), tree.organization.management_account]
            before = {} if enabling else {account: tree.in_force(account) for account in everyone}
            effects = foresee(tree, draft)
            foreseen = {account: (effect.after, effect.errors) for effect in effects for account in effect.account_ids}
            assert sum(len(effect.account_ids) for effect in effects) == len(foreseen)
            made = carry_out(tree, draft, policies)
            if made is not None:
                policies[made.id] = made
            for account in everyone:
                held = tree.in_force(account)
                nothing = ("{}", ())
                stays = nothing if enabling else (before[account].content, before[account].errors)
                content, errors = foreseen.get(account, stays)
                assert held.content == content
                assert held.errors == tuple(named(error, made) for error in errors)
            if isinstance(draft, AttachDraft):
                attached.add((draft.policy_id, draft.target_id))
            elif isinstance(draft, DetachDraft):
                attached.discard((draft.policy_id, draft.target_id))
            elif isinstance(draft, DisableDraft):
                attached.clear()
            elif isinstance(draft, CreateDraft) and made is not None and draft.target_id is not None:
                attached.add((made.id, draft.target_id))
        transaction.rollback()
