"""Distribution: which account has which document, since when, and what held at any past instant."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from tests.policy.builders import CONTROL, a_plan, a_policy, a_rule, assign
from tests.policy.organization import NOON, Tree, a_tree
from tests.policy.reference import merge

from holdfast.database.connection import Database
from holdfast.database.values import FOREVER
from holdfast.organization.service.tree import path_of
from holdfast.policy import service, store
from holdfast.policy.effective import accounts_with_invalid_policy, explain, explain_node
from holdfast.policy.errors import EffectivePolicyNotFoundError, PolicyNotFoundError
from holdfast.policy.model.kind import BACKUP
from holdfast.policy.model.merge import Attached, Level, effective, replay
from holdfast.policy.model.validation import validate_effective
from holdfast.policy.receipts import policy_version, receipts
from holdfast.policy.store import Policy

LATER = a_policy(core=a_plan(rules={"daily": a_rule(target_backup_vault_name=assign("Later"))}))
WITHOUT_REGIONS = {"plans": {"core": {"regions": {"@@remove": ["eu-north-1"]}}}}
EMPTY: dict[str, Any] = {"plans": {}}


def vault(tree: Tree, account: str, at: datetime | None = None) -> str | None:
    """Return the vault that the daily rule of the plan names for an account, None without such a plan."""
    plans = tree.document(tree.accounts[account], at).get("plans", {})
    return plans["core"]["rules"]["daily"]["target_backup_vault_name"] if plans else None


def rows(tree: Tree, table: str) -> int:
    return int(tree.tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_an_account_without_attachments_above_it_has_an_empty_document(tree: Tree) -> None:
    tree.enable()
    held = tree.in_force(tree.accounts["web1"])
    assert (held.content, held.since, held.errors) == ("{}", tree.now, ())


def test_a_type_that_is_not_switched_on_gives_no_effective_policy(tree: Tree) -> None:
    with pytest.raises(EffectivePolicyNotFoundError, match="not enabled"):
        tree.in_force(tree.accounts["web1"])


def test_a_policy_reaches_the_accounts_below_the_node_and_no_others(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.units["Prod"])
    assert {name: vault(tree, name) for name in tree.accounts} == {
        "web1": "Main",
        "web2": "Main",
        "data": "Main",
        "dev": None,
        "loose": None,
    }


def test_accounts_share_chains_and_an_edit_rewrites_no_row_of_theirs(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    assert rows(tree, "chain_document") == 2  # nothing attached, and one policy at the root
    before = rows(tree, "account_chain")
    tree.update(policy, LATER)
    assert rows(tree, "account_chain") == before
    assert {vault(tree, name) for name in tree.accounts} == {"Later"}


def test_any_past_instant_can_be_asked(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    instants: list[tuple[datetime, str | None]] = [(tree.now, None)]
    tree.attach(policy, tree.root)
    instants.append((tree.now, "Main"))
    tree.update(policy, LATER)
    instants.append((tree.now, "Later"))
    tree.detach(policy, tree.root)
    instants.append((tree.now, None))
    assert [vault(tree, "web1", at) for at, _ in instants] == [expected for _, expected in instants]


def test_detaching_and_attaching_again_moves_a_policy_to_the_end(tree: Tree) -> None:
    tree.enable()
    first, second = tree.policy(), tree.policy(LATER)
    tree.attach(first, tree.root)
    tree.attach(second, tree.root)
    assert vault(tree, "dev") == "Main"
    tree.detach(first, tree.root)
    tree.attach(first, tree.root)
    assert vault(tree, "dev") == "Later"


def test_an_invalid_document_is_withheld_and_the_last_valid_one_stays(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    since = tree.now
    tree.update(policy, a_policy(core=a_plan(regions=None)))
    held = tree.in_force(tree.accounts["web1"])
    assert vault(tree, "web1") == "Main"
    assert (held.since, held.updated_at) == (since, tree.now)
    assert [(error.code, error.path, error.contributing_policies) for error in held.errors] == [
        ("KEY_REQUIRED", "plans/core", (policy.id,))
    ]
    tree.update(policy, LATER)
    assert (vault(tree, "web1"), tree.in_force(tree.accounts["web1"]).errors) == ("Later", ())


def test_without_a_valid_document_before_there_is_an_empty_one(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(a_policy(core=a_plan(regions=None))), tree.root)
    assert tree.document(tree.accounts["web1"]) == {}
    assert accounts_with_invalid_policy(tree.tx, tree.id, BACKUP, after=None, limit=2).position is not None


def test_accounts_on_one_broken_chain_keep_what_each_of_them_had(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.units["Prod"])
    tree.attach(tree.policy(LATER), tree.units["Dev"])
    broken = tree.unit("Broken")
    breaking = tree.policy(a_policy(core=a_plan(regions=None)))
    tree.attach(breaking, broken)
    tree.move(tree.accounts["web1"], tree.units["Web"], broken)
    tree.move(tree.accounts["dev"], tree.units["Dev"], broken)
    tree.units["Broken"] = broken
    tree.account("new", "Broken")
    assert [vault(tree, name) for name in ("web1", "dev", "new")] == ["Main", "Later", None]
    tree.update(breaking, a_policy(core=a_plan(rules={"daily": a_rule(target_backup_vault_name=assign("Mended"))})))
    assert [vault(tree, name) for name in ("web1", "dev", "new")] == ["Mended"] * 3
    tree.update(breaking, a_policy(core=a_plan(regions=None)))
    assert [vault(tree, name) for name in ("web1", "dev", "new")] == ["Mended"] * 3


def test_a_broken_policy_at_the_root_leaves_every_account_what_it_had(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.units["Prod"])
    tree.attach(
        tree.policy({"plans": {"core": {CONTROL: ["@@none"], "rules": {"x": {}}}, "odd": {"rules": {"r": a_rule()}}}}),
        tree.root,
    )
    assert {name: vault(tree, name) for name in ("web1", "dev")} == {"web1": "Main", "dev": None}
    assert len(accounts_with_invalid_policy(tree.tx, tree.id, BACKUP, after=None, limit=10).items) == 6


def test_switching_the_type_off_drops_attachments_and_on_again_starts_empty(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    held = tree.now
    tree.disable()
    off = tree.now
    with pytest.raises(EffectivePolicyNotFoundError):
        tree.in_force(tree.accounts["web1"])
    tree.enable()
    assert tree.document(tree.accounts["web1"]) == {}
    assert not store.is_attached(tree.tx, tree.id, policy.id, tree.root)
    assert vault(tree, "web1", held) == "Main"
    with pytest.raises(EffectivePolicyNotFoundError):
        tree.in_force(tree.accounts["web1"], at=off)


def test_explain_gives_the_document_in_force_even_where_the_new_one_is_withheld(tree: Tree) -> None:
    tree.enable()
    policy, other = tree.policy(), tree.policy(LATER)
    tree.attach(policy, tree.root)
    tree.attach(other, tree.units["Web"])
    held = tree.now
    tree.update(other, WITHOUT_REGIONS)
    found = explain(tree.tx, tree.accounts["web1"], BACKUP, at=tree.now)
    leaf = next(leaf for leaf in found.leaves if leaf.path[-1] == "target_backup_vault_name")
    assert (leaf.value, leaf.origin.policy_id, leaf.origin.node_id) == ("Later", other.id, tree.units["Web"])
    assert found.document == tree.document(tree.accounts["web1"])
    assert found == explain(tree.tx, tree.accounts["web1"], BACKUP, at=held)


def test_a_rename_counts_as_a_computation_but_changes_no_document(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    before = tree.in_force(tree.accounts["dev"])
    service.update_policy(tree.tx, tree.id, policy.id, name="renamed", regions=frozenset(), now=tree.tick())
    after = tree.in_force(tree.accounts["dev"])
    assert (after.document_id, after.since, after.updated_at) == (before.document_id, before.since, tree.now)


def test_a_policy_attached_to_an_account_holds_for_it_alone(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.root)
    tree.attach(tree.policy(LATER), tree.accounts["web1"])
    assert [vault(tree, name) for name in ("web1", "web2")] == ["Later", "Main"]


def test_an_account_that_leaves_has_no_effective_policy_any_more(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.root)
    account = tree.accounts["dev"]
    tree.tx.execute(text("UPDATE placement SET ends_at = 1 WHERE account_id = :account"), {"account": account})
    service.recompute_accounts(tree.tx, [account], now=tree.tick())
    with pytest.raises(EffectivePolicyNotFoundError):
        tree.in_force(account)


def test_recomputing_everything_changes_nothing(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.units["Prod"])
    before = [tuple(row) for row in tree.tx.execute(text("SELECT * FROM account_chain ORDER BY account_id, starts_at"))]
    service.recompute_organization(tree.tx, tree.id, now=tree.tick())
    service.recompute_accounts(tree.tx, list(tree.accounts.values()), now=tree.tick())
    after = [tuple(row) for row in tree.tx.execute(text("SELECT * FROM account_chain ORDER BY account_id, starts_at"))]
    assert after == before


CONTENTS = [
    a_policy(),
    LATER,
    EMPTY,
    WITHOUT_REGIONS,
    a_policy(core=a_plan(regions=None)),
    {"plans": {"core": {"regions": assign(["us-east-1"])}}},
    {"plans": {"core": {"regions": {"@@append": ["eu-west-1"]}}}},
    a_policy(core={**a_plan(), CONTROL: ["@@none"], "regions": {"@@assign": ["eu-north-1"], CONTROL: ["@@none"]}}),
    a_policy(extra=a_plan()),
    {"plans": {"core": {"rules": {"weekly": a_rule()}}}},
]


class Expected:
    """What every account should have, worked out anew after each change by walking the tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.attached: dict[str, list[str]] = {}
        self.policies: dict[str, Policy] = {}
        self.documents: dict[str, Any] = {}
        self.history: list[tuple[datetime, dict[str, Any]]] = []
        self.invalid: set[str] = set()
        self.enabled = False

    def settle(self) -> None:
        self.invalid = set()
        for account in [*self.tree.accounts.values()] if self.enabled else []:
            nodes = [node.id for node in path_of(self.tree.tx, account)]
            chain = [
                Level(node, tuple(Attached(id_, self.policies[id_].content) for id_ in self.attached.get(node, [])))
                for node in nodes
            ]
            result = effective(chain)
            slowly, _ = merge([[json.loads(policy.content) for policy in level.policies] for level in chain])
            assert result.document == slowly
            if validate_effective(result, self.tree.now):
                self.invalid.add(account)
                self.documents.setdefault(account, {})
            else:
                self.documents[account] = result.document
        self.history.append((self.tree.now, dict(self.documents)))


