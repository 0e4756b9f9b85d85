"""Plans that accounts make themselves are run beside those of their organization, and neither replaces the other."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from tests.conftest import database_on
from tests.plan.test_body import a_body, a_rule
from tests.schedule.test_due_runs import (
    EXAMPLES,
    MANAGEMENT,
    NOON,
    PATTERN,
    REGION,
    RESOURCES,
    TYPES,
    Installation,
    a_document,
    arn_of,
)

from holdfast.assessment.model import Facts, Resource, assess
from holdfast.assessment.store import intern_selection
from holdfast.database.connection import Database
from holdfast.job.model import Job
from holdfast.job.origin import created_by
from holdfast.job.store import from_row
from holdfast.plan import service as plans
from holdfast.plan import store as plan_store
from holdfast.plan.model.body import PlanBody
from holdfast.plan.model.plan import Lifecycle, PlanSelection
from holdfast.plan.model.selection import Condition, Operator, ResourceClass, Selection, TagTerm
from holdfast.schedule import service
from holdfast.schedule.overlap import next_runs

SHOP, LAB = "111111111111", "222222222222"
ROLE = "arn:aws:iam::111111111111:role/Own"
GOLD = Selection(tags=(TagTerm("dataType", "PII"),))
AT_ONE = a_body(a_rule(name="r", schedule="cron(0 13 ? * * *)"), name="daily")


class Accounts(Installation):
    """Accounts that make plans, each with a resource that plans take."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        for account in (MANAGEMENT, SHOP, LAB):
            with database.transaction() as tx:
                self._insert(
                    tx, "account", id=account, name=account, email=f"{account}@example.com", status="ACTIVE",
                    joined_method="CREATED", alias=account, created_at=0,
                )  # fmt: skip
            self.resource(account, f"fs-{account}", {"dataType": "PII"})

    def plan(self, body: PlanBody, account: str = SHOP, *, at: datetime = NOON, selection: Selection = GOLD) -> str:
        """Make a plan with one selection."""
        with self.database.transaction() as tx:
            plan = plans.create_plan(tx, account, REGION, body, now=at).plan.id
            intern_selection(tx, selection)
            kept = PlanSelection("s-" + plan, "gold", ROLE, selection, creator_request_id="x")
            assert plan_store.add_own_selection(tx, plan, kept, now=at)
            service.take_up_plan(tx, account, REGION, plan, now=at)
        return plan

    def update(self, plan: str, body: PlanBody, *, at: datetime) -> None:
        with self.database.transaction() as tx:
            plans.update_plan(tx, SHOP, REGION, plan, body, now=at)
            service.take_up_plan(tx, SHOP, REGION, plan, now=at)

    def unselect(self, plan: str, *, at: datetime) -> None:
        with self.database.transaction() as tx:
            plans.delete_selection(tx, SHOP, REGION, plan, "s-" + plan)
            service.take_up_plan(tx, SHOP, REGION, plan, now=at)

    def delete(self, plan: str, *, at: datetime) -> None:
        self.unselect(plan, at=at)
        with self.database.transaction() as tx:
            plans.delete_plan(tx, SHOP, REGION, plan, now=at)
            service.take_up_plan(tx, SHOP, REGION, plan, now=at)

    def made(self, *ticks: datetime) -> list[Job]:
        """The jobs that there are after these ticks."""
        for at in ticks:
            service.tick(self.database, now=at)
        return [from_row(row) for row in self.jobs()]

    def by_hour(self, *ticks: datetime) -> list[tuple[str, int]]:
        return [(job.plan_name or "", job.due_at.hour) for job in self.made(*ticks) if job.due_at is not None]


def hour(number: int, *, seconds: int = 0) -> datetime:
    return datetime(2026, 3, 1, number, 0, seconds, tzinfo=UTC)


@pytest.fixture
def accounts(database: Database) -> Accounts:
    return Accounts(database)


def test_an_account_in_no_organization_runs_its_plans_in_its_region_alone(accounts: Accounts) -> None:
    plan = accounts.plan(AT_ONE)
    accounts.resource(SHOP, "elsewhere", {"dataType": "PII"}, region="us-east-1")
    accounts.resource(SHOP, "other", {"dataType": "none"})
    (job,) = accounts.made(hour(13))
    assert (job.account, job.resource_name, job.role_arn, job.due_at) == (SHOP, f"fs-{SHOP}", ROLE, hour(13))
    assert (job.organization_id, job.unit_path, job.vault_arn) == (
        None,
        "",
        f"arn:aws:backup:{REGION}:{SHOP}:backup-vault:Central",
    )
    with accounts.database.reading() as tx:
        told = created_by(tx, job) or {}
        found = plans.get_plan(tx, SHOP, REGION, plan, now=hour(13))
    assert told == {
        "BackupPlanId": plan,
        "BackupPlanArn": found.plan.arn,
        "BackupPlanName": "daily",
        "BackupPlanVersion": found.plan.version_id,
        "BackupRuleId": found.plan.rules[0].id,
        "BackupRuleName": "r",
        "BackupRuleCron": "cron(0 13 ? * * *)",
        "BackupRuleTimezone": "Etc/UTC",
    }
    assert found.last_run_at == hour(13)


