"""How many cheap calls a second one API process answers, signatures verified; prints JSON.

    python bench/api.py                                   # the wire alone, around a backend that knows one key
    python bench/api.py --url http://127.0.0.1:8420 --access-key testing --secret-key testing    # `holdfast dev`

Clients are processes that keep several connections busy. `precomputed`: each sends the same validly signed requests
again and again, so that the clients cost little and the figure is the server's. `signed`: each request is signed anew.
"""

import argparse
import hashlib
import hmac
import json
import multiprocessing
import os
import platform
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from holdfast.core.clock import SystemMachineTime
from holdfast.wire.application import Application, Credential, Settings
from holdfast.wire.call import Received
from holdfast.wire.listener import BoundedProtocol
from holdfast.wire.signature import derived_key

REGION = "eu-north-1"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True)
class Ask:
    """One cheap call, as a client sends it."""

    name: str
    service: str
    headers: dict[str, str]
    body: bytes


ASKS = [
    Ask("sts GetCallerIdentity", "sts", {"content-type": FORM}, b"Action=GetCallerIdentity&Version=2011-06-15"),
    Ask(
        "organizations DescribeOrganization",
        "organizations",
        {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": "AWSOrganizationsV20161128.DescribeOrganization",
        },
        b"{}",
    ),
]


class TinyBackend:
    """Knows one key and gives constant answers."""

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        """Return the one credential there is."""
        return Credential("testing", None) if (access_key_id, session_token) == ("testing", None) else None

    def invoke(self, call: Received, _principal: Any, _parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the one answer there is."""
        if call.operation == "GetCallerIdentity":
            return {"Account": "123456789012", "UserId": "AIDA", "Arn": "arn:aws:iam::123456789012:user/bench"}
        return {"Organization": {"Id": "o-exampleorg", "FeatureSet": "ALL", "MasterAccountId": "123456789012"}}


def serve(port: int, threads: int) -> None:
    application = Application(TinyBackend(), machine_time=SystemMachineTime(), settings=Settings(threads=threads))
    config = uvicorn.Config(
        application,
        host="127.0.0.1",
        port=port,
        http=BoundedProtocol,
        log_level="warning",
        access_log=False,
        lifespan="off",
    )
    uvicorn.Server(config).run()


def signed_request(ask: Ask, host: str, access_key: str, secret: str) -> bytes:
    """Return the whole request as bytes, signed now."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {**ask.headers, "host": host, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(ask.body).hexdigest()}"
    scope = f"{stamp[:8]}/{REGION}/{ask.service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = derived_key(secret, stamp[:8], REGION, ask.service)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    headers |= {"authorization": authorization, "content-length": str(len(ask.body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST / HTTP/1.1\r\n{head}\r\n".encode() + ask.body


def read_reply(connection: socket.socket) -> int:
    """Read one reply whole and return its status."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    return int(head[9:12])


def client(address: tuple[str, int], make: Callable[[], bytes], connections: int, seconds: float, results: Any) -> None:
    """Keep connections busy for so many seconds; put the count and the times of single calls into `results`."""
    opened = [socket.create_connection(address, timeout=10) for _ in range(connections)]
    for each in opened:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    count, times, refused = 0, [], 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = []
        for each in opened:
            request = make()
            begun.append(time.perf_counter())
            each.sendall(request)
        for each, since in zip(opened, begun, strict=True):
            refused += read_reply(each) != 200
            times.append(time.perf_counter() - since)
        count += len(opened)
    for each in opened:
        each.close()
    times.sort()
    results.put((count, refused, statistics.median(times), times[int(len(times) * 0.99)]))


class Precomputed:
    """Gives one signed request again and again."""

    def __init__(self, *about: Any) -> None:
        self.request = signed_request(*about)

    def __call__(self) -> bytes:
        """Return the request."""
        return self.request


class Signed:
    """Signs each request anew."""

    def __init__(self, *about: Any) -> None:
        self.about = about

    def __call__(self) -> bytes:
        """Return the request, signed now."""
        return signed_request(*self.about)


def measure(options: argparse.Namespace, url: str, ask: Ask, kind: type) -> dict[str, Any]:
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    make = kind(ask, parts.netloc, options.access_key, options.secret_key)
    results: Any = multiprocessing.Queue()
    arguments = (address, make, options.connections, options.seconds, results)
    clients = [multiprocessing.Process(target=client, args=arguments) for _ in range(options.clients)]
    began = time.perf_counter()
    for each in clients:
        each.start()
    got = [results.get(timeout=options.seconds + 30) for _ in clients]
    took = time.perf_counter() - began
    for each in clients:
        each.join()
    refused = sum(each[1] for each in got)
    if refused:
        sys.exit(f"{refused} calls of {ask.name} were refused; is the key right, and is there an organization?")
    return {
        "requests_per_second": round(sum(each[0] for each in got) / options.seconds),
        "median_ms": round(statistics.median(each[2] for each in got) * 1000, 3),
        "p99_ms": round(max(each[3] for each in got) * 1000, 3),
        "wall_seconds": round(took, 2),
    }


@contextmanager
def own_server(threads: int) -> Iterator[str]:
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        port = finder.getsockname()[1]
    process = multiprocessing.Process(target=serve, args=(port, threads))
    process.start()
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def run(options: argparse.Namespace, url: str) -> dict[str, Any]:
    return {
        ask.name: {
            "precomputed": measure(options, url, ask, Precomputed),
            "signed": measure(options, url, ask, Signed),
        }
        for ask in ASKS
        if ask.service in options.services
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cheap calls per second of one API process, as JSON.")
    parser.add_argument("--url", help="a running server; without it the wire alone is measured")
    parser.add_argument("--access-key", default="testing")
    parser.add_argument("--secret-key", default="testing")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each of the four measurements takes")
    parser.add_argument("--clients", type=int, default=1, help="client processes")
    parser.add_argument("--connections", type=int, default=8, help="connections of each client")
    parser.add_argument("--threads", type=int, default=Settings().threads, help="threads of the server measured alone")
    parser.add_argument("--services", nargs="+", default=["sts", "organizations"])
    options = parser.parse_args()
    if options.url:
        calls = run(options, options.url)
    else:
        with own_server(options.threads) as url:
            calls = run(options, url)
    about = {"cores": os.cpu_count(), "python": platform.python_version(), "server": options.url or "the wire alone"}
    kept = {"clients": options.clients, "connections_each": options.connections}
    print(json.dumps({**about, **kept, "calls": calls}, indent=2))


if __name__ == "__main__":
    main()