def change(data: st.DataObject, tree: Tree, expected: Expected) -> None:
    """Make one random change, in the tables and in what is expected."""
    nodes = [tree.root, *tree.units.values(), *tree.accounts.values()]
    kinds = ["create", "update", "attach", "attach", "detach", "move", "switch", "account"]
    match data.draw(st.sampled_from(kinds)):
        case "create" if len(expected.policies) < 5:
            policy = tree.policy(data.draw(st.sampled_from(CONTENTS)))
            expected.policies[policy.id] = policy
        case "update" if expected.policies:
            policy = data.draw(st.sampled_from(list(expected.policies.values())))
            expected.policies[policy.id] = tree.update(policy, data.draw(st.sampled_from(CONTENTS)))
        case "attach" if expected.policies and expected.enabled:
            policy, node = (
                data.draw(st.sampled_from(list(expected.policies.values()))),
                data.draw(st.sampled_from(nodes)),
            )
            if policy.id not in expected.attached.get(node, []):
                tree.attach(policy, node)
                expected.attached.setdefault(node, []).append(policy.id)
        case "detach" if any(expected.attached.values()):
            node = data.draw(st.sampled_from([node for node, attached in expected.attached.items() if attached]))
            policy_id = data.draw(st.sampled_from(expected.attached[node]))
            tree.detach(expected.policies[policy_id], node)
            expected.attached[node].remove(policy_id)
        case "move":
            account = data.draw(st.sampled_from(list(tree.accounts.values())))
            source = path_of(tree.tx, account)[-2].id
            destination = data.draw(st.sampled_from([tree.root, *tree.units.values()]))
            if source != destination:
                tree.move(account, source, destination)
        case "switch" if data.draw(st.booleans()):
            expected.attached.clear()
            expected.documents.clear()
            expected.enabled = not expected.enabled
            if expected.enabled:
                tree.enable()
            else:
                tree.disable()
        case "account" if len(tree.accounts) < 8:
            tree.tick()
            tree.account(f"more{len(tree.accounts)}", data.draw(st.sampled_from(list(tree.units))))
        case _:
            pass


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=settings.default.max_examples // 4 if settings.default else 12,  # each is a long story
)
@given(st.data())
def test_step_by_step_equals_from_scratch_now_and_at_every_past_instant(
    shared_database: Database, data: st.DataObject
) -> None:
    with shared_database.engine.connect() as tx, tx.begin() as transaction:
        tree = a_tree(tx)
        expected = Expected(tree)
        tree.enable()
        expected.enabled = True
        expected.settle()
        for _ in range(data.draw(st.integers(5, 25))):
            change(data, tree, expected)
            expected.settle()
            if not expected.enabled:
                continue
            found = {account: tree.document(account) for account in tree.accounts.values()}
            assert found == expected.documents
            page = accounts_with_invalid_policy(tx, tree.id, BACKUP, after=None, limit=100)
            assert set(page.items) - {tree.organization.management_account} == expected.invalid
        for at, documents in dict(expected.history).items():
            for account, document in documents.items():
                assert tree.document(account, at) == document
                assert replay(explain(tx, account, BACKUP, at=at).leaves) == document
        _intervals_touch_and_never_overlap(tree)
        transaction.rollback()


