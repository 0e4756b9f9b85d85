"""People from an OpenID Connect issuer: a certified one over HTTPS, and every way in which a token may not count."""

import base64
import hmac
import http.server
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from tests.access.conftest import MEMBER, NOW, OTHER, REGION, SESSION, World
from tests.access.issuer import (
    CLIENT,
    ELLIPTIC_CLIENT,
    ODD_CLIENT,
    Issuer,
    authority_and_certificate,
    running_issuer,
    signing_keys,
)
from tests.access.test_attacks import allow, document, refused, trusting

from holdfast.access.model.web_identity import (
    ExpiredIdentityTokenError,
    InvalidIdentityTokenError,
    IssuerUnreachableError,
    OidcProvider,
    check_claims,
)
from holdfast.access.web_identity import Issuers, issuer_of
from holdfast.core.clock import ManualMachineTime, SystemMachineTime
from holdfast.core.errors import HoldfastError
from holdfast.core.outgoing import Outgoing, OutgoingRefusedError, Reach, UnreachableError, check_url

URL = "https://login.example.com/realm"
NAME = "login.example.com/realm"
ARN = f"arn:aws:iam::{MEMBER}:oidc-provider/{NAME}"
TAGS = "https://aws.amazon.com/tags"
PROVIDER = OidcProvider(ARN, MEMBER, URL, ("holdfast", "other"), (), NOW)
SECONDS = int(NOW.timestamp())


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    claims = {
        TAGS: {"principal_tags": {"team": ["red"]}, "transitive_tag_keys": ["team"]},
        "https://aws.amazon.com/source_identity": "maria@example.com",
    }
    with running_issuer(tmp_path_factory.mktemp("issuer"), claims=claims) as running:
        yield running


@pytest.fixture
def outgoing(issuer: Issuer) -> tuple[Reach, Path | None]:
    return Reach.of([issuer.name]), issuer.authority


def provide(world: World, issuer: Issuer, *clients: str, account: str = MEMBER) -> str:
    """Register the issuer with an account; return the provider's ARN."""
    made = world.client("iam", account).create_open_id_connect_provider(
        Url=issuer.url, ClientIDList=list(clients) or [CLIENT, ELLIPTIC_CLIENT, ODD_CLIENT]
    )
    return str(made["OpenIDConnectProviderArn"])


