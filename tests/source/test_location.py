"""Two spellings of one place are one place, and what could be read as two places is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.source.location import InvalidUrlError, file_location, location, overlaps, place


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("file:///srv/www", "file:///srv/www"),
        ("FILE://localhost/srv/www/", "file:///srv/www"),
        ("file:////srv///www", "file:///srv/www"),
        ("file:///", "file:///"),
        ("file:/srv/www", "file:///srv/www"),
        ("File:/", "file:///"),
        ("file:///srv/%77ww", "file:///srv/www"),
        ("file:///srv/a%20b%25%FF", "file:///srv/a%20b%25%FF"),
        ("file:///srv/a%3fb%23", "file:///srv/a%3Fb%23"),
        ("file:///srv/Ä", "file:///srv/%C3%84"),
        ("file:///srv/WWW", "file:///srv/WWW"),
        ("postgresql://DB.Internal./shop", "postgresql://db.internal:5432/shop"),
        ("postgres://db.internal:05432/shop", "postgresql://db.internal:5432/shop"),
        ("postgresql://127.0.0.1/shop", "postgresql://localhost:5432/shop"),
        ("postgresql://[::1]:5433/shop", "postgresql://localhost:5433/shop"),
        ("postgresql://[::ffff:10.0.0.5]/shop", "postgresql://10.0.0.5:5432/shop"),
        ("postgresql://[FE80:0:0:0::1]/shop", "postgresql://[fe80::1]:5432/shop"),
        ("postgresql://%2Frun%2F%2Fpostgresql/shop", "postgresql://%2Frun%2Fpostgresql:5432/shop"),
        ("postgresql://h/x%20host=evil", "postgresql://h:5432/x%20host=evil"),
        ("postgresql://h/a%2Fb", "postgresql://h:5432/a%2Fb"),
        ("postgresql://h/shop?sslmode=require", "postgresql://h:5432/shop"),
        ("postgresql://h", "postgresql://h:5432/"),
    ],
)
def test_one_place_has_one_key(url: str, key: str) -> None:
    assert location(url).key == key
    assert location(key) == location(url)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("/srv/www", "is not the URL of a source"),
        ("file:srv/www", "is not the URL of a source"),
        ("file://fileserver/srv", "names the host 'fileserver'"),
        ("file:///srv/../etc", r"goes through \. or \.\."),
        ("file:///srv/%2e%2E/etc", r"goes through \. or \.\."),
        ("file:///srv/./www", r"goes through \. or \.\."),
        ("file:///srv/a%2Fb", "hides a /"),
        ("file:///srv/a%00b", "zero byte"),
        ("file:///srv/100%", "begins no escape"),
        ("file:///srv/a?b", "no option of a file URL"),
        ("file:///srv/a#b", "is not the URL of a source"),
        ("file:///srv/a\nb", "escapes"),
        (" file:///srv", "escapes"),
        ("file:///" + "a" * 5000, "at most 4096"),
        ("ftp://h/x", "ftp sources are not read"),
        ("postgresql://user:pw@h/db", "put them into a secret"),
        ("postgresql://h1,h2/db", "not the name or address of one host"),
        ("postgresql://127.1/db", "not an IPv4 address"),
        ("postgresql://0x7f000001/db", "not an IPv4 address"),
        ("postgresql://2130706433/db", "not an IPv4 address"),
        ("postgresql:///db", "not the name or address of one host"),
        ("postgresql://@abstract/db", "put them into a secret"),
        ("postgresql://h:0/db", "not a port"),
        ("postgresql://h:65536/db", "not a port"),
        ("postgresql://h:\N{ARABIC-INDIC DIGIT FIVE}/db", "not a port"),
        ("postgresql://[::1/db", "no IPv6 address|not \\[ADDRESS\\]"),
        ("postgresql://[::1]x/db", "is not \\[ADDRESS\\]"),
        ("postgresql://h/a/b", "more than one database"),
        ("postgresql://h/%FF", "not UTF-8"),
        ("postgresql://h/db?host=evil", "'host' is no option"),
        ("postgresql://h/db?sslmode=require&sslmode=disable", "given twice"),
        ("postgresql://%2Frun%2F..%2Fetc/db", r"goes through \. or \.\."),
        ("postgresql://run%2Fpostgresql/db", "only a socket's directory"),
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(InvalidUrlError, match=complaint):
        location(url)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("file:///srv", "file:///srv/www", True),
        ("file:///srv/www", "file:///srv/www", True),
        ("file:///srv/www", "file:///srv/www2", False),
        ("file:///", "file:///anything", True),
        ("file:///srv", "file:///SRV", False),
        ("postgresql://h/", "postgresql://h/shop", True),
        ("postgresql://h/shop", "postgresql://h/shop2", False),
        ("postgresql://h:1/shop", "postgresql://h:2/shop", False),
        ("postgresql://localhost/shop", "postgresql://127.0.0.1:5432/shop?sslmode=disable", True),
        ("postgresql://h/srv", "file:///srv", False),
    ],
)
def test_places_overlap_by_whole_parts_of_the_path(one: str, other: str, overlap: bool) -> None:
    assert overlaps(location(one), location(other)) is overlap
    assert overlaps(location(other), location(one)) is overlap


names = st.binary(min_size=1, max_size=8).filter(lambda name: b"/" not in name and b"\0" not in name)
paths = st.lists(names.filter(lambda name: name not in (b".", b"..")), max_size=4)


@given(parts=paths)
def test_every_path_has_a_url_that_leads_back_to_it(parts: list[bytes]) -> None:
    here = file_location(b"/" + b"/".join(parts))
    assert location(here.key) == here
    assert here.file_path == b"/" + b"/".join(parts)


@given(above=paths, below=paths)
def test_a_place_contains_exactly_what_begins_with_its_key(above: list[bytes], below: list[bytes]) -> None:
    top = file_location(b"/" + b"/".join(above))
    inner = file_location(b"/" + b"/".join(above + below))
    assert top.contains(inner)
    assert inner.key == top.key or inner.key.startswith(top.below)
    assert top in inner.ancestors()
    assert inner.contains(top) is (not below)


@given(one=paths, other=paths)
def test_keys_and_containment_agree(one: list[bytes], other: list[bytes]) -> None:
    a, b = (file_location(b"/" + b"/".join(parts)) for parts in (one, other))
    assert a.contains(b) is (b.key == a.key or b.key.startswith(a.below))


def test_a_place_is_a_path_or_a_url() -> None:
    assert place("/srv//www/") == place("file:///srv/www")
    with pytest.raises(InvalidUrlError, match="not the URL of a source"):
        place("srv/www")


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("postgresql://localhost/x", True),
        ("postgresql://127.0.0.2/x", True),
        ("postgresql://%2Frun%2Fpostgresql/x", True),
        ("postgresql://db.internal/x", False),
        ("postgresql://10.0.0.5/x", False),
    ],
)
def test_only_this_machine_itself_is_loopback(url: str, loopback: bool) -> None:
    assert location(url).is_loopback is loopback


def test_options_are_kept_beside_the_place() -> None:
    here = location("postgresql://h/shop?sslmode=require&large-objects=omit")
    assert here.options == {"sslmode": "require", "large-objects": "omit"}
    assert here.url == "postgresql://h:5432/shop?large-objects=omit&sslmode=require"
    assert location(here.url).options == here.options