def _intervals_touch_and_never_overlap(tree: Tree) -> None:
    for table, key in (
        ("account_chain", "account_id, type"),
        ("chain_document", "chain_id"),
        ("chain_evaluation", "chain_id"),
        ("account_document", "account_id, type"),
    ):
        last: dict[Any, int] = {}
        for row in tree.tx.execute(text(f"SELECT {key}, starts_at, ends_at FROM {table} ORDER BY {key}, starts_at")):
            *names, starts_at, ends_at = row
            assert starts_at < ends_at <= FOREVER
            assert last.get(tuple(names), 0) <= starts_at
            last[tuple(names)] = ends_at


def test_a_receipt_tells_the_version_in_force_also_where_the_newest_is_withheld(tree: Tree) -> None:
    tree.enable()
    policy, other = tree.policy(), tree.policy(WITHOUT_REGIONS)
    tree.attach(policy, tree.units["Prod"])
    first = tree.now
    tree.attach(other, tree.units["Web"])
    tree.update(policy, LATER)
    names = {account: name for name, account in tree.accounts.items()}

    def come(at: datetime) -> dict[str, tuple[int | None, bool]]:
        page = receipts(tree.tx, tree.id, policy.id, at=at, after=None, limit=10)
        assert page.position is None
        return {names[each.account_id]: (each.version_in_force, bool(each.errors)) for each in page.items}

    assert come(tree.now) == {"web1": (1, True), "web2": (1, True), "data": (2, False)}
    assert come(first) == {"web1": (1, False), "web2": (1, False), "data": (1, False)}
    assert policy_version(tree.tx, tree.id, policy.id, at=first) == 1
    assert receipts(tree.tx, tree.id, other.id, at=first, after=None, limit=10).items == ()
    paged = receipts(tree.tx, tree.id, policy.id, at=tree.now, after=None, limit=2)
    rest = receipts(tree.tx, tree.id, policy.id, at=tree.now, after=paged.position, limit=2)
    assert len(paged.items) + len(rest.items) == 3
    with pytest.raises(PolicyNotFoundError):
        policy_version(tree.tx, tree.id, policy.id, at=NOON)


