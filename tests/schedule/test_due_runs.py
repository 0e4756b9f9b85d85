"""Due rules become job rows: the join that makes them agrees with the function that explains them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from tests.conftest import database_on

from holdfast.assessment.model import Facts, Resource, assess
from holdfast.assessment.store import intern_class
from holdfast.database.connection import Database
from holdfast.database.values import FOREVER, stamp, to_json
from holdfast.plan.model.derive import derive_plans
from holdfast.plan.model.resource_type import RESOURCE_TYPES
from holdfast.plan.model.selection import ResourceClass
from holdfast.schedule import service

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REGION = "eu-north-1"
ORGANIZATION = "o-aaaaaaaaaa"
MANAGEMENT = "000000000001"


def a_document(
    *, hour: str = "13", tag_values: tuple[str, ...] = ("PII",), regions: tuple[str, ...] = (REGION,)
) -> dict[str, Any]:
    return {
        "plans": {
            "daily": {
                "regions": list(regions),
                "rules": {"r": {"target_backup_vault_name": "V", "schedule_expression": f"cron(0 {hour} ? * * *)"}},
                "selections": {
                    "tags": {
                        "s": {
                            "iam_role_arn": "arn:aws:iam::$account:role/Backup",
                            "tag_key": "dataType",
                            "tag_value": list(tag_values),
                        }
                    }
                },
            }
        }
    }


def arn_of(account: str, name: str, *, type_name: str = "EFS", region: str = REGION) -> str:
    kind = RESOURCE_TYPES[type_name]
    where = ":" if type_name == "S3" else f"{region}:{account}"
    return f"arn:aws:{kind.service}:{where}:{kind.prefix}{name}"


class Installation:
    """A little organization, laid straight into the tables."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.transaction() as tx:
            self._insert(
                tx,
                "organization",
                id=ORGANIZATION,
                management_account=MANAGEMENT,
                root_id="r-1",
                feature_set="ALL",
                created_at=0,
            )

    def _insert(self, tx: sa.Connection, table: str, **values: Any) -> None:
        columns = ", ".join(values)
        tx.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(':' + name for name in values)})"), values)

    def document(self, content: Mapping[str, Any], name: str = "d1") -> None:
        with self.database.transaction() as tx:
            self._insert(tx, "document", id=name, type="BACKUP_POLICY", content=to_json(dict(content)), created_at=0)
            self._insert(
                tx, "chain", id=f"chain-{name}", organization_id=ORGANIZATION, type="BACKUP_POLICY", attachments="[]"
            )
            self._insert(tx, "chain_document", chain_id=f"chain-{name}", document_id=name, starts_at=0, ends_at=FOREVER)

    def account(
        self, account: str, document: str = "d1", *, since: datetime | None = None, until: datetime | None = None
    ) -> None:
        starts, ends = 0 if since is None else stamp(since), FOREVER if until is None else stamp(until)
        with self.database.transaction() as tx:
            self._insert(
                tx,
                "placement",
                account_id=account,
                organization_id=ORGANIZATION,
                unit_id="r-1",
                path=f"{ORGANIZATION}/r-1/",
                starts_at=starts,
                ends_at=ends,
            )
            self._insert(
                tx,
                "account_chain",
                account_id=account,
                type="BACKUP_POLICY",
                chain_id=f"chain-{document}",
                starts_at=starts,
                ends_at=ends,
            )

    def resource(
        self, account: str, name: str, tags: Mapping[str, str], *, type_name: str = "EFS", region: str = REGION
    ) -> None:
        with self.database.transaction() as tx:
            class_id = intern_class(tx, type_name, region, tags)
            arn = arn_of(account, name, type_name=type_name, region=region)
            self._insert(
                tx,
                "resource",
                account=account,
                region=region,
                arn=arn,
                type=type_name,
                name=name,
                source_url=f"file:///{account}/{name}",
                location=f"file:///{account}/{name}",
                site="local",
                class_id=class_id,
                version=1,
                created_at=0,
                updated_at=0,
            )
            resource_id = tx.execute(
                text("SELECT id FROM resource WHERE account = :a AND region = :r AND arn = :n"),
                {"a": account, "r": region, "n": arn},
            ).scalar_one()
            self._insert(
                tx, "resource_interval", resource_id=resource_id, class_id=class_id, starts_at=0, ends_at=FOREVER
            )

    def switch_off(self, account: str, *types: str) -> None:
        with self.database.transaction() as tx:
            for name in types:
                self._insert(
                    tx, "setting", account=account, region=REGION, name=f"opt-in {name}", value="false", updated_at=0
                )

    def jobs(self) -> list[Any]:
        with self.database.reading() as tx:
            return list(
                tx.execute(text("SELECT * FROM job ORDER BY due_at, account, resource_arn, plan_name, rule_name"))
            )

    def skipped(self) -> int:
        with self.database.reading() as tx:
            return int(tx.execute(text("SELECT count(*) FROM skipped_run")).scalar_one())


