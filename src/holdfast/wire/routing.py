"""Which operation of a rest-json service a raw path, a method and a query string mean.

Paths are split before they are decoded, because labels hold encoded slashes (`orgs%2F...`, ARNs). A trailing slash
never matters, a literal part wins over a label, and a bare name in the query (`?delete`) tells operations apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from holdfast.wire.message import decoded
from holdfast.wire.model import Operation


@dataclass(frozen=True, slots=True)
class Route:
    """The operation found, and the decoded labels of its path by their names."""

    operation: Operation
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Leaf:
    operation: Operation
    labels: tuple[str, ...]
    query: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    label: "_Node | None" = None
    leaves: dict[str, list[_Leaf]] = field(default_factory=dict)
    """By HTTP method, those that ask for more of the query first."""


class Router:
    """The paths of one service."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._root = _Node()
        for operation in operations:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        path, _, query = operation.uri.partition("?")
        node, labels = self._root, []
        for part in _parts(path):
            if not part.startswith("{"):
                node = node.literals.setdefault(part, _Node())
                continue
            if part.endswith("+}"):
                raise ValueError(f"{operation.name} has a label over several parts, which no service here needs")
            labels.append(part[1:-1])
            node.label = node.label or _Node()
            node = node.label
        wanted = tuple((name, value) for name, _, value in (each.partition("=") for each in query.split("&")) if name)
        leaves = node.leaves.setdefault(operation.method, [])
        leaves.append(_Leaf(operation, tuple(labels), wanted))
        leaves.sort(key=lambda leaf: -len(leaf.query))

    def find(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:
        """Return the operation that a raw path means, None where there is none.

        Raises:
            ValueError: a part of the path does not decode to UTF-8.
        """
        parts = [decoded(part) for part in _parts(path)]
        return self._search(self._root, parts, 0, [], method, query)

    def _search(
        self, node: _Node, parts: list[str], at: int, labels: list[str], method: str, query: Mapping[str, str]
    ) -> Route | None:
        if at == len(parts):
            for leaf in node.leaves.get(method, ()):
                if all(name in query and value in {"", query[name]} for name, value in leaf.query):
                    return Route(leaf.operation, dict(zip(leaf.labels, labels, strict=True)))
            return None
        part = parts[at]
        literal = node.literals.get(part)
        found = self._search(literal, parts, at + 1, labels, method, query) if literal else None
        if found is None and node.label is not None:
            return self._search(node.label, parts, at + 1, [*labels, part], method, query)
        return found


def _parts(path: str) -> list[str]:
    parts = path.removeprefix("/").split("/")
    if parts[-1] == "":
        parts.pop()
    return parts