def test_plans_of_one_name_run_side_by_side_whoever_made_them(accounts: Accounts) -> None:
    accounts.document(a_document())
    accounts.account(SHOP)
    accounts.account(LAB)
    own = accounts.plan(AT_ONE)
    longer = accounts.plan(replace(AT_ONE, rules=(replace(AT_ONE.rules[0], vault_name="Other"),)))
    jobs = accounts.made(NOON, hour(13), hour(13, seconds=1))
    assert sorted((job.account, job.plan_id or "orgs") for job in jobs) == sorted(
        [(SHOP, "orgs"), (LAB, "orgs"), (SHOP, own), (SHOP, longer)]
    )
    with accounts.database.reading() as tx:
        ids = {(created_by(tx, job) or {})["BackupPlanId"] for job in jobs if job.account == SHOP}
    assert len(ids) == 3
    assert len(accounts.made(NOON + timedelta(days=1, hours=1))) == 8


def test_a_changed_plan_runs_as_it_says_at_each_instant(accounts: Accounts) -> None:
    hourly = a_body(a_rule(name="r", schedule="cron(0 * ? * * *)"), name="before")
    plan = accounts.plan(hourly)
    accounts.made(hour(13))
    # The run of 14:00 was due before the change, whenever it is made; after it the new version alone runs.
    accounts.update(plan, replace(hourly, name="after"), at=hour(14, seconds=5))
    assert accounts.by_hour(hour(14, seconds=9), hour(15)) == [("before", 13), ("before", 14), ("after", 15)]
    accounts.update(plan, replace(hourly, name="third"), at=hour(15, seconds=5))
    assert accounts.by_hour(hour(16))[3:] == [("third", 16)]
    accounts.unselect(plan, at=hour(16, seconds=5))
    assert len(accounts.by_hour(hour(17))) == 4
    accounts.delete(accounts.plan(hourly, at=hour(17)), at=hour(17, seconds=5))
    assert len(accounts.by_hour(hour(18), hour(19))) == 4
    with accounts.database.reading() as tx:
        due = tx.execute(text("SELECT count(DISTINCT document_id) FROM document_rule WHERE next_due_at > 0"))
        assert due.scalar_one() == 1


def test_which_types_are_switched_on_is_the_accounts_choice_in_its_own_plans(accounts: Accounts) -> None:
    accounts.document(a_document())
    accounts.account(SHOP)
    accounts.account(LAB)
    accounts.plan(AT_ONE)
    accounts.plan(AT_ONE, LAB)
    accounts.switch_off(SHOP, "EFS")
    assert {(job.account, job.plan_id is None) for job in accounts.made(NOON, hour(13))} == {
        (SHOP, True),
        (LAB, True),
        (LAB, False),
    }
    accounts.switch_off(MANAGEMENT, "EFS")
    new = accounts.made(hour(13) + timedelta(days=1))[3:]
    assert [(job.account, job.plan_id is None) for job in new] == [(LAB, False)]


def test_resources_are_named_and_excluded_by_their_arns(accounts: Accounts) -> None:
    arn = f"arn:aws:elasticfilesystem:{REGION}:{SHOP}:file-system/"
    for name in ("a-1", "a-2", "b-1"):
        accounts.resource(SHOP, name, {})
    accounts.plan(AT_ONE, selection=Selection((arn + "a-*", arn + "b-1"), (arn + "a-2",)))
    assert [job.resource_name for job in accounts.made(hour(13))] == ["a-1", "b-1"]


def test_of_overlapping_rules_of_a_plan_the_one_that_keeps_longer_runs(accounts: Accounts) -> None:
    daily = a_rule(
        name="daily", schedule="cron(0 13 ? * * *)", start_window=timedelta(hours=2), lifecycle=Lifecycle(None, -1)
    )
    hourly = a_rule(
        name="hourly",
        schedule="cron(0 * ? * * *)",
        start_window=timedelta(hours=1),
        lifecycle=Lifecycle(None, 1),
    )
    accounts.plan(a_body(daily, hourly))
    foreseen = [(rule.name, at) for at, rule in next_runs((daily, hourly), NOON, 3)]
    made = [(job.rule_name, job.due_at) for job in accounts.made(*(hour(number) for number in range(13, 17)))]
    assert made == [("daily", hour(13)), ("hourly", hour(15)), ("hourly", hour(16))]
    assert foreseen == made, "what a plan shows of its next runs is what comes"