@pytest.fixture
def installation(database: Database) -> Installation:
    return Installation(database)


def test_a_due_run_makes_a_job_for_each_resource_taken(installation: Installation) -> None:
    installation.document(a_document())
    installation.account("111111111111")
    installation.resource("111111111111", "fs-1", {"dataType": "PII"})
    installation.resource("111111111111", "fs-2", {"dataType": "none"})
    service.tick(installation.database, now=NOON)
    assert installation.jobs() == []
    done = service.tick(installation.database, now=NOON + timedelta(hours=1))
    assert (done.runs, done.jobs) == (1, 1)
    (job,) = installation.jobs()
    assert job.resource_arn.endswith("fs-1")
    assert job.role_arn == "arn:aws:iam::111111111111:role/Backup"
    assert job.vault_arn == f"arn:aws:backup:{REGION}:111111111111:backup-vault:V"
    assert job.start_by - job.created_at == 8 * 3600 * 1_000_000
    assert job.state == "CREATED"


def test_looking_twice_makes_no_job_twice(installation: Installation) -> None:
    installation.document(a_document())
    installation.account("111111111111")
    installation.resource("111111111111", "fs-1", {"dataType": "PII"})
    service.tick(installation.database, now=NOON)
    service.tick(installation.database, now=NOON + timedelta(hours=1))
    with installation.database.transaction() as tx:
        tx.execute(text("UPDATE document_rule SET next_due_at = :at"), {"at": stamp(NOON + timedelta(hours=1))})
    service.tick(installation.database, now=NOON + timedelta(hours=1))
    assert len(installation.jobs()) == 1


def test_after_downtime_only_the_latest_missed_run_is_made(installation: Installation) -> None:
    installation.document(a_document())
    installation.account("111111111111")
    installation.resource("111111111111", "fs-1", {"dataType": "PII"})
    service.tick(installation.database, now=NOON)
    done = service.tick(installation.database, now=NOON + timedelta(days=3, hours=2))
    assert (done.jobs, done.skipped) == (1, 3)
    (job,) = installation.jobs()
    assert job.due_at == stamp(NOON + timedelta(days=3, hours=1))
    assert job.start_by > stamp(NOON + timedelta(days=3, hours=2)), "a run made late still has its start window"
    assert installation.skipped() == 3


def test_what_held_at_the_due_instant_counts(installation: Installation) -> None:
    due = NOON + timedelta(hours=1)
    installation.document(a_document())
    installation.account("111111111111", until=due)
    installation.account("222222222222", since=due)
    installation.account("333333333333", since=due + timedelta(microseconds=1))
    for account in ("111111111111", "222222222222", "333333333333"):
        installation.resource(account, "fs-1", {"dataType": "PII"})
    service.tick(installation.database, now=NOON)
    service.tick(installation.database, now=due + timedelta(seconds=30))
    assert [job.account for job in installation.jobs()] == ["222222222222"]


def test_a_document_that_holds_nowhere_is_not_run(installation: Installation) -> None:
    installation.document(a_document())
    installation.account("111111111111", until=NOON + timedelta(minutes=1))
    service.tick(installation.database, now=NOON)
    service.tick(installation.database, now=NOON + timedelta(minutes=2))
    with installation.database.reading() as tx:
        assert service.next_due_at(tx) is None


