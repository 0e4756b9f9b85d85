"""Where a source lies, in one canonical form, so that two spellings of one place are the same place.

Grants, ownership and Holdfast's own directories are all compared as locations. Nothing here touches the world: a path
that looks right may still lead through a link elsewhere, which `confined.py` refuses when the place is opened.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from holdfast.source.protocol import OptionRefusedError


class Scheme(StrEnum):
    """The kinds of sources that this release reads."""

    FILE = "file"
    POSTGRESQL = "postgresql"


_ALIASES: Final = {"postgres": Scheme.POSTGRESQL}
_DEFAULT_PORT: Final = {Scheme.POSTGRESQL: 5432}
_URL_OPTIONS: Final[Mapping[Scheme, frozenset[str]]] = {
    Scheme.FILE: frozenset({"one-filesystem"}),
    Scheme.POSTGRESQL: frozenset({"sslmode", "role-passwords", "large-objects", "row-counts", "lock-wait"}),
}

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LOOKS_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SAFE = "!$&'()*+,;=:@~-._"
_MAX_URL = 4096
_MAX_HOST = 253


class InvalidUrlError(OptionRefusedError):
    """A text that should name a source does not, or names it in a way that could be read as two things."""


@dataclass(frozen=True, slots=True)
class Location:
    """One place: a path on a site's disks, or a database on a server; or all below it."""

    scheme: Scheme
    host: str
    """Empty for files; else a name in lower case, an address, or the path of a socket's directory."""
    port: int | None
    path: tuple[bytes, ...]
    """The parts of the path; none is the root of everything at that host."""
    options: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What a URL says about how to read the place; no part of which place it is."""

    @property
    def key(self) -> str:
        """The canonical URL without options: equal for equal places, and a prefix of what lies below."""
        return f"{self.scheme}://{self._authority}/{'/'.join(_quote(part) for part in self.path)}"

    @property
    def url(self) -> str:
        """The canonical URL with its options."""
        query = "&".join(f"{name}={self.options[name]}" for name in sorted(self.options))
        return f"{self.key}?{query}" if query else self.key

    @property
    def below(self) -> str:
        """What the keys of all places strictly below this one begin with."""
        return self.key if self.key.endswith("/") else f"{self.key}/"

    @property
    def file_path(self) -> bytes:
        """The absolute path, for files."""
        return b"/" + b"/".join(self.path)

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine itself, without a network in between."""
        if self.host == "localhost" or self.host.startswith("/"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def _authority(self) -> str:
        if self.scheme is Scheme.FILE:
            return ""
        host = self.host
        if host.startswith("/"):
            host = quote_from_bytes(host.encode(), safe="")
        elif ":" in host:
            host = f"[{host}]"
        return f"{host}:{self.port}"

    def contains(self, other: "Location") -> bool:
        """Return whether `other` is this place or lies below it, by whole parts of the path."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port) and (
            other.path[: len(self.path)] == self.path
        )

    def ancestors(self) -> tuple["Location", ...]:
        """Return this place and every one above it."""
        return tuple(
            Location(self.scheme, self.host, self.port, self.path[:length]) for length in range(len(self.path) + 1)
        )


def overlaps(one: Location, other: Location) -> bool:
    """Return whether one of the two places is or contains the other."""
    return one.contains(other) or other.contains(one)


def location(url: str) -> Location:
    """Return the place that `url` names: `file:///srv/www`, `file:/srv/www`, `postgresql://db.internal:5432/shop`.

    Raises:
        InvalidUrlError: it names none, or is written in a way that could be read as another.
    """
    if len(url) > _MAX_URL:
        raise InvalidUrlError(f"a source URL has at most {_MAX_URL} characters")
    if not url.isprintable() or url != url.strip() or "\\" in url.partition("://")[2].partition("/")[0]:
        raise InvalidUrlError(f"{url!r} holds characters that a URL writes as escapes (%20 for a space)")
    # RFC 8089 has both spellings; the AWS CLI takes the one with three slashes for the name of a file to read.
    match = _URL.fullmatch(re.sub(r"^(file):/(?!/)", r"\1:///", url, flags=re.IGNORECASE))
    if match is None:
        raise InvalidUrlError(
            f"{url!r} is not the URL of a source, such as file:///srv/www or postgresql://db.internal/shop; "
            "write # and ? in names as %23 and %3F"
        )
    name = match["scheme"].lower()
    scheme = _ALIASES.get(name, name)
    if scheme not in set(Scheme):
        known = ", ".join(sorted(Scheme))
        raise InvalidUrlError(f"{name} sources are not read by this release; it knows {known}")
    scheme = Scheme(scheme)
    if _BAD_ESCAPE.search(url):
        raise InvalidUrlError(f"{url!r} holds a % that begins no escape; write % itself as %25")
    options = _options(scheme, (match["query"] or "")[1:])
    host, port = _host(scheme, match["authority"], url)
    return Location(scheme, host, port, _path(scheme, match["path"] or "/", url), options)


def file_location(path: str | bytes) -> Location:
    """Return the place of an absolute path.

    Raises:
        InvalidUrlError: it is not absolute, or has a `..` in it.
    """
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    if not raw.startswith(b"/"):
        raise InvalidUrlError(f"{path!r} is not an absolute path")
    parts = tuple(part for part in raw.split(b"/") if part)
    _refuse_bad_parts(parts, repr(path))
    return Location(Scheme.FILE, "", None, parts)


def server_location(scheme: str, host: str, port: int | None) -> Location:
    """Return the place of a server, of which all its databases are parts; without a port it is the usual one.

    Raises:
        InvalidUrlError: the three name no server.
    """
    if scheme.lower() == Scheme.FILE:
        raise InvalidUrlError("files are read without a secret")
    if "/" in host:
        host = quote_from_bytes(host.encode(), safe="")
    elif ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return location(f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}")


def place(path_or_url: str) -> Location:
    """Return the place of an absolute path or of a URL, whichever `path_or_url` is.

    Raises:
        InvalidUrlError: it is neither.
    """
    return file_location(path_or_url) if path_or_url.startswith("/") else location(path_or_url)


def _path(scheme: Scheme, raw: str, url: str) -> tuple[bytes, ...]:
    parts = tuple(unquote_to_bytes(part) for part in raw.split("/") if part)
    if scheme is Scheme.FILE:
        if any(b"/" in part for part in parts):
            raise InvalidUrlError(f"{url!r} hides a / in an escape; write it as /")
        _refuse_bad_parts(parts, repr(url))
        return parts
    if len(parts) > 1:
        raise InvalidUrlError(f"{url!r} names more than one database; write a / in a database's name as %2F")
    for part in parts:
        try:
            part.decode()
        except UnicodeDecodeError as error:
            raise InvalidUrlError(f"the database's name in {url!r} is not UTF-8") from error
        if b"\0" in part:
            raise InvalidUrlError(f"{url!r} holds a zero byte, which no database's name does")
    return parts


def _refuse_bad_parts(parts: tuple[bytes, ...], shown: str) -> None:
    if any(b"\0" in part for part in parts):
        raise InvalidUrlError(f"{shown} holds a zero byte, which no path does")
    if any(part in (b".", b"..") for part in parts):
        raise InvalidUrlError(f"{shown} goes through . or ..; write the path that is meant")


def _host(scheme: Scheme, authority: str, url: str) -> tuple[str, int | None]:
    if scheme is Scheme.FILE:
        if authority.lower() not in ("", "localhost"):
            raise InvalidUrlError(
                f"{url!r} names the host {authority!r}; write file:///PATH and give the site that reads it"
            )
        return "", None
    if "@" in authority:
        raise InvalidUrlError("a source URL holds no user name or password; put them into a secret and name that")
    if authority.startswith("["):
        text, bracket, rest = authority[1:].partition("]")
        try:
            host = _address(ipaddress.IPv6Address(text))
        except ValueError as error:
            raise InvalidUrlError(f"{authority!r} holds no IPv6 address") from error
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidUrlError(f"{authority!r} is not [ADDRESS] or [ADDRESS]:PORT")
        port = rest[1:]
    else:
        text, _, port = authority.partition(":")
        host = _socket_directory(text, url) if "%" in text else _host_name(text, url)
    if not port:
        return host, _DEFAULT_PORT[scheme]
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):  # noqa: PLR2004 - ports
        raise InvalidUrlError(f"{port!r} is not a port; give a number from 1 to 65535")
    return host, int(port)


def _socket_directory(text: str, url: str) -> str:
    """A host that is the escaped path of a directory with the server's socket, as libpq writes it."""
    path = unquote_to_bytes(text)
    if not path.startswith(b"/"):
        raise InvalidUrlError(f"the host in {url!r} has escapes; only a socket's directory does (%2Frun%2Fpostgresql)")
    found = file_location(path).file_path
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise InvalidUrlError(f"the socket's directory in {url!r} is not UTF-8") from error


def _host_name(text: str, url: str) -> str:
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if not name or len(name) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidUrlError(f"{text!r} in {url!r} is not the name or address of one host")
    if _LOOKS_NUMERIC.fullmatch(labels[-1]):
        # Resolvers also read 127.1 and 0x7f000001 as addresses; one address must have one spelling here.
        try:
            return _address(ipaddress.IPv4Address(name))
        except ValueError as error:
            raise InvalidUrlError(f"{text!r} is not an IPv4 address; write it as four decimal numbers") from error
    return "localhost" if name in ("localhost", "localhost.localdomain") else name


def _address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    # Three spellings of the same server, which must not become three owners of its databases.
    return "localhost" if str(address) in ("127.0.0.1", "::1") else str(address)


def _options(scheme: Scheme, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in _URL_OPTIONS[scheme]:
            known = ", ".join(sorted(_URL_OPTIONS[scheme])) or "none"
            raise InvalidUrlError(f"{name!r} is no option of a {scheme} URL; known options: {known}")
        if name in options or not re.fullmatch(r"[a-z0-9-]+", value):
            raise InvalidUrlError(f"the option {name!r} is given twice, or its value is not a plain word")
        options[name] = value
    return options


def _quote(part: bytes) -> str:
    return quote_from_bytes(part, safe=_SAFE)
