"""A real PostgreSQL server that asks for passwords, for the journeys that back databases up."""

from tests.source.conftest import Server, make_database, server

__all__ = ["Server", "make_database", "server"]