def test_a_type_that_the_management_account_switched_off_makes_no_job(installation: Installation) -> None:
    installation.document(a_document())
    installation.account("111111111111")
    installation.resource("111111111111", "fs-1", {"dataType": "PII"})
    installation.switch_off(MANAGEMENT, "EFS")
    service.tick(installation.database, now=NOON)
    assert service.tick(installation.database, now=NOON + timedelta(hours=1)).jobs == 0


def test_a_type_that_is_switched_off_is_backed_up_where_a_policy_names_it(installation: Installation) -> None:
    document = a_document()
    document["plans"]["daily"]["selections"]["resources"] = {
        "r": {
            "iam_role_arn": "arn:aws:iam::$account:role/Named",
            "resource_types": ["arn:aws:elasticfilesystem:*:*:file-system/*"],
        }
    }
    installation.document(document)
    installation.account("111111111111")
    installation.resource("111111111111", "fs-1", {"dataType": "PII"})
    installation.switch_off(MANAGEMENT, "EFS")
    service.tick(installation.database, now=NOON)
    service.tick(installation.database, now=NOON + timedelta(hours=1))
    (job,) = installation.jobs()
    assert job.role_arn.endswith(":role/Named"), "the selection by tag comes first by name, but obeys the setting"


def test_the_member_has_no_say_over_the_organizations_plans(installation: Installation) -> None:
    installation.document(a_document())
    installation.account("111111111111")
    installation.resource("111111111111", "fs-1", {"dataType": "PII"})
    installation.switch_off("111111111111", "EFS")
    service.tick(installation.database, now=NOON)
    assert service.tick(installation.database, now=NOON + timedelta(hours=1)).jobs == 1


def test_more_resources_than_a_batch(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BATCH", 3)
    installation.document(a_document())
    installation.account("111111111111")
    for n in range(8):
        installation.resource("111111111111", f"fs-{n}", {"dataType": "PII"})
    service.tick(installation.database, now=NOON)
    assert service.tick(installation.database, now=NOON + timedelta(hours=1)).jobs == 8
    ids = [UUID(job.id) for job in installation.jobs()]
    assert {each.version for each in ids} == {7}
    batches = [ids[:3], ids[3:6], ids[6:]]
    assert sorted(ids) == [each for batch in batches for each in sorted(batch)], "the ids of a batch lie together"


ACCOUNTS = ("111111111111", "222222222222")
TYPES = ("EFS", "RDS", "S3")
_TAGS = st.dictionaries(st.sampled_from(["dataType", "stage"]), st.sampled_from(["PII", "RED", "prod"]), max_size=2)
_CONDITIONS = st.dictionaries(
    st.sampled_from(["string_equals", "string_not_equals", "string_like", "string_not_like"]),
    st.builds(
        lambda key, value: {"c": {"condition_key": f"aws:ResourceTag/{key}", "condition_value": value}},
        st.sampled_from(["dataType", "stage"]),
        st.sampled_from(["PII", "pr*d", "R*"]),
    ),
    max_size=2,
)
# Single ARNs and parts of them stand in no policy, but in selections of an account's own plans.
PATTERN = st.sampled_from(
    [
        "*",
        "arn:aws:rds:*",
        "arn:aws:rds:*:*:db:*",
        "arn:aws:elasticfilesystem:*:*:file-system/*",
        "arn:aws:s3:::*",
        "arn:aws:s3:::fs-1*",
        "arn:aws:elasticfilesystem:*:*:file-system/fs-1*",
        f"arn:aws:rds:{REGION}:111111111111:*",
        *(arn_of(account, f"fs-{n}", type_name=kind) for account in ACCOUNTS for n in range(3) for kind in TYPES),
    ]
)
_SELECTION = st.one_of(
    st.builds(
        lambda name, values, conditions: {
            "tags": {
                name: {
                    "iam_role_arn": f"arn:aws:iam::$account:role/tags-{name}",
                    "tag_key": "dataType",
                    "tag_value": values,
                    "conditions": conditions,
                }
            }
        },
        st.sampled_from(["a.b", "a-b", "s"]),
        st.lists(st.sampled_from(["PII", "RED"]), min_size=1, max_size=2, unique=True),
        _CONDITIONS,
    ),
    st.builds(
        lambda bodies: {
            "resources": {
                name: {
                    "iam_role_arn": f"arn:aws:iam::$account:role/{name}",
                    "resource_types": types,
                    "not_resource_types": excluded,
                    "conditions": conditions,
                }
                for name, (types, excluded, conditions) in bodies.items()
            }
        },
        st.dictionaries(
            st.sampled_from(["a_b", "a.b", "s"]),
            st.tuples(st.lists(PATTERN, max_size=3), st.lists(PATTERN, max_size=1), _CONDITIONS),
            min_size=1,
        ),
    ),
)
_PLANS = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.lists(_SELECTION, min_size=1, max_size=2).map(lambda parts: {k: v for part in parts for k, v in part.items()}),
    min_size=1,
    max_size=2,
)
RESOURCES = st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(TYPES), _TAGS), max_size=5)


