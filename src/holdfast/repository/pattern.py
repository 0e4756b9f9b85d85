"""Patterns that choose paths of a snapshot: `/etc/*.conf`, `*.txt` at any depth, `/srv/**/log`.

Each part between slashes is matched by itself, with `*`, `?` and `[...]`; `**` stands for any number of parts. A
pattern that begins with a slash starts at the root, any other may start in every directory. What lies below a
directory that matches is taken with it.
"""

import fnmatch
import re
from dataclasses import dataclass

from holdfast.core.errors import InvalidInputError

_ANY_DEPTH = None


class InvalidPatternError(InvalidInputError):
    """A pattern can match nothing."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern, compiled; None among its parts is `**`."""

    text: str
    parts: tuple[re.Pattern[bytes] | None, ...]

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Return the pattern that `text` spells.

        Raises:
            InvalidPatternError: it is empty, or has an empty, `.` or `..` part.
        """
        anchored = text.startswith("/")
        names = text.strip("/").split("/")
        if any(name in ("", ".", "..") for name in names):
            raise InvalidPatternError(f"{text!r} cannot match any path")
        parts = [
            _ANY_DEPTH if name == "**" else re.compile(fnmatch.translate(name).encode("utf-8", "surrogateescape"))
            for name in names
        ]
        return cls(text, tuple(parts if anchored else [_ANY_DEPTH, *parts]))

    def takes(self, path: tuple[bytes, ...]) -> bool:
        """Whether `path` or one of the directories above it matches."""
        return any(end == len(self.parts) for end in self._reached(path, whole=False))

    def may_take_below(self, path: tuple[bytes, ...]) -> bool:
        """Whether something below the directory `path` might match."""
        return bool(self._reached(path, whole=True)) or self.takes(path)

    def _reached(self, path: tuple[bytes, ...], *, whole: bool) -> set[int]:
        """Return how many parts can be used up: by all of `path`, or at the end or on the way."""
        now = self._skipping({0})
        seen = set(now)
        for name in path:
            step = {
                at if part is _ANY_DEPTH else at + 1
                for at in now
                if at < len(self.parts) and ((part := self.parts[at]) is _ANY_DEPTH or part.match(name))
            }
            now = self._skipping(step)
            seen |= now
        return now if whole else seen

    def _skipping(self, reached: set[int]) -> set[int]:
        """Add the positions behind each `**`, which may stand for nothing."""
        out = set(reached)
        for at in sorted(reached):
            while at < len(self.parts) and self.parts[at] is _ANY_DEPTH:
                at += 1  # noqa: PLW2901 - walks on from where it was reached
                out.add(at)
        return out


@dataclass(frozen=True, slots=True)
class Choice:
    """Several patterns together; none at all takes everything."""

    patterns: tuple[Pattern, ...] = ()

    @classmethod
    def parse(cls, *texts: str) -> "Choice":
        """Return the choice that these patterns make."""
        return cls(tuple(Pattern.parse(text) for text in texts))

    def takes(self, path: tuple[bytes, ...]) -> bool:
        """Whether `path` is taken."""
        return not self.patterns or any(pattern.takes(path) for pattern in self.patterns)

    def may_take_below(self, path: tuple[bytes, ...]) -> bool:
        """Whether something below `path` might be taken."""
        return not self.patterns or any(pattern.may_take_below(path) for pattern in self.patterns)
