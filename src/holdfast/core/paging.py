"""Pages of long lists: the items of one, and where the next begins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Position = Any
"""The sort key of the last item shown, as a JSON value; None before the first item."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list in its order, and the position that the next page goes on after."""

    items: tuple[Item, ...]
    position: Position = None
    """None: there is no next page."""


def page_of(found: Sequence[Item], limit: int, key: Callable[[Item], Position]) -> Page[Item]:
    """Return the page that `found` makes: up to `limit` items, one more read to see whether there is a next page."""
    items = tuple(found[:limit])
    return Page(items, key(items[-1]) if len(found) > limit else None)