def test_an_account_that_came_to_a_broken_chain_has_no_version_of_its_policies(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(LATER), tree.units["Dev"])
    broken = tree.policy(a_policy(core=a_plan(regions=None)))
    tree.attach(broken, tree.units["Data"])
    tree.move(tree.accounts["dev"], tree.units["Dev"], tree.units["Data"])
    page = receipts(tree.tx, tree.id, broken.id, at=tree.now, after=None, limit=10)
    assert {each.account_id: each.version_in_force for each in page.items} == {
        tree.accounts["dev"]: None,
        tree.accounts["data"]: None,
    }


def test_a_unit_is_explained_as_far_as_the_policies_above_it_go(tree: Tree) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.units["Prod"])
    held = tree.now
    tree.update(policy, LATER)
    path = (tree.root, tree.units["Prod"], tree.units["Web"])
    now, then = (explain_node(tree.tx, tree.id, path, BACKUP, at=at) for at in (tree.now, held))
    assert now.document == tree.document(tree.accounts["web1"])
    assert then.document == tree.document(tree.accounts["web1"], held)
    assert explain_node(tree.tx, tree.id, path[:1], BACKUP, at=tree.now).document == {}
    with pytest.raises(EffectivePolicyNotFoundError):
        explain_node(tree.tx, tree.id, path, "TAG_POLICY", at=tree.now)


def test_the_news_tells_which_type_changed(tree: Tree) -> None:
    tree.enable()
    bodies = [
        json.loads(row.body) for row in tree.tx.execute(text("SELECT body FROM outbox WHERE kind = 'PolicyChanged'"))
    ]
    assert {"organization": tree.id, "type": BACKUP} in bodies