def a_role(world: World, name: str, provider: str, *, actions: Any = None, account: str = MEMBER, **more: Any) -> str:
    """Return the ARN of a role that trusts a provider, and may look at jobs and go on into other roles."""
    iam = world.client("iam", account)
    actions = actions or ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
    trust = document({"Effect": "Allow", "Action": actions, "Principal": {"Federated": provider}, **more})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
    own = document(allow(["backup:ListBackupJobs", "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]))
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=own)
    return str(role["Arn"])


def stranger(world: World) -> Any:
    """Return an STS client that signs nothing."""
    unsigned = Config(signature_version=UNSIGNED, retries={"max_attempts": 0})
    return SESSION.client("sts", region_name=REGION, endpoint_url=world.url, config=unsigned)


def come_in(world: World, role: str, token: str, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = stranger(world).assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="maria", WebIdentityToken=token, **more
    )
    return answer


def turned_away(world: World, role: str, token: str, **more: Any) -> str:
    return refused(
        stranger(world).assume_role_with_web_identity,
        RoleArn=role,
        RoleSessionName="maria",
        WebIdentityToken=token,
        **more,
    )


def test_a_person_acts_in_a_role_and_stays_behind_the_roles_after_it(world: World, issuer: Issuer) -> None:
    provider = provide(world, issuer)
    condition = {"StringEquals": {f"{issuer.name}:aud": CLIENT, f"{issuer.name}:sub": "maria"}}
    role = a_role(world, "People", provider, Condition=condition)
    for client, subject in ((CLIENT, "mallory"), (ELLIPTIC_CLIENT, "maria")):
        assert "no role trust policy allows" in turned_away(world, role, issuer.token(subject, client))
    answer = come_in(world, role, issuer.token("maria"))
    assert answer["SubjectFromWebIdentityToken"] == "maria"
    assert (answer["Audience"], answer["Provider"]) == (CLIENT, issuer.url)
    session = answer["Credentials"]
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{MEMBER}:assumed-role/People/maria"
    world.client("backup", session).list_backup_jobs()
    world.client("iam", MEMBER).create_role(RoleName="Next", AssumeRolePolicyDocument=trusting({"AWS": MEMBER}))
    asked_tag = {"StringEquals": {"aws:PrincipalTag/team": "red", "aws:SourceIdentity": "maria@example.com"}}
    world.client("iam", MEMBER).put_role_policy(
        RoleName="Next", PolicyName="own", PolicyDocument=document(allow("backup:*", Condition=asked_tag))
    )
    further = world.assume(f"arn:aws:iam::{MEMBER}:role/Next", session)
    with pytest.raises(Exception, match="AccessDenied"):
        world.client("iam", further).create_user(UserName="mole")
    refusal, changed = world.trail()[0], world.trail()[1]
    assert (refusal.operation, refusal.person) == ("CreateUser", f"{issuer.url} maria")
    assert (changed.operation, changed.person) == ("AssumeRole", f"{issuer.url} maria")
    world.client("backup", further).list_backup_jobs()  # the tag and the source identity came along


def test_tokens_on_elliptic_curves_count_and_other_algorithms_do_not(world: World, issuer: Issuer) -> None:
    role = a_role(world, "People", provide(world, issuer))
    come_in(world, role, issuer.token("maria", ELLIPTIC_CLIENT))
    assert turned_away(world, role, issuer.token("maria", ODD_CLIENT)).startswith("InvalidIdentityToken")


def test_an_issuer_may_change_its_keys(world: World, issuer: Issuer) -> None:
    role = a_role(world, "People", provide(world, issuer))
    before = issuer.token("maria")
    come_in(world, role, before)
    issuer.rotate("next")
    world.machine.advance(timedelta(seconds=11))
    come_in(world, role, issuer.token("maria"))
    assert turned_away(world, role, before).startswith("InvalidIdentityToken")


def test_only_a_provider_of_the_roles_own_account_lets_people_in(world: World, issuer: Issuer) -> None:
    token = issuer.token("maria")
    provider = provide(world, issuer)
    foreign = a_role(world, "Foreign", provider, account=OTHER)
    told = turned_away(world, foreign, token)
    assert told.startswith("InvalidIdentityToken: No OpenIDConnect provider found")
    # So it is for an account that does not exist, and nobody learns which roles there are.
    assert turned_away(world, foreign.replace(OTHER, "000000000000"), token) == told
    untrusting = a_role(world, "Untrusting", provider, actions="sts:AssumeRole")
    by_account = world.client("iam", MEMBER).create_role(
        RoleName="Everybody",
        AssumeRolePolicyDocument=document(
            {"Effect": "Allow", "Action": "sts:*", "Principal": "*"},
            {"Effect": "Allow", "Action": "sts:*", "Principal": {"AWS": MEMBER}},
        ),
    )["Role"]["Arn"]
    refusals = {
        turned_away(world, role, token).replace(role, "ROLE")
        for role in (untrusting, by_account, f"arn:aws:iam::{MEMBER}:role/Missing")
    }
    assert len(refusals) == 1
    assert "is not authorized to perform: sts:AssumeRoleWithWebIdentity on resource: ROLE" in refusals.pop()


def test_tags_and_source_identity_of_a_token_need_rights_of_their_own(world: World, issuer: Issuer) -> None:
    provider, token = provide(world, issuer), issuer.token("maria")
    plain = a_role(world, "Plain", provider, actions="sts:AssumeRoleWithWebIdentity")
    assert "sts:TagSession" in turned_away(world, plain, token)
    tagging = a_role(world, "Tagging", provider, actions=["sts:AssumeRoleWithWebIdentity", "sts:TagSession"])
    assert "sts:SetSourceIdentity" in turned_away(world, tagging, token)
    condition = {"StringEquals": {"aws:RequestTag/team": "blue"}}
    blue = a_role(world, "Blue", provider, Condition=condition)
    assert "no role trust policy allows" in turned_away(world, blue, token)


def test_a_session_policy_narrows_what_a_person_may_do(world: World, issuer: Issuer) -> None:
    role = a_role(world, "People", provide(world, issuer))
    narrow = document(allow("s3:*"))
    session = come_in(world, role, issuer.token("maria"), Policy=narrow, DurationSeconds=900)["Credentials"]
    assert "no session policy allows" in refused(world.client("backup", session).list_backup_jobs)
    assert turned_away(world, role, issuer.token("maria"), DurationSeconds=7200).startswith("ValidationError")


def test_who_sends_made_up_tokens_is_made_to_wait(world: World, issuer: Issuer) -> None:
    role = a_role(world, "People", provide(world, issuer))
    header, payload, _ = issuer.token("maria").split(".")
    forged = f"{header}.{payload}.{base64.urlsafe_b64encode(bytes(256)).decode().rstrip('=')}"
    told = {turned_away(world, role, forged).partition(":")[0] for _ in range(65)}
    assert told == {"InvalidIdentityToken", "Throttling"}
    world.client("sts").get_caller_identity()  # and signatures from there are not shut out by it


def test_a_provider_is_registered_changed_and_removed(world: World, issuer: Issuer) -> None:
    iam = world.client("iam", MEMBER)
    provider = provide(world, issuer, "somebody-else")
    assert refused(iam.create_open_id_connect_provider, Url=issuer.url, ClientIDList=["x"]).startswith(
        "EntityAlreadyExists"
    )
    role, token = a_role(world, "People", provider), issuer.token("maria")
    assert "audience" in turned_away(world, role, token)
    named = {"OpenIDConnectProviderArn": provider}
    iam.add_client_id_to_open_id_connect_provider(**named, ClientID=CLIENT)
    iam.remove_client_id_from_open_id_connect_provider(**named, ClientID="somebody-else")
    iam.update_open_id_connect_provider_thumbprint(**named, ThumbprintList=["a" * 40])
    iam.tag_open_id_connect_provider(**named, Tags=[{"Key": "team", "Value": "red"}, {"Key": "x", "Value": "y"}])
    iam.untag_open_id_connect_provider(**named, TagKeys=["x"])
    shown = iam.get_open_id_connect_provider(**named)
    assert (shown["Url"], shown["ClientIDList"], shown["ThumbprintList"]) == (issuer.name, [CLIENT], ["a" * 40])
    assert shown["Tags"] == iam.list_open_id_connect_provider_tags(**named)["Tags"] == [{"Key": "team", "Value": "red"}]
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == [{"Arn": provider}]
    come_in(world, role, token)
    iam.delete_open_id_connect_provider(**named)
    assert turned_away(world, role, token).startswith("InvalidIdentityToken")
    assert refused(iam.get_open_id_connect_provider, **named).startswith("NoSuchEntity")
    for url in (
        "http://login.example.com",
        "https://",
        "https://user@host.example",
        "https://a.example/?x=1",
        "https://backup",
    ):
        assert refused(iam.create_open_id_connect_provider, Url=url).startswith("InvalidInput")
    wrong = {"Url": "https://login.example.com", "ThumbprintList": ["short" * 8]}
    assert refused(iam.create_open_id_connect_provider, **wrong).startswith("InvalidInput")


def claims(**more: Any) -> dict[str, Any]:
    whole = {"iss": URL, "sub": "maria", "aud": "holdfast", "iat": SECONDS, "exp": SECONDS + 300, **more}
    return {name: value for name, value in whole.items() if value is not ...}


@pytest.mark.parametrize(
    "more",
    [
        {"iss": "https://login.example.com"},
        {"iss": URL + "/"},
        {"iss": ...},
        {"sub": ...},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"aud": "somebody-else"},
        {"aud": []},
        {"aud": ...},
        {"aud": {"holdfast": 1}},
        {"aud": ["holdfast", "other"]},
        {"azp": "somebody-else"},
        {"azp": ["holdfast"]},
        {"aud": "somebody-else", "azp": "holdfast"},
        {"exp": ...},
        {"exp": "soon"},
        {"exp": float("nan")},
        {"iat": ...},
        {"iat": SECONDS + 120},
        {"nbf": SECONDS + 120},
        {TAGS: "red"},
        {TAGS: {"principal_tags": {"team": ["red", "blue"]}}},
        {TAGS: {"principal_tags": {}, "transitive_tag_keys": "team"}},
        {"https://aws.amazon.com/source_identity": 7},
    ],
    ids=str,
)
def test_a_token_that_says_something_else_does_not_count(more: dict[str, Any]) -> None:
    check_claims(claims(), PROVIDER, now=NOW)
    with pytest.raises(InvalidIdentityTokenError):
        check_claims(claims(**more), PROVIDER, now=NOW)


def test_a_token_ends_at_its_second_and_clocks_may_differ_by_a_minute_before() -> None:
    with pytest.raises(ExpiredIdentityTokenError):
        check_claims(claims(exp=SECONDS), PROVIDER, now=NOW)
    check_claims(claims(exp=SECONDS + 1, iat=SECONDS + 59, nbf=SECONDS + 59), PROVIDER, now=NOW)


def test_a_provider_without_clients_lets_nobody_in() -> None:
    nobody = OidcProvider(ARN, MEMBER, URL, (), (), NOW)
    with pytest.raises(InvalidIdentityTokenError):
        check_claims(claims(), nobody, now=NOW)


def test_policies_see_each_claim_once_and_none_hides_another() -> None:
    said = claims(
        azp="other", aud=["holdfast", "other"], SUB="mallory", Aud="forged", groups=["a", "b"], nested={"x": 1}
    )
    identity = check_claims(said, PROVIDER, now=NOW)
    keys = dict(identity.keys)
    assert keys == {
        f"{NAME}:sub": ("maria",),
        f"{NAME}:aud": ("other",),
        f"{NAME}:oaud": ("holdfast", "other"),
        f"{NAME}:azp": ("other",),
        f"{NAME}:groups": ("a", "b"),
    }


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=5,
)