def test_a_closed_account_runs_nothing(accounts: Accounts) -> None:
    accounts.plan(AT_ONE)
    with accounts.database.transaction() as tx:
        tx.execute(text("UPDATE account SET status = 'SUSPENDED' WHERE id = :id"), {"id": SHOP})
    assert accounts.made(hour(13)) == []
    with accounts.database.reading() as tx:
        assert service.next_due_at(tx) == hour(13) + timedelta(days=1)


def test_a_missed_run_is_made_once_and_the_others_are_skipped(accounts: Accounts) -> None:
    accounts.plan(a_body(a_rule(schedule="cron(0 * ? * * *)")))
    (job,) = accounts.made(hour(18, seconds=30))
    assert job.due_at == hour(18)
    assert accounts.skipped() == 5


def test_a_rule_that_always_stands_back_is_not_foreseen() -> None:
    hourly = a_rule(name="short", schedule="cron(0 * ? * * *)", lifecycle=Lifecycle(None, 1))
    longer = replace(hourly, name="long", lifecycle=Lifecycle(None, 2))
    runs = next_runs((hourly, longer), NOON, 10)
    assert [(rule.name, at.hour) for at, rule in runs] == [("long", number) for number in range(13, 23)]


_PATTERNS = st.lists(PATTERN, max_size=3).map(tuple)
_VALUES = st.sampled_from(["PII", "RED", "prod", "pr*d"])
_SELECTIONS = st.dictionaries(
    st.sampled_from(["a.b", "a-b", "Z"]),
    st.builds(
        Selection,
        resources=_PATTERNS,
        not_resources=st.lists(PATTERN, max_size=1).map(tuple),
        tags=st.lists(st.builds(TagTerm, st.just("dataType"), _VALUES), max_size=2).map(tuple),
        conditions=st.lists(
            st.builds(Condition, st.sampled_from(Operator), st.just("aws:ResourceTag/stage"), _VALUES), max_size=1
        ).map(tuple),
    ),
    min_size=1,
    max_size=3,
)
_OFF = st.lists(st.sampled_from(TYPES), unique=True)
_PARTS = {"selections": _SELECTIONS, "resources": RESOURCES, "off": _OFF, "off_for_all": _OFF}


def _agrees(
    database: Database,
    selections: Mapping[str, Selection],
    resources: list[Any],
    off: list[str],
    off_for_all: list[str],
) -> None:
    accounts = Accounts(database)
    accounts.switch_off(SHOP, *off)
    accounts.switch_off(MANAGEMENT, *off_for_all)
    values = [Resource(arn_of(SHOP, f"fs-{SHOP}"), ResourceClass("EFS", REGION, {"dataType": "PII"}))]
    for number, (account, kind, tags) in enumerate(resources):
        accounts.resource(account, f"fs-{number}", tags, type_name=kind)
        if account == SHOP:
            values.append(Resource(arn_of(SHOP, f"fs-{number}", type_name=kind), ResourceClass(kind, REGION, tags)))
    with database.transaction() as tx:
        plan = plans.create_plan(tx, SHOP, REGION, AT_ONE, now=NOON).plan.id
        for name, selection in selections.items():
            intern_selection(tx, selection)
            kept = PlanSelection(name, name, f"{ROLE}-{name}", selection, creator_request_id=name)
            assert plan_store.add_own_selection(tx, plan, kept, now=NOON)
        service.take_up_plan(tx, SHOP, REGION, plan, now=NOON)
        made = plans.get_plan(tx, SHOP, REGION, plan, now=NOON).plan
    facts = Facts(SHOP, REGION, frozenset(), opted_out=frozenset(off), opted_out_by_management=frozenset(off_for_all))
    expected = {
        (found.resource.arn, applied.selection.role_arn)
        for found in assess([made], values, facts)
        for applied in found.applied
    }
    assert {(job.resource_arn, job.role_arn) for job in accounts.made(hour(13))} == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=EXAMPLES)
@given(**_PARTS)
def test_the_join_agrees_with_the_assessment_on_an_accounts_own_plan(
    empty_sqlite: Path, tmp_path_factory: pytest.TempPathFactory, **parts: Any
) -> None:
    path = tmp_path_factory.mktemp("join") / "control.db"
    path.write_bytes(empty_sqlite.read_bytes())
    database = Database.open(f"sqlite:///{path}")
    _agrees(database, **parts)
    database.close()


@pytest.mark.postgres
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=3)
@given(**_PARTS)
def test_the_join_agrees_with_the_assessment_on_an_accounts_own_plan_on_postgresql(
    postgres_url: str, **parts: Any
) -> None:
    with database_on(postgres_url, template="migrated") as url:
        database = Database.open(url.render_as_string(hide_password=False))
        _agrees(database, **parts)
        database.close()