EXAMPLES = max(30, settings().max_examples // 10)


def _agrees(database: Database, plans: dict[str, Any], resources: list[Any], switched_off: list[str]) -> None:
    installation = Installation(database)
    document = {
        "plans": {
            name: {
                "regions": [REGION],
                "rules": {"r": {"target_backup_vault_name": "V", "schedule_expression": "cron(0 13 ? * * *)"}},
                "selections": selections,
            }
            for name, selections in plans.items()
        }
    }
    installation.document(document)
    installation.switch_off(MANAGEMENT, *switched_off)
    expected = set()
    for account in ACCOUNTS:
        installation.account(account)
        mine = [(n, kind, tags) for n, (owner, kind, tags) in enumerate(resources) if owner == account]
        for n, kind, tags in mine:
            installation.resource(account, f"fs-{n}", tags, type_name=kind)
        values = [
            Resource(arn_of(account, f"fs-{n}", type_name=kind), ResourceClass(kind, REGION, tags))
            for n, kind, tags in mine
        ]
        derived = derive_plans(document, organization_id=ORGANIZATION, account=account, region=REGION)
        facts = Facts(account, REGION, frozenset(), opted_out_by_management=frozenset(switched_off))
        for found in assess(derived, values, facts):
            expected |= {
                (account, found.resource.arn, a.plan.name, a.rule.name, a.selection.role_arn) for a in found.applied
            }
    service.tick(database, now=NOON)
    service.tick(database, now=NOON + timedelta(hours=1))
    assert {(j.account, j.resource_arn, j.plan_name, j.rule_name, j.role_arn) for j in installation.jobs()} == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=EXAMPLES)
@given(plans=_PLANS, resources=RESOURCES, switched_off=st.lists(st.sampled_from(TYPES), unique=True))
def test_the_join_agrees_with_the_assessment(
    empty_sqlite: Any,
    tmp_path_factory: pytest.TempPathFactory,
    plans: dict[str, Any],
    resources: list[tuple[str, str, dict[str, str]]],
    switched_off: list[str],
) -> None:
    path = tmp_path_factory.mktemp("join") / "control.db"
    path.write_bytes(empty_sqlite.read_bytes())
    database = Database.open(f"sqlite:///{path}")
    _agrees(database, plans, resources, switched_off)
    database.close()


@pytest.mark.postgres
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=4)
@given(plans=_PLANS, resources=RESOURCES, switched_off=st.lists(st.sampled_from(TYPES), unique=True))
def test_the_join_agrees_with_the_assessment_on_postgresql(
    postgres_url: str,
    plans: dict[str, Any],
    resources: list[tuple[str, str, dict[str, str]]],
    switched_off: list[str],
) -> None:
    with database_on(postgres_url, template="migrated") as url:
        database = Database.open(url.render_as_string(hide_password=False))
        _agrees(database, plans, resources, switched_off)
        database.close()
