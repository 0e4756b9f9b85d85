"""A development server, emptied for each test, and clients of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.devserver import DevServer, running_dev_server


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """One server for all tests of the API."""
    with running_dev_server(tmp_path_factory.mktemp("dev")) as server:
        yield server


@pytest.fixture
def server(running: DevServer) -> DevServer:
    """The server with nothing in it."""
    running.reset()
    return running


@pytest.fixture
def organizations(server: DevServer) -> Any:
    """The management account's client, before there is an organization."""
    return server.client("organizations")


@pytest.fixture
def root(organizations: Any) -> str:
    """The id of the root of a new organization."""
    organizations.create_organization()
    return str(organizations.list_roots()["Roots"][0]["Id"])
