"""Granting places, on both databases."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.source.register import (
    BANK,
    MANAGEMENT,
    SHOP,
    STRANGER,
    UNIT,
    Register,
)

from holdfast.core.errors import InvalidInputError
from holdfast.core.settings import HostGrant
from holdfast.database.facts import OPERATOR, remember
from holdfast.organization.errors import ParentNotFoundError
from holdfast.source import service
from holdfast.source.grant import Purpose
from holdfast.source.model import (
    UnknownObjectError,
    VersionChangedError,
)
from holdfast.source.protocol import NotGrantedError
from holdfast.source.service import NotTheManagerError


def test_grants_are_put_by_the_management_account_alone(register: Register) -> None:
    with pytest.raises(NotTheManagerError, match="put by the management account 999900001111"):
        register.grant("mine", "file:///srv", by=SHOP)
    with pytest.raises(NotTheManagerError, match="is in no organization"):
        register.grant("mine", "file:///srv", by=STRANGER, accounts=(STRANGER,))
    with register.database.transaction() as tx, pytest.raises(NotTheManagerError):
        service.delete_grant(tx, SHOP, "all-files-local", expected_version=None)


def test_an_organization_that_somebody_else_founded_grants_nothing_of_this_installation(register: Register) -> None:
    with register.database.transaction() as tx:
        remember(tx, OPERATOR, STRANGER)
    with pytest.raises(NotTheManagerError, match=f"granted by account {STRANGER}, which runs it"):
        register.grant("mine", "file:///srv", by=MANAGEMENT)
    with register.database.transaction() as tx:
        remember(tx, OPERATOR, MANAGEMENT)
    register.grant("mine", "file:///srv", by=MANAGEMENT)


def test_whoever_left_the_organization_reaches_nothing_more(register: Register) -> None:
    register.put()
    with register.database.transaction() as tx:
        tx.execute(text(f"UPDATE account SET organization_id = NULL WHERE id = '{SHOP}'"))
        tx.execute(text(f"UPDATE placement SET ends_at = 1 WHERE account_id = '{SHOP}'"))
    with register.database.reading() as tx:
        assert service.grants_of(tx, SHOP, "local", Purpose.READ) == ()
    with pytest.raises(NotGrantedError):
        register.put(url="file:///srv/www2")
    with pytest.raises(NotTheManagerError):
        register.grant("mine", "file:///srv", by=SHOP)


@pytest.mark.parametrize(
    ("more", "error", "complaint"),
    [
        ({"site": "nowhere"}, InvalidInputError, "there is no site 'nowhere'; there are local, dc-2"),
        ({"accounts": ()}, InvalidInputError, "for Accounts, for a UnitId"),
        ({"allow_read": False}, InvalidInputError, "set AllowRead or AllowRestore"),
        ({"accounts": (), "unit_id": "ou-root-gone0000"}, ParentNotFoundError, "(?i)parent"),
        ({"expected": 3}, VersionChangedError, "has version 0, not 3"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(
    register: Register, more: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        register.grant("g", "file:///srv", **more)


def test_a_grant_in_holdfasts_own_directory_is_refused(register: Register, tmp_path: Path) -> None:
    with pytest.raises(NotGrantedError):
        register.grant("g", (tmp_path / "own/storage").as_uri())
    assert register.grant("g", tmp_path.as_uri()), "above it is no harm: it stays closed inside"


def test_a_grant_is_replaced_and_read_back(register: Register) -> None:
    assert register.grant("g", "file:///srv", unit_id=UNIT).grant.version == 1
    dated = register.grant("g", "postgresql://DB.internal", accounts=(SHOP, BANK), allow_restore=True, expected=1)
    assert dated.grant.version == 2
    assert dated.grant.place.key == "postgresql://db.internal:5432/"
    with register.database.reading() as tx:
        assert service.get_grant(tx, MANAGEMENT, "g") == dated
        with pytest.raises(UnknownObjectError):
            service.get_grant(tx, MANAGEMENT, "other")
        given = service.grants_of(tx, BANK, "local", Purpose.RESTORE)
    assert given == (HostGrant("postgresql://db.internal:5432/", read=True, restore=True),)
