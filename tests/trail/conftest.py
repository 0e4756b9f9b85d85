"""The server with an organization, as the tests of access have it."""

from tests.access.conftest import world

__all__ = ["world"]
