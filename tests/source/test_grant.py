"""What may be touched: host's list and site grants, by whole parts of the path, and never Holdfast's own."""

import pytest

from holdfast.core.settings import HostGrant
from holdfast.source.grant import Purpose, SiteGrant, granting, refuse_own, refuse_unless_host_allows
from holdfast.source.location import location
from holdfast.source.protocol import NotGrantedError


def a_grant(
    prefix: str = "file:///srv",
    *,
    site: str = "local",
    accounts: tuple[str, ...] = ("111122223333",),
    unit_id: str | None = None,
    read: bool = True,
    restore: bool = False,
) -> SiteGrant:
    return SiteGrant("g", site, location(prefix), accounts, unit_id, read, restore)


def ask(
    grant: SiteGrant, url: str = "file:///srv/www", purpose: Purpose = Purpose.READ, account: str = "111122223333"
) -> SiteGrant:
    return granting(location(url), purpose, [grant], site="local", account=account, unit_path="o-1/r-1/ou-prod/ou-web/")


@pytest.mark.parametrize("url", ["file:///srv", "file:///srv/www", "file:////srv//www/", "file:///srv/%77ww"])
def test_a_grant_reaches_everything_below_its_prefix(url: str) -> None:
    assert ask(a_grant(), url).name == "g"


@pytest.mark.parametrize("url", ["file:///srv2", "file:///", "file:///SRV/www", "postgresql://srv/www"])
def test_a_grant_reaches_nothing_beside_its_prefix(url: str) -> None:
    with pytest.raises(NotGrantedError, match="call PutSiteGrant with Site local"):
        ask(a_grant(), url)


def test_a_grant_to_read_is_none_to_restore() -> None:
    with pytest.raises(NotGrantedError, match="AllowRestore"):
        ask(a_grant(), purpose=Purpose.RESTORE)
    assert ask(a_grant(read=False, restore=True), purpose=Purpose.RESTORE)


def test_a_grant_is_for_its_own_accounts() -> None:
    with pytest.raises(NotGrantedError, match="account 444455556666 has no grant"):
        ask(a_grant(), account="444455556666")


@pytest.mark.parametrize("unit", ["ou-prod", "ou-web", "r-1"])
def test_a_grant_to_a_unit_reaches_the_accounts_anywhere_below_it(unit: str) -> None:
    assert ask(a_grant(accounts=(), unit_id=unit), account="444455556666")


@pytest.mark.parametrize("unit", ["ou-pro", "ou-dev", ""])
def test_a_grant_to_another_unit_reaches_nobody_here(unit: str) -> None:
    with pytest.raises(NotGrantedError):
        ask(a_grant(accounts=(), unit_id=unit), account="444455556666")


def test_a_grant_is_for_its_own_site() -> None:
    with pytest.raises(NotGrantedError):
        ask(a_grant(site="dc-2"))


def test_a_grant_of_a_server_reaches_its_databases() -> None:
    assert ask(a_grant("postgresql://db.internal"), "postgresql://DB.internal:5432/shop?sslmode=require")


def test_the_host_has_the_last_word() -> None:
    refuse_unless_host_allows(location("file:///srv/www"), Purpose.READ, [HostGrant("file:///srv", restore=False)])
    refuse_unless_host_allows(location("file:///srv/www"), Purpose.READ, [HostGrant("/srv", restore=False)])
    with pytest.raises(NotGrantedError, match="this host does not allow to restore file:///srv/www"):
        refuse_unless_host_allows(location("file:///srv/www"), Purpose.RESTORE, [HostGrant("/srv", restore=False)])
    with pytest.raises(NotGrantedError, match="this host does not allow to read"):
        refuse_unless_host_allows(location("file:///srv/www"), Purpose.READ, [])


@pytest.mark.parametrize(
    "url",
    [
        "file:///",
        "file:///var",
        "file:///var/lib/holdfast",
        "file:///var/lib/holdfast/storage/x",
        "file:///proc/1/root",
    ],
)
def test_no_grant_opens_what_is_holdfasts_own(url: str) -> None:
    with pytest.raises(NotGrantedError, match=r"which no grant opens|shown by the kernel"):
        refuse_own(location(url), [location("file:///var/lib/holdfast")])


def test_holdfasts_own_database_is_no_source() -> None:
    own = [location("postgresql://db.internal/holdfast")]
    refuse_own(location("postgresql://db.internal/shop"), own)
    with pytest.raises(NotGrantedError):
        refuse_own(location("postgresql://db.internal:5432/holdfast"), own)


def test_what_lies_beside_holdfasts_own_is_no_business_of_its() -> None:
    refuse_own(location("file:///var/lib/holdfast2"), [location("file:///var/lib/holdfast")])
