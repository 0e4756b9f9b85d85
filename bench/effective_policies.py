"""How fast effective policies are computed, changed, read and foreseen; prints JSON.

    python bench/effective_policies.py [--accounts 10000] [--units 500] [--policies 50] [--database URL]

An organization five levels deep; policies of some thirty settings each, attached all over the tree, one of them at the
root. `cold_compute` puts every account on its chain from nothing; `root_edit` is UpdatePolicy of the policy at the
root until every account has its new document; `root_attach` moves every account to another chain.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.connection import Database
from holdfast.database.schema import upgrade
from holdfast.database.values import FOREVER, stamp
from holdfast.organization.service.accounts import move_account, register_account
from holdfast.organization.service.tree import create_organization
from holdfast.policy import service
from holdfast.policy.effective import effective_policy
from holdfast.policy.model.kind import BACKUP
from holdfast.policy.preview import UpdateDraft, preview

MANAGEMENT = "100000000000"
REGIONS = frozenset({"eu-north-1", "eu-west-1", "us-east-1"})
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def assign(value: Any) -> dict[str, Any]:
    return {"@@assign": value}


def a_policy(plan: str, *, days: int, rules: int = 4) -> str:
    """A complete plan with some rules; more than thirty settings in all."""
    rule = {
        "schedule_expression": assign("cron(0 5 ? * * *)"),
        "target_backup_vault_name": assign("Main"),
        "start_backup_window_minutes": assign("60"),
        "complete_backup_window_minutes": assign("600"),
        "lifecycle": {"delete_after_days": assign(str(days))},
        "copy_actions": {
            "arn:aws:backup:eu-west-1:$account:backup-vault:Far": {
                "target_backup_vault_arn": assign("arn:aws:backup:eu-west-1:$account:backup-vault:Far"),
                "lifecycle": {"delete_after_days": assign("90")},
            }
        },
    }
    selection = {
        "iam_role_arn": assign("arn:aws:iam::$account:role/Backup"),
        "tag_key": assign("Tier"),
        "tag_value": assign(["gold", "silver"]),
    }
    content = {
        "regions": {"@@append": ["eu-north-1", "eu-west-1"]},
        "rules": {f"rule{number}": rule for number in range(rules)},
        "selections": {"tags": {"tier": selection}},
    }
    return json.dumps({"plans": {plan: content}}, separators=(",", ":"))


class Bench:
    """The organization, and how long things took."""

    def __init__(self, database: Database, accounts: int, units: int, policies: int) -> None:
        self.database = database
        self.now = NOON
        self.random = random.Random(7)
        with database.transaction() as tx:
            register_account(tx, MANAGEMENT, "master", "master@example.com", now=NOON)
            self.organization = create_organization(tx, MANAGEMENT, now=NOON)
            self._lay_tree(tx, accounts, units)
            service.enable_policy_type(tx, self.organization.id, BACKUP, now=self.tick())
            self.root_policy = self._policy(tx, "root", days=35)
            made = [self._policy(tx, f"plan{number % 10}", days=7 + number) for number in range(policies - 1)]
            self._attach(tx, self.root_policy, self.organization.root_id)
            for policy in made:
                self._attach(tx, policy, self.random.choice(self.units)[0])

    def tick(self) -> datetime:
        """A second later."""
        self.now += timedelta(seconds=1)
        return self.now

    def _policy(self, tx: sa.Connection, plan: str, *, days: int) -> str:
        name = f"{plan} {days}"
        content = a_policy(plan, days=days)
        made = service.create_policy(
            tx, self.organization.id, BACKUP, name, "", content, regions=REGIONS, now=self.tick()
        )
        return made.id

    def _lay_tree(self, tx: sa.Connection, accounts: int, units: int) -> None:
        root, organization = self.organization.root_id, self.organization.id
        self.units = [(root, f"{organization}/{root}/", 0)]
        by_depth: dict[int, list[tuple[str, str, int]]] = {0: [self.units[0]]}
        for number in range(units):
            depth = min(4, number % 5) if number > 5 else number % 5
            parents = by_depth.get(depth) or by_depth[0]
            parent = self.random.choice(parents)
            unit_id = f"ou-{root[2:]}-{number:08d}"
            unit = (unit_id, f"{parent[1]}{unit_id}/", parent[2] + 1)
            self.units.append(unit)
            by_depth.setdefault(unit[2], []).append(unit)
            self._insert_unit(tx, unit, parent[0])
        rows = []
        for number in range(accounts):
            unit = self.random.choice(self.units[1:])
            rows.append({"id": f"2{number:011d}", "unit": unit[0], "path": unit[1]})
        self.accounts = [(row["id"], row["unit"]) for row in rows]
        common = {"organization": organization, "now": stamp(NOON), "forever": FOREVER}
        tx.execute(
            text("""INSERT INTO account (id, name, email, status, organization_id, joined_method, joined_at, created_at)
                    VALUES (:id, :id, :id || '@example.com', 'ACTIVE', :organization, 'CREATED', :now, :now)"""),
            [{**common, **row} for row in rows],
        )
        tx.execute(
            text("""INSERT INTO placement (account_id, organization_id, unit_id, path, starts_at, ends_at)
                    VALUES (:id, :organization, :unit, :path, :now, :forever)"""),
            [{**common, **row} for row in rows],
        )

    def _insert_unit(self, tx: sa.Connection, unit: tuple[str, str, int], parent: str) -> None:
        tx.execute(
            text("""INSERT INTO unit (id, organization_id, parent_id, name, depth, path, created_at, deleted_at)
                    VALUES (:id, :organization, :parent, :id, :depth, :path, :now, :forever)"""),
            {
                "id": unit[0],
                "organization": self.organization.id,
                "parent": parent,
                "depth": unit[2],
                "path": unit[1],
                "now": stamp(NOON),
                "forever": FOREVER,
            },
        )

    def _attach(self, tx: sa.Connection, policy: str, target: str) -> None:
        service.attach_policy(tx, self.organization.id, policy, target, now=self.tick())

    def timed(self, work: Callable[[sa.Connection], Any], *, times: int = 5, writing: bool = True) -> float:
        """Return the median of how many seconds one transaction with this work took."""
        took = []
        for _ in range(times):
            started = time.perf_counter()
            with self.database.transaction() if writing else self.database.reading() as tx:
                work(tx)
            took.append(time.perf_counter() - started)
        return round(statistics.median(took), 4)

    def forget(self) -> None:
        """Put no account on any chain."""
        with self.database.transaction() as tx:
            for table in (
                "account_chain",
                "account_document",
                "chain_evaluation",
                "chain_document",
                "chain",
                "document",
            ):
                tx.execute(text(f"DELETE FROM {table}"))

    def cold_compute(self) -> float:
        """Put every account on its chain from nothing."""
        took = []
        for _ in range(3):
            self.forget()
            took.append(
                self.timed(
                    lambda tx: service.recompute_organization(tx, self.organization.id, now=self.tick()), times=1
                )
            )
        return statistics.median(took)

    def root_edit(self) -> float:
        """Change the policy at the root."""
        days = iter(range(40, 10_000))

        def edit(tx: sa.Connection) -> None:
            content = a_policy("root", days=next(days))
            service.update_policy(
                tx, self.organization.id, self.root_policy, content=content, regions=REGIONS, now=self.tick()
            )

        return self.timed(edit)

    def root_attach(self) -> float:
        """Attach one more policy to the root."""
        with self.database.transaction() as tx:
            extra = self._policy(tx, "extra", days=10)

        def attach_and_detach(tx: sa.Connection) -> None:
            self._attach(tx, extra, self.organization.root_id)
            service.detach_policy(tx, self.organization.id, extra, self.organization.root_id, now=self.tick())

        return round(self.timed(attach_and_detach) / 2, 4)

    def account_moved(self) -> float:
        """Move one account to another unit."""
        moves = iter(self.accounts)

        def move(tx: sa.Connection) -> None:
            account, source = next(moves)
            destination = next(unit for unit, _, _ in self.units if unit != source)
            move_account(tx, self.organization, account, source, destination, now=self.tick())
            service.recompute_accounts(tx, [account], now=self.now)

        return self.timed(move, times=20)

    def describe(self) -> float:
        """Read the effective policy of one account."""
        asked = [account for account, _ in self.random.sample(self.accounts, 500)]

        def read(tx: sa.Connection) -> None:
            for account in asked:
                effective_policy(tx, account, BACKUP, organization_id=self.organization.id, now=self.now)

        return round(self.timed(read, times=3, writing=False) / len(asked), 6)

    def preview_root_edit(self) -> tuple[float, int]:
        """Foresee a change of the policy at the root; also return how many accounts it touches."""
        draft = UpdateDraft(self.root_policy, a_policy("root", days=1))
        touched: list[int] = []

        def foresee(tx: sa.Connection) -> None:
            effects = preview(tx, self.organization.id, draft, regions=REGIONS, now=self.now)
            touched.append(sum(len(effect.account_ids) for effect in effects))

        return self.timed(foresee, times=3, writing=False), touched[0]

    def rows(self) -> dict[str, int]:
        """How many rows it took."""
        with self.database.reading() as tx:
            tables = ("account_chain", "chain_document", "document")
            return {table: tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables}


@contextmanager
def opened(url: str | None) -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as directory:
        database = Database.open(url or f"sqlite:///{Path(directory) / 'control.db'}")
        upgrade(database)
        yield database
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--policies", type=int, default=50)
    parser.add_argument("--database", help="an empty database; without it, SQLite in a temporary directory")
    arguments = parser.parse_args()
    with opened(arguments.database) as database:
        bench = Bench(database, arguments.accounts, arguments.units, arguments.policies)
        cold = bench.cold_compute()
        rows = bench.rows()
        preview_seconds, touched = bench.preview_root_edit()
        figures = {
            "accounts": arguments.accounts,
            "units": arguments.units,
            "policies": arguments.policies,
            "rows": rows,
            "cold_compute_seconds": cold,
            "root_edit_seconds": bench.root_edit(),
            "root_attach_seconds": bench.root_attach(),
            "account_moved_seconds": bench.account_moved(),
            "describe_effective_policy_seconds": bench.describe(),
            "preview_root_edit_seconds": preview_seconds,
            "preview_accounts_touched": touched,
        }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
