"""Requests that Holdfast itself sends into the network: only to places that the host lets it reach.

Whoever can make Holdfast fetch a URL could look with its eyes into the network that it stands in. So an address that is
not public (loopback, link-local, private, and what stands for one of those) is refused unless the host's configuration
lists it; the name is resolved once, and the connection goes to the very address that was looked at; redirects are not
followed; and only so much is read, for so long.
"""

import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from holdfast.core.clock import MachineTime
from holdfast.core.errors import InvalidInputError, UnavailableError

_CONNECT_SECONDS: Final = 3.0
_WHOLE_SECONDS: Final = 5.0
_PIECE: Final = 16_384
_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443
_OK: Final = 200
_SUCCESS: Final = 2
_MOST_OF_A_RECEIPT: Final = 65_536
# Addresses in which others are written, so that a public-looking one may lead to a private one.
_WRAPPING: Final = tuple(
    ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class OutgoingRefusedError(InvalidInputError):
    """A URL leads to where Holdfast may not send requests."""


class UnreachableError(UnavailableError):
    """What was asked for did not come, or not as it should."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which places beyond the public ones may be reached."""

    hosts: frozenset[str] = frozenset()
    """Names or addresses, each as `host` for every port or `host:port`."""
    networks: tuple[_Network, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Reach":
        """Return the places that a configuration lists: `idp.example.internal`, `127.0.0.1:3000`, `10.0.0.0/8`.

        Raises:
            InvalidInputError: one of them is neither a host nor a network.
        """
        hosts, networks = set(), []
        for text in texts:
            if "/" not in text:
                hosts.add(text.lower())
                continue
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise InvalidInputError(f"{text!r} is no network: {error}") from error
        return cls(frozenset(hosts), tuple(networks))

    def lets(self, host: str, port: int, address: _Address) -> bool:
        """Return whether a request to this host and port may go to this address."""
        if {host, f"{host}:{port}", str(address)} & self.hosts:
            return True
        return is_public(address) or any(address in network for network in self.networks)


def is_public(address: _Address) -> bool:
    """Return whether an address is of the public network, and stands for no other one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in _WRAPPING):
            return False
    return address.is_global and not address.is_multicast


def check_url(url: str, *, plain: bool = False) -> SplitResult:
    """Return the parts of an address that may be asked: `https`, a host, perhaps a port and a path, and no more.

    With `plain`, it may be `http`.

    Raises:
        OutgoingRefusedError: it is something else.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OutgoingRefusedError(f"{url[:200]!r} is no URL: {error}") from error
    is_written_well = url.isascii() and url.isprintable() and not set(url) & set(' "<>\\^`{|}')
    schemes = {"https", "http"} if plain else {"https"}
    if parts.scheme not in schemes or not parts.hostname or not is_written_well or port == 0:
        raise OutgoingRefusedError(f"{url[:200]!r} does not begin with https:// and the name of a host")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise OutgoingRefusedError(f"{url[:200]!r} has a user, a query or a fragment, and may not")
    return parts


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Fetches documents from other servers, and sends them some."""

    machine: MachineTime
    reach: Reach = field(default_factory=Reach)
    authorities: Path | None = None
    """A file with certificates of authorities that are trusted beside the system's own."""

    def fetch(self, url: str, *, most_bytes: int) -> bytes:
        """Return what lies at an `https` address.

        Raises:
            OutgoingRefusedError: the address is none, or leads to where nothing may be sent.
            UnreachableError: nobody answers, not in time, too much, not with 200, or with a certificate that is not
                trusted.
        """
        parts = check_url(url)
        return self._ask(parts, "GET", {"Accept": "application/json"}, None, most_bytes)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a body to an address; plain `http` only where the host's configuration lists the place by name.

        Raises:
            OutgoingRefusedError: the address is none, or leads to where nothing may be sent.
            UnreachableError: nobody takes it with a status from 200 to 299, or not in time.
        """
        self._ask(check_url(url, plain=True), "POST", headers, body, _MOST_OF_A_RECEIPT)

    def _ask(
        self, parts: SplitResult, method: str, headers: Mapping[str, str], body: bytes | None, most_bytes: int
    ) -> bytes:
        url, is_plain = parts.geturl(), parts.scheme == "http"
        host, port = (parts.hostname or "").lower(), parts.port or (_HTTP_PORT if is_plain else _HTTPS_PORT)
        if is_plain and not {host, f"{host}:{port}"} & self.reach.hosts:
            raise OutgoingRefusedError(
                f"{url} is not encrypted; use https, or list {host}:{port} in [outgoing] of the host's configuration"
            )
        ends = self.machine.monotonic() + _WHOLE_SECONDS
        problem: Exception | None = None
        for address in self._addresses(host, port):
            pool = self._pool(host, port, address, is_plain=is_plain)
            try:
                return self._answer(pool, parts, method, headers, body, most_bytes, ends)
            except (NewConnectionError, ConnectTimeoutError) as error:
                problem = error  # a host with several addresses may be there at another one
            except (HTTPError, OSError) as error:
                raise UnreachableError(f"{url} does not answer: {error}") from error
            finally:
                pool.close()
        raise UnreachableError(f"{url} does not answer: {problem}") from problem

    def _pool(self, host: str, port: int, address: _Address, *, is_plain: bool) -> urllib3.HTTPConnectionPool:
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_WHOLE_SECONDS)
        if is_plain:
            return urllib3.HTTPConnectionPool(str(address), port, timeout=timeout, retries=False)
        return urllib3.HTTPSConnectionPool(
            str(address),
            port,
            timeout=timeout,
            retries=False,
            ssl_context=self._trust(),
            server_hostname=host,
            assert_hostname=host,
        )

    def _answer(
        self,
        pool: urllib3.HTTPConnectionPool,
        parts: SplitResult,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None,
        most_bytes: int,
        ends: float,
    ) -> bytes:
        url = parts.geturl()
        answer = pool.urlopen(
            method,
            parts.path or "/",
            body=body,
            headers={**headers, "Host": parts.netloc, "User-Agent": "holdfast"},
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        if answer.status != _OK and (method == "GET" or answer.status // 100 != _SUCCESS):
            raise UnreachableError(f"{url} answered {answer.status} instead of 200")
        received = bytearray()
        while piece := answer.read(_PIECE):
            received += piece
            if len(received) > most_bytes:
                raise UnreachableError(f"{url} answered with more than {most_bytes} bytes")
            if self.machine.monotonic() > ends:
                raise UnreachableError(f"{url} did not answer whole within {_WHOLE_SECONDS:g} seconds")
        return bytes(received)

    def _addresses(self, host: str, port: int) -> Sequence[_Address]:
        """Return where a host is; every address that its name has must be within reach."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"the name {host} is not known: {error}") from error
        addresses: Sequence[_Address] = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        for address in addresses:
            if not self.reach.lets(host, port, address):
                raise OutgoingRefusedError(
                    f"{host} is at {address}, which is not a public address; list it in [outgoing] of the host's "
                    "configuration if Holdfast shall send requests there"
                )
        return addresses

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.authorities is not None:
            context.load_verify_locations(cafile=self.authorities)
        return context
