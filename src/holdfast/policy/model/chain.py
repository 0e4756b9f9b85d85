"""Chains: the attachments on a path from the root down, in order. Accounts with the same chain share one document.

Levels without attachments are left out, so that accounts in different units share a chain if nothing is attached in
between.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.policy.model.merge import NOTHING, Attached, Effective, Level, Place, conclude, merge_level


@dataclass(frozen=True, slots=True)
class ChainLevel:
    """One node with the policies attached directly to it, in the order of attachment."""

    node_id: str
    policy_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """The attachments of one type on a path, from the root down."""

    organization_id: str
    policy_type: str
    levels: tuple[ChainLevel, ...]

    @property
    def id(self) -> str:
        """The chain's name: the same attachments in the same order have the same one."""
        parts = [self.organization_id, self.policy_type]
        for level in self.levels:
            parts += ["", level.node_id, *level.policy_ids]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def policy_ids(self) -> frozenset[str]:
        """Every policy that stands on the chain."""
        return frozenset(policy_id for level in self.levels for policy_id in level.policy_ids)

    def with_node(self, path: Sequence[str], policy_ids: Sequence[str]) -> "Chain":
        """Return the chain where these policies are attached to the last node of `path`, and no others.

        `path` are the ids from the root down to that node; the accounts of the chain stand below it or are it.
        """
        node_id, above = path[-1], frozenset(path[:-1])
        before = tuple(level for level in self.levels if level.node_id in above)
        after = tuple(level for level in self.levels if level.node_id not in above and level.node_id != node_id)
        here = (ChainLevel(node_id, tuple(policy_ids)),) if policy_ids else ()
        return Chain(self.organization_id, self.policy_type, (*before, *here, *after))

    def to_json(self) -> list[list[object]]:
        """Return the levels as a JSON value."""
        return [[level.node_id, list(level.policy_ids)] for level in self.levels]

    @classmethod
    def from_json(cls, organization_id: str, policy_type: str, levels: Sequence[tuple[str, Sequence[str]]]) -> "Chain":
        """Return the chain whose levels `to_json` gave."""
        return cls(organization_id, policy_type, tuple(ChainLevel(node, tuple(policies)) for node, policies in levels))


def chain_of(
    organization_id: str, policy_type: str, path: Sequence[str], attached: Mapping[str, Sequence[str]]
) -> Chain:
    """Return the chain of a path from the root down to an account; `attached` are the policies of each node."""
    levels = tuple(ChainLevel(node, tuple(attached[node])) for node in path if attached.get(node))
    return Chain(organization_id, policy_type, levels)


class Merger:
    """Computes the documents of many chains over one set of contents; what chains have in common is done once."""

    def __init__(self, contents: Mapping[str, str]) -> None:
        self._contents = contents
        self._states: dict[tuple[ChainLevel, ...], Place] = {(): NOTHING}

    def effective(self, chain: Chain) -> Effective:
        """Return what the policies on the chain make together."""
        return conclude(self._state(chain.levels), policy_type=chain.policy_type)

    def _state(self, levels: tuple[ChainLevel, ...]) -> Place:
        known = self._states.get(levels)
        if known is None:
            last = levels[-1]
            policies = tuple(Attached(policy_id, self._contents[policy_id]) for policy_id in last.policy_ids)
            known = merge_level(self._state(levels[:-1]), Level(last.node_id, policies))
            self._states[levels] = known
        return known