@given(said=st.dictionaries(st.sampled_from(["iss", "sub", "aud", "azp", "exp", "iat", "nbf", TAGS, "x"]), _json))
def test_no_claims_crash_the_check(said: dict[str, Any]) -> None:
    with suppress(InvalidIdentityTokenError, ExpiredIdentityTokenError):
        check_claims({**claims(), **said}, PROVIDER, now=NOW)


@given(token=st.text() | st.binary().map(lambda raw: f"{base64.urlsafe_b64encode(raw).decode()}.e30.x"))
def test_no_text_crashes_the_reading_of_a_token(token: str) -> None:
    with pytest.raises(InvalidIdentityTokenError):
        issuer_of(token)


@dataclass
class Web:
    """What lies where, and how often it was asked for."""

    documents: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.documents:
            raise UnreachableError(f"{url} does not answer")
        return json.dumps(self.documents[url]).encode()

    def publish(self, keys: Mapping[str, Any], *, issuer: str = URL) -> None:
        self.documents[f"{URL}/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": f"{URL}/jwks"}
        self.documents[f"{URL}/jwks"] = keys


@pytest.fixture(scope="module")
def key_sets() -> tuple[dict[str, Any], dict[str, Any]]:
    return signing_keys("first"), signing_keys("second")


def public(keys: Mapping[str, Any]) -> dict[str, Any]:
    return dict(KeySet.import_key_set({"keys": keys["keys"]}).as_dict(private=False))


