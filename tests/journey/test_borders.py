"""What a site may touch is granted by the host: all else is refused in words, when asked for and when opened."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.running import Member, Running, found_organization, join, refusal, started


@dataclass(frozen=True)
class Site:
    """A server with two members, each with a directory, and places that are nobody's."""

    server: Running
    shop: Member
    ledger: Member
    granted: Path
    outside: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    top = tmp_path_factory.mktemp("borders")
    for name in ("granted", "outside"):
        (top / name).mkdir()
    (top / "outside" / "secret").write_text("never read")
    with started("dev", top / "data", "--grant", str(top / "granted")) as server:
        found_organization(server)
        made = Site(server, join(server, "shop"), join(server, "ledger"), top / "granted", top / "outside")
        (made.ledger.sandbox / "books").mkdir()
        (made.ledger.sandbox / "books" / "secret").write_text("never read")
        made.ledger.register("books", made.ledger.sandbox / "books")
        yield made


def register(site: Site, url: str) -> tuple[str, str]:
    return refusal(site.shop.client("holdfast").put_resource, Name="tried", ResourceType="EFS", SourceUrl=url)


def test_no_grant_however_wide_opens_holdfasts_own_places_or_the_kernels(tmp_path: Path) -> None:
    with started("dev", tmp_path / "data", "--grant", "/") as server:
        put = server.client("holdfast").put_resource
        for path in ("", "storage", "storage/vaults", "control.db", "control.db-wal", "root.key", "holdfast.toml"):
            code, sentence = refusal(put, Name="tried", ResourceType="EFS", SourceUrl=(server.data_dir / path).as_uri())
            assert code == "AccessDeniedException"
            assert "what belongs to Holdfast itself, which no grant opens" in sentence
        for url in ("file:///", tmp_path.as_uri()):
            _, sentence = refusal(put, Name="tried", ResourceType="EFS", SourceUrl=url)
            assert "what belongs to Holdfast itself, which no grant opens" in sentence
        for url in ("file:///proc", "file:///sys/kernel", "file:///dev"):
            _, sentence = refusal(put, Name="tried", ResourceType="EFS", SourceUrl=url)
            assert "is shown by the kernel and is no data" in sentence
        (tmp_path / "beside").mkdir()
        put(Name="beside", ResourceType="EFS", SourceUrl=(tmp_path / "beside").as_uri())


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("file:///", "has no grant to read file:/// at site 'local'"),
        ("file:///proc", "has no grant to read file:///proc"),
        ("file:///etc", "has no grant to read file:///etc at site 'local': ask the management account"),
        ("file://elsewhere/srv", "names the host 'elsewhere'"),
        ("file:///srv/../etc", "goes through . or .."),
        ("file:///srv/%2e%2e/etc", "goes through . or .."),
        ("ftp://server/tree", "ftp sources are not read by this release"),
        ("postgresql://db.internal/shop", "a resource of type EFS is read from file://, not from postgresql://"),
    ],
)
def test_other_places_need_a_grant(site: Site, url: str, sentence: str) -> None:
    code, told = register(site, url)
    assert code in {"AccessDeniedException", "ValidationException"}
    assert sentence in told


def test_anothers_tree_is_no_source_neither_above_nor_below_it(site: Site) -> None:
    books = site.ledger.sandbox / "books"
    for place in (books, books / "deeper", site.ledger.sandbox, site.server.sandbox):
        _, sentence = register(site, place.as_uri())
        assert "belongs to another account" in sentence, place


def targets(site: Site) -> tuple[Path, ...]:
    return site.outside, site.server.data_dir / "storage", site.ledger.sandbox / "books", Path("/etc")


def test_a_link_that_leads_out_is_not_registered(site: Site) -> None:
    for number, target in enumerate(targets(site)):
        link = site.shop.sandbox / f"link-{number}"
        link.symlink_to(target)
        above = site.shop.sandbox / f"above-{number}"
        above.symlink_to(target.parent)
        for place in (link, above / target.name):
            _, sentence = register(site, place.as_uri())
            assert "is a symbolic link, and links are not followed" in sentence


def test_a_place_that_became_a_link_is_not_followed(site: Site) -> None:
    jobs = []
    for number, target in enumerate(targets(site)):
        place = site.shop.sandbox / f"swapped-{number}"
        place.mkdir()
        arn = site.shop.register(f"swapped-{number}", place)
        place.rmdir()
        place.symlink_to(target)
        jobs.append(site.shop.back_up(arn))
    before = len(site.shop.points())
    site.server.settle(4 * 3600)
    for job in jobs:
        failed = site.shop.job(job)
        assert failed["State"] == "FAILED", failed
        assert "is a symbolic link, and links are not followed" in failed["StatusMessage"]
    assert len(site.shop.points()) == before


def test_a_restore_lands_nowhere_outside_a_grant(site: Site) -> None:
    tree = site.shop.sandbox / "www"
    tree.mkdir()
    (tree / "page").write_text("hello")
    site.shop.back_up(site.shop.register("www", tree))
    site.server.settle(60)
    (point,) = (each for each in site.shop.points() if each.get("ResourceName") == "www")
    assert (site.shop.restore(point, site.granted / "back") / "page").read_text() == "hello"
    link = site.granted / "way-out"
    link.symlink_to(site.outside)
    places = {
        site.outside / "back": "has no grant to restore",
        site.server.data_dir / "storage" / "back": "what belongs to Holdfast itself",
        Path("/etc/holdfast-restored"): "has no grant to restore",
        site.ledger.sandbox / "books" / "back": "belongs to another account",
        link / "back": "link",
        tree: "exist",
    }
    for place, sentence in places.items():
        before = sorted(place.rglob("*")) if place.exists() else None
        try:
            job = site.shop.start_restore(point, {"newFileSystem": "true", "holdfast:target-url": place.as_uri()})
        except site.shop.client("backup").exceptions.ClientError as error:
            told = error.response["Error"]["Message"]
        else:
            site.server.settle(4 * 3600)
            ended = site.shop.restored(job)
            assert ended["Status"] == "FAILED", (place, ended)
            told = ended["StatusMessage"]
        assert sentence in told, (place, told)
        assert (sorted(place.rglob("*")) if place.exists() else None) == before
    assert sorted(path.name for path in site.outside.iterdir()) == ["secret"]


def test_grants_are_the_management_accounts_to_put_and_the_hosts_to_allow(site: Site) -> None:
    holdfast = site.shop.client("holdfast")
    asked = {"Name": "mine", "Site": "local", "UrlPrefix": site.outside.as_uri(), "Accounts": [site.shop.id]}
    code, _ = refusal(holdfast.put_site_grant, **asked, AllowRead=True)
    assert code == "AccessDeniedException"
    # The management account may put it, but the host's own list has the last word.
    site.server.client("holdfast").put_site_grant(**asked, AllowRead=True, AllowRestore=True)
    _, sentence = register(site, site.outside.as_uri())
    assert "this host does not allow to read" in sentence
    site.server.client("holdfast").delete_site_grant(Name="mine")
