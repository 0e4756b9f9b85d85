"""The server with an organization, as the tests of access have it."""

from tests.access.conftest import outgoing, whole_world, world

__all__ = ["outgoing", "whole_world", "world"]