def signed(keys: Mapping[str, Any], *, number: int = 0, algorithm: str = "RS256", **header: Any) -> str:
    key = keys["keys"][number]
    made = RSAKey.import_key(key) if key["kty"] == "RSA" else ECKey.import_key(key)
    said = claims(exp=SECONDS + 3600)
    return jwt.encode({"alg": algorithm, "kid": key["kid"], **header}, said, made, algorithms=[algorithm])


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


Sets = tuple[dict[str, Any], dict[str, Any]]


def test_keys_are_kept_for_ten_minutes_and_asked_for_again_seldom(key_sets: Sets) -> None:
    first, second = key_sets
    web, machine = Web(), ManualMachineTime(NOW)
    issuers = Issuers(machine, web)
    web.publish(public(first))
    for _ in range(3):
        issuers.identify(signed(first), PROVIDER)
    assert len(web.asked) == 2
    web.publish(public(second))
    # A key that is not known is looked for, but not more often than every ten seconds: anybody may name one.
    for _ in range(3):
        with pytest.raises(InvalidIdentityTokenError):
            issuers.identify(signed(second), PROVIDER)
    assert len(web.asked) == 2
    machine.advance(timedelta(seconds=10))
    issuers.identify(signed(second), PROVIDER)
    with pytest.raises(InvalidIdentityTokenError):
        issuers.identify(signed(first), PROVIDER)
    assert len(web.asked) == 4
    # An issuer that does not answer is trusted by what it said before, until that is ten minutes old.
    web.documents.clear()
    machine.advance(timedelta(seconds=200))
    with pytest.raises(InvalidIdentityTokenError):
        issuers.identify(signed(first), PROVIDER)
    issuers.identify(signed(second), PROVIDER)
    machine.advance(timedelta(seconds=90))
    issuers.identify(signed(second), PROVIDER)


def test_an_issuer_that_does_not_answer_lets_nobody_in(key_sets: Sets) -> None:
    first, _ = key_sets
    web, machine = Web(), ManualMachineTime(NOW)
    issuers = Issuers(machine, web)
    for _ in range(3):
        with pytest.raises(IssuerUnreachableError, match="does not answer"):
            issuers.identify(signed(first), PROVIDER)
    assert len(web.asked) == 1
    machine.advance(timedelta(seconds=10))
    web.publish(public(first))
    issuers.identify(signed(first), PROVIDER)


