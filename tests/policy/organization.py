"""A small organization to attach policies in: root, Prod (with Web and Data below it), Dev, and accounts."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from tests.policy.builders import REGIONS, a_policy

from holdfast.organization.model.tree import Organization
from holdfast.organization.service.accounts import create_account, move_account, register_account
from holdfast.organization.service.tree import create_organization, create_unit
from holdfast.policy import service
from holdfast.policy.effective import PolicyInForce, effective_policy
from holdfast.policy.model.kind import BACKUP
from holdfast.policy.store import Policy

MANAGEMENT = "123456789012"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class Tree:
    """An organization, and short ways to change its policies; every change happens a minute after the last one."""

    tx: sa.Connection
    organization: Organization
    now: datetime = NOON
    units: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    made: int = 0

    @property
    def id(self) -> str:
        return self.organization.id

    @property
    def root(self) -> str:
        return self.organization.root_id

    def tick(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now

    def unit(self, name: str, under: str | None = None) -> str:
        parent = self.units[under] if under else self.root
        self.units[name] = create_unit(self.tx, self.organization, parent, name, now=self.now).id
        service.nodes_added(self.tx, self.id, [self.units[name]], now=self.now)
        return self.units[name]

    def account(self, name: str, unit: str | None = None) -> str:
        request = create_account(self.tx, self.organization, name, f"{name}@example.com", now=self.now)
        assert request.account_id is not None
        self.accounts[name] = request.account_id
        if unit:
            move_account(self.tx, self.organization, request.account_id, self.root, self.units[unit], now=self.now)
        service.nodes_added(self.tx, self.id, [request.account_id], now=self.now)
        service.recompute_accounts(self.tx, [request.account_id], now=self.now)
        return request.account_id

    def move(self, account: str, source: str, destination: str) -> None:
        now = self.tick()
        move_account(self.tx, self.organization, account, source, destination, now=now)
        service.recompute_accounts(self.tx, [account], now=now)

    def policy(self, content: dict[str, Any] | None = None, *, name: str = "", policy_type: str = BACKUP) -> Policy:
        self.made += 1
        text = json.dumps(a_policy() if content is None else content)
        return service.create_policy(
            self.tx, self.id, policy_type, name or f"policy {self.made}", "", text, regions=REGIONS, now=self.tick()
        )

    def update(self, policy: Policy, content: dict[str, Any]) -> Policy:
        text = json.dumps(content)
        return service.update_policy(self.tx, self.id, policy.id, content=text, regions=REGIONS, now=self.tick())

    def attach(self, policy: Policy, target: str) -> None:
        service.attach_policy(self.tx, self.id, policy.id, target, now=self.tick())

    def detach(self, policy: Policy, target: str) -> None:
        service.detach_policy(self.tx, self.id, policy.id, target, now=self.tick())

    def enable(self, policy_type: str = BACKUP) -> None:
        service.enable_policy_type(self.tx, self.id, policy_type, now=self.tick())

    def disable(self, policy_type: str = BACKUP) -> None:
        service.disable_policy_type(self.tx, self.id, policy_type, now=self.tick())

    def in_force(self, account: str, at: datetime | None = None, policy_type: str = BACKUP) -> PolicyInForce:
        return effective_policy(self.tx, account, policy_type, organization_id=self.id, now=self.now, at=at)

    def document(self, account: str, at: datetime | None = None, policy_type: str = BACKUP) -> Any:
        return json.loads(self.in_force(account, at, policy_type).content)


def a_tree(tx: sa.Connection) -> Tree:
    register_account(tx, MANAGEMENT, "master", "master@example.com", now=NOON)
    tree = Tree(tx, create_organization(tx, MANAGEMENT, now=NOON))
    service.organization_created(tx, tree.id, now=NOON)
    tree.unit("Prod")
    tree.unit("Web", "Prod")
    tree.unit("Data", "Prod")
    tree.unit("Dev")
    for name, unit in (("web1", "Web"), ("web2", "Web"), ("data", "Data"), ("dev", "Dev"), ("loose", None)):
        tree.account(name, unit)
    return tree
