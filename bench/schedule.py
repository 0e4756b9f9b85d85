"""How fast due runs become job rows with a million resources registered; prints JSON, and a table on standard error.

    python bench/schedule.py [--database sqlite|postgresql] [--resources 1000000] [--accounts 1000]
                             [--directory DIR] [--stage fill|measure|all] [--keep]

Fills a new control database with an organization and its resources, of six types and 200 classes, over its accounts.
One backup policy has three plans, each due at an hour of its own: `every` takes every resource, `gold` one in ten by a
tag and a condition, `rare` one in a thousand. Each is made due on a database that is otherwise as in production, with
every index, trigger, sync and entry of the audit trail; `rows_per_second` counts the jobs that were made, and
`slowest_transaction_ms` says how long others had to wait at the most. With `--stage` filling and measuring can be done
one after the other on a directory that is kept.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from jobs import opened
from sqlalchemy import text

from holdfast.assessment.store import intern_class
from holdfast.database.connection import Database
from holdfast.database.schema import upgrade
from holdfast.database.values import FOREVER, stamp, to_json
from holdfast.plan.model.resource_type import RESOURCE_TYPES
from holdfast.schedule.service import tick

ORGANIZATION = "o-examplebench"
REGION = "eu-north-1"
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
TEAMS = 100
PLANS = {"every": 1, "gold": 2, "rare": 3}
"""Of each plan, the hour at which it is due."""

_ROLE = "arn:aws:iam::$account:role/Backups"
_NOT_A_TEST = {"string_not_equals": {"c": {"condition_key": "aws:ResourceTag/stage", "condition_value": "test"}}}
_SELECTIONS = {
    "every": {"resources": {"all": {"iam_role_arn": _ROLE, "resource_types": ["*"]}}},
    "gold": {
        "tags": {
            "gold": {"iam_role_arn": _ROLE, "tag_key": "tier", "tag_value": ["gold"], "conditions": _NOT_A_TEST},
        }
    },
    "rare": {"tags": {"rare": {"iam_role_arn": _ROLE, "tag_key": "rare", "tag_value": ["yes"]}}},
}
_DOCUMENT = {
    "plans": {
        name: {
            "regions": [REGION],
            "rules": {
                "daily": {
                    "target_backup_vault_name": "Central",
                    "schedule_expression": f"cron(0 {hour} ? * * *)",
                    "lifecycle": {"delete_after_days": "35"},
                }
            },
            "selections": _SELECTIONS[name],
        }
        for name, hour in PLANS.items()
    }
}

# Everything about resource number n follows from n.
_RESOURCES = f"""
    INSERT INTO resource (account, region, arn, type, name, source_url, location, site, class_id, version, created_at,
                          updated_at)
    SELECT account, '{REGION}', 'arn:aws:elasticfilesystem:{REGION}:' || account || ':file-system/fs-' || n, k.type,
           'fs-' || n, 'file:///srv/' || n, 'file:///srv/' || n, 'local', k.class_id, 1, {stamp(FIRST)}, {stamp(FIRST)}
      FROM (SELECT n, CAST(200000000000 + n % {{accounts}} AS TEXT) AS account, n / {{accounts}} % {{classes}} AS place,
                   n % 1000 AS of_thousand
              FROM ({{numbers}}) AS counted) AS numbered
      JOIN bench_class k ON k.place = CASE WHEN of_thousand = 7 THEN -1 ELSE numbered.place END"""
_INTERVALS = f"""
    INSERT INTO resource_interval (resource_id, class_id, starts_at, ends_at)
    SELECT id, class_id, {stamp(FIRST)}, {FOREVER} FROM resource"""


class Bench:
    """One database with its organization and resources."""

    def __init__(self, database: Database, *, resources: int, accounts: int) -> None:
        self.database = database
        self.resources = resources
        self.accounts = accounts

    def fill(self) -> dict[str, Any]:
        """Make the organization, its policy and all resources; return how long it took."""
        started = time.perf_counter()
        upgrade(self.database)
        self._lay_organization()
        classes = self._lay_classes()
        with self.database.transaction() as tx:
            numbers = (
                f"WITH RECURSIVE up(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM up WHERE n + 1 < {self.resources})"
                " SELECT n FROM up"
                if self.database.is_sqlite
                else f"SELECT n FROM generate_series(CAST(0 AS BIGINT), {self.resources - 1}) AS n"
            )
            for statement in (_RESOURCES.format(accounts=self.accounts, classes=classes, numbers=numbers), _INTERVALS):
                tx.exec_driver_sql(statement, execution_options={"no_parameters": True})
        if not self.database.is_sqlite:
            with self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM (ANALYZE)")
        tick(self.database, now=FIRST)
        return {"seconds": round(time.perf_counter() - started, 1)}

    def _lay_organization(self) -> None:
        accounts = [str(200000000000 + number) for number in range(self.accounts)]
        common = {"at": stamp(FIRST), "forever": FOREVER, "organization": ORGANIZATION}
        with self.database.transaction() as tx:
            for statement in (
                (
                    "INSERT INTO organization (id, management_account, root_id, feature_set, created_at)"
                    " VALUES (:organization, '100000000000', 'r-bench', 'ALL', :at)"
                ),
                (
                    "INSERT INTO service_access (organization_id, principal, enabled_at)"
                    " VALUES (:organization, 'backup.amazonaws.com', :at)"
                ),
                "INSERT INTO document (id, type, content, created_at) VALUES ('d', 'BACKUP_POLICY', :content, :at)",
                (
                    "INSERT INTO chain (id, organization_id, type, attachments)"
                    " VALUES ('c', :organization, 'BACKUP_POLICY', '[]')"
                ),
                (
                    "INSERT INTO chain_document (chain_id, document_id, starts_at, ends_at)"
                    " VALUES ('c', 'd', :at, :forever)"
                ),
            ):
                tx.execute(text(statement), {**common, "content": to_json(_DOCUMENT)})
            for statement in (
                (
                    "INSERT INTO placement (account_id, organization_id, unit_id, path, starts_at, ends_at)"
                    f" VALUES (:account, :organization, 'r-bench', '{ORGANIZATION}/r-bench/', :at, :forever)"
                ),
                (
                    "INSERT INTO account_chain (account_id, type, chain_id, starts_at, ends_at)"
                    " VALUES (:account, 'BACKUP_POLICY', 'c', :at, :forever)"
                ),
            ):
                tx.execute(text(statement), [{**common, "account": account} for account in accounts])

    def _lay_classes(self) -> int:
        """Make the classes, one in ten of them gold, and the rare one; return how many there are without that."""
        tags = [
            {"team": f"team-{number % TEAMS}", "tier": "gold" if number % 10 == 0 else "silver"}
            for number in range(2 * TEAMS)
        ]
        types = list(RESOURCE_TYPES)
        kinds = [(place, types[place % len(types)], mine) for place, mine in enumerate(tags)]
        kinds.append((-1, "EFS", {"rare": "yes"}))
        with self.database.transaction() as tx:
            tx.exec_driver_sql("CREATE TABLE bench_class (place INTEGER PRIMARY KEY, class_id BIGINT, type TEXT)")
            for place, kind, mine in kinds:
                tx.execute(
                    text("INSERT INTO bench_class (place, class_id, type) VALUES (:place, :id, :type)"),
                    {"place": place, "id": intern_class(tx, kind, REGION, mine), "type": kind},
                )
        return len(tags)

    def measure(self) -> dict[str, Any]:
        """Make each plan due, once, and return how long it took to make its jobs."""
        return {name: self._run(name) for name in PLANS}

    def _run(self, plan: str) -> dict[str, Any]:
        due = FIRST.replace(hour=PLANS[plan])
        with self._transactions() as took:
            started = time.perf_counter()
            done = tick(self.database, now=due)
            seconds = time.perf_counter() - started
        return {
            "jobs": done.jobs,
            "seconds": round(seconds, 2),
            "rows_per_second": round(done.jobs / seconds),
            "slowest_transaction_ms": round(1000 * max(took)),
        }

    @contextmanager
    def _transactions(self) -> Iterator[list[float]]:
        """Give a list that every writing transaction puts its seconds into."""
        took: list[float] = []
        began: list[float] = []

        def begin(_connection: object) -> None:
            began.append(time.perf_counter())

        def end(*_: object) -> None:
            took.append(time.perf_counter() - began[-1])

        # A commit is told before it is done; when the connection is reset, it is.
        engine = self.database.engine
        sa.event.listen(engine, "begin", begin)
        sa.event.listen(engine.pool, "reset", end)
        try:
            yield took
        finally:
            sa.event.remove(engine, "begin", begin)
            sa.event.remove(engine.pool, "reset", end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--resources", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--stage", choices=["fill", "measure", "all"], default="all")
    parser.add_argument("--keep", action="store_true", help="leave the database where it is")
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    directory.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {name: getattr(arguments, name) for name in ("database", "resources", "accounts")}
    try:
        with opened(arguments.database, directory) as database:
            bench = Bench(database, resources=arguments.resources, accounts=arguments.accounts)
            if arguments.stage in {"fill", "all"}:
                report["fill"] = bench.fill()
            if arguments.stage in {"measure", "all"}:
                report["measure"] = bench.measure()
    finally:
        if not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(report, indent=2))
    for name, figures in report.get("measure", {}).items():
        print(
            f"{name:8}{figures['jobs']:>10} jobs {figures['seconds']:>9} s {figures['rows_per_second']:>8} a second"
            f"{figures['slowest_transaction_ms']:>7} ms at the most",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
