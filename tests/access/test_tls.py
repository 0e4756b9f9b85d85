"""A server with a certificate: it speaks TLS and nothing else, and clients that know its authority trust it."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import SSLError
from tests.access.builders import allow, document
from tests.access.issuer import authority_and_certificate
from tests.running import REGION, Running, configured, started


@dataclass(frozen=True)
class Secured:
    """A server that speaks TLS, and the authority of its certificate."""

    url: str
    authority: Path

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", int(self.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    top = tmp_path_factory.mktemp("tls")
    authority, certificate, key = authority_and_certificate(top)
    data = top / "data"
    configured(data, '[server]\ncertificate = "server.pem"\nprivate_key = "server.key"\n')
    (data / "server.pem").write_text(certificate)
    (data / "server.key").write_text(key)
    running: Running
    with started("dev", data) as running:
        assert running.url.startswith("https://")
        yield Secured(running.url.replace("127.0.0.1", "localhost"), authority)


def client(
    secured: Secured,
    service: str,
    key: str = "testing",
    secret: str = "testing",  # noqa: S107 - of every development server
    *,
    verify: str | bool,
) -> Any:
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=secured.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        verify=verify,
    )


def identity(secured: Secured, verify: str | bool) -> str:
    return str(client(secured, "sts", verify=verify).get_caller_identity()["Arn"])


def test_a_client_that_knows_the_authority_is_answered(secured: Secured) -> None:
    assert identity(secured, str(secured.authority)).endswith(":root")


def test_a_client_that_does_not_know_it_sends_nothing(secured: Secured) -> None:
    with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        identity(secured, verify=True)


def test_a_request_in_clear_is_not_answered(secured: Secured) -> None:
    connection = http.client.HTTPConnection(*secured.address, timeout=20)
    connection.request("GET", "/_holdfast/health")
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions_that_are_broken_are_not_spoken(secured: Secured, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=secured.authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(secured.address, timeout=20) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_policy_can_ask_for_an_encrypted_connection(secured: Secured) -> None:
    iam = client(secured, "iam", verify=str(secured.authority))
    iam.create_user(UserName="careful")
    in_clear = {"Bool": {"aws:SecureTransport": "false"}}
    statements = [allow("*"), {**allow("*"), "Effect": "Deny", "Condition": in_clear}]
    iam.put_user_policy(UserName="careful", PolicyName="own", PolicyDocument=document(*statements))
    made = iam.create_access_key(UserName="careful")["AccessKey"]
    keys = made["AccessKeyId"], made["SecretAccessKey"]
    client(secured, "backup", *keys, verify=str(secured.authority)).list_backup_vaults()
