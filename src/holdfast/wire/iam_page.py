"""Pages of the `iam` API: markers in and out, and whether there is more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from holdfast.wire.call import Call

_T = TypeVar("_T")
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, as it was asked for."""

    call: Call
    filters: Mapping[str, Any]
    after: str
    """The name of the last item of the page before."""
    size: int

    @property
    def path(self) -> str:
        """The path that items must lie below."""
        return str(self.filters.get("path", "/"))

    def answer(
        self, member: str, found: Sequence[_T], name: Callable[[_T], str], to_wire: Callable[[_T], Any]
    ) -> dict[str, Any]:
        """Return the answer; `found` has one item more than the page when there is another page."""
        shown = found[: self.size]
        more = len(found) > self.size
        marker = self.call.page_token(self.filters, name(shown[-1])) if more else None
        return {member: [to_wire(each) for each in shown], "IsTruncated": more, "Marker": marker}

    def cut(self, items: Sequence[_T], name: Callable[[_T], str]) -> list[_T]:
        """Return what of a whole sorted list belongs on this page, and one more."""
        return [each for each in items if name(each) > self.after][: self.size + 1]


def page_of(call: Call, shape: Mapping[str, Any], filters: Mapping[str, Any]) -> Page:
    """Return the page that a request asks for.

    Raises:
        InvalidPageTokenError: its marker was not given out for this list.
    """
    after = call.page_position(filters, shape.get("Marker"))
    return Page(call, filters, "" if after is None else str(after), shape.get("MaxItems", _PAGE))
