"""The configuration file: where requests may be sent is what the host says, and nothing else."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from holdfast.core.settings import Mode
from holdfast.server.configuration import ConfigurationError, load_configuration
from holdfast.server.data_directory import DataDirectory


def load(path: Path, text: str) -> DataDirectory:
    directory = DataDirectory(path / "data")
    directory.create(Mode.SERVE)
    directory.configuration.write_text(text)
    return directory


def test_where_requests_may_be_sent_is_listed_by_the_host(tmp_path: Path) -> None:
    text = '[outgoing]\nallow = ["idp.example.internal:8443", "10.1.0.0/16"]\nauthorities = "ca.pem"\n'
    settings = load_configuration(load(tmp_path, text), Mode.SERVE).settings
    assert settings.authorities == tmp_path / "data" / "ca.pem"
    lets = settings.outgoing.lets
    assert lets("idp.example.internal", 8443, ip_address("192.168.0.9"))
    assert lets("other.example", 443, ip_address("10.1.2.3"))
    assert lets("other.example", 443, ip_address("93.184.215.14"))
    for host, port, address in (
        ("idp.example.internal", 443, "192.168.0.9"),
        ("other.example", 443, "10.2.0.1"),
        ("other.example", 443, "127.0.0.1"),
    ):
        assert not lets(host, port, ip_address(address))


@pytest.mark.parametrize("said", ['allow = "10.0.0.0/8"', 'allow = ["10.0.0.1/8"]', "allow = [7]", "allowed = []"])
def test_a_mistake_about_outgoing_requests_is_named(tmp_path: Path, said: str) -> None:
    with pytest.raises(ConfigurationError, match="outgoing"):
        load_configuration(load(tmp_path, f"[outgoing]\n{said}\n"), Mode.SERVE)