@pytest.mark.parametrize(
    ("documents", "why"),
    [
        ({"issuer": "https://other.example"}, "it says that it is"),
        ({"keys": {"keys": []}}, "publishes no key"),
        ({"keys": {"keys": "none"}}, "publishes no key"),
        ({"keys": []}, "no JSON object"),
        ({"keys": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "n": "x", "e": "AQAB"}]}}, "no key"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_issuer_that_is_not_what_it_should_be_lets_nobody_in(
    documents: dict[str, Any], why: str, key_sets: Sets
) -> None:
    web = Web()
    web.publish(documents.get("keys", public(key_sets[0])), issuer=documents.get("issuer", URL))
    with pytest.raises(IssuerUnreachableError, match=why):
        Issuers(ManualMachineTime(NOW), web).identify(signed(key_sets[0]), PROVIDER)


def test_no_trick_with_algorithms_and_keys_makes_a_token_count(key_sets: Sets) -> None:
    first, second = key_sets
    web = Web()
    web.publish(public(first))
    issuers = Issuers(ManualMachineTime(NOW), web)
    issuers.identify(signed(first, number=1, algorithm="ES256"), PROVIDER)
    rsa = RSAKey.import_key(first["keys"][0])
    plain, nothing = unpadded(json.dumps(claims()).encode()), unpadded(b'{"alg":"none"}')
    symmetric = unpadded(b'{"alg":"HS256","kid":"first-rsa"}') + "." + plain
    mac = hmac.digest(rsa.as_pem(private=False), symmetric.encode(), "sha256")  # the public key as if it were a secret
    right = signed(first).split(".")
    tricks = [
        signed(first, algorithm="RS512"),
        signed(second, kid="first-rsa"),  # signed by other keys under this one's name
        f"{symmetric}.{unpadded(mac)}",
        f"{nothing}.{plain}.",
        f"{right[0]}.{plain}.{right[2]}x",
        f"{right[0]}.{right[1]}.",
        signed(first, kid="first-ec"),
    ]
    for trick in tricks:
        with pytest.raises(InvalidIdentityTokenError):
            issuers.identify(trick, PROVIDER)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "localhost",
        "2130706433",
        "0x7f.1",
    ],
)
def test_nothing_is_sent_to_addresses_that_are_not_public(address: str) -> None:
    with pytest.raises((OutgoingRefusedError, UnreachableError), match=r"not a public address|not known"):
        Outgoing(SystemMachineTime()).fetch(f"https://{address}/x", most_bytes=1)


class _Answers(http.server.BaseHTTPRequestHandler):
    """Answers by what the path asks for."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/small")
            self.end_headers()
            return
        body = b"x" * (100_000 if self.path == "/large" else 10)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def a_server(directory: Path) -> Iterator[tuple[str, Path]]:
    authority, certificate, key = authority_and_certificate(directory)
    pair = directory / "pair.pem"
    pair.write_text(certificate + key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}", authority
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_the_host_lists_is_fetched_with_its_certificate_and_no_further(tmp_path: Path) -> None:
    machine = SystemMachineTime()
    with a_server(tmp_path) as (place, authority):
        for listed in (place, "localhost", "127.0.0.0/8"):
            reach = Reach.of([listed, "::1"])
            got = Outgoing(machine, reach, authority).fetch(f"https://{place}/small", most_bytes=10)
            assert got == b"x" * 10
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            Outgoing(machine, Reach.of(["localhost"])).fetch(f"https://{place}/small", most_bytes=10)
        ours = Outgoing(machine, Reach.of(["127.0.0.0/8", "::1"]), authority)
        other = place.replace("localhost", "127.0.0.1")
        with pytest.raises(UnreachableError, match="doesn't match"):
            ours.fetch(f"https://{other}/small", most_bytes=10)
        with pytest.raises(UnreachableError, match="302"):
            ours.fetch(f"https://{place}/moved", most_bytes=10)
        with pytest.raises(UnreachableError, match="more than 99"):
            ours.fetch(f"https://{place}/large", most_bytes=99)
        with pytest.raises(OutgoingRefusedError):
            Outgoing(machine, Reach.of([f"{place}0"]), authority).fetch(f"https://{place}/small", most_bytes=10)


@given(url=st.text() | st.text().map(lambda text: f"https://{text}"))
def test_no_url_crashes_its_check(url: str) -> None:
    try:
        parts = check_url(url)
    except HoldfastError:
        return
    assert parts.scheme == "https"
    assert parts.hostname
    assert not parts.query
