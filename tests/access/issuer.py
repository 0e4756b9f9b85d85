"""A certified OpenID Connect issuer, and a person who signs in there with a browser's patience."""

import base64
import hashlib
import http.cookiejar
import json
import re
import secrets
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from pathlib import Path
from typing import IO, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc.jwk import ECKey, RSAKey
from tests.javascript.npm import javascript

from holdfast.core.clock import SystemMachineTime

CLIENT, ELLIPTIC_CLIENT, ODD_CLIENT = "holdfast", "holdfast-elliptic", "holdfast-odd"
_BACK = "https://client.example/back"
_FORM = re.compile(r'<form[^>]*action="([^"]+)"')


def authority_and_certificate(directory: Path) -> tuple[Path, str, str]:
    """Make an authority and a certificate for `localhost`; return the authority's file, certificate and key."""
    now = SystemMachineTime().now()
    own, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def build(name: str, issuer: str, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own.public_key()), critical=False)
        )
        if ca:
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return builder.sign(own, hashes.SHA256())

    pem = serialization.Encoding.PEM
    authority = directory / "authority.pem"
    authority.write_bytes(build("Tests", "Tests", own.public_key(), ca=True).public_bytes(pem))
    certificate = build("localhost", "Tests", other.public_key(), ca=False).public_bytes(pem).decode()
    key = other.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    return authority, certificate, key


def signing_keys(name: str) -> dict[str, Any]:
    """Return a set of private keys: one RSA, one of P-256."""
    return {
        "keys": [
            {**RSAKey.generate_key(2048).as_dict(private=True), "use": "sig", "kid": f"{name}-rsa"},
            {**ECKey.generate_key("P-256").as_dict(private=True), "use": "sig", "kid": f"{name}-ec"},
        ]
    }


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect by itself."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True)
class Issuer:
    """A running issuer."""

    url: str
    authority: Path
    process: "subprocess.Popen[str]"

    @property
    def name(self) -> str:
        """As condition keys have it."""
        return self.url.removeprefix("https://")

    def rotate(self, name: str) -> None:
        """Sign with other keys from now on."""
        self._say(signing_keys(name))

    def _say(self, value: Any) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def token(self, person: str, client: str = CLIENT) -> str:
        """Return the ID token that somebody gets who signs in: the authorization code flow, with PKCE."""
        browser = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.authority)),
            _Stay,
        )

        def ask(url: str, form: Mapping[str, str] | None = None, **headers: str) -> tuple[str, str]:
            data = None if form is None else urllib.parse.urlencode(form).encode()
            request = urllib.request.Request(urllib.parse.urljoin(self.url, url), data, headers)  # noqa: S310 - ours
            try:
                with browser.open(request, timeout=20) as answer:
                    return answer.read().decode(), answer.headers.get("Location", "")
            except urllib.error.HTTPError as error:
                with error:
                    return error.read().decode(), str(error.headers["Location"])

        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": client,
            "response_type": "code",
            "scope": "openid",
            "redirect_uri": _BACK,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        _, place = ask(f"/auth?{urllib.parse.urlencode(query)}")
        while not place.startswith(_BACK):
            page, further = ask(place)
            form = _FORM.search(page)
            if form is not None:
                prompt = "login" if 'name="login"' in page else "consent"
                _, further = ask(form[1], {"prompt": prompt, "login": person, "password": "any"})
            place = further
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(place).query)["code"][0]
        secret = base64.b64encode(f"{client}:secret".encode()).decode()
        exchange = {"grant_type": "authorization_code", "code": code, "redirect_uri": _BACK, "code_verifier": verifier}
        answer, _ = ask("/token", exchange, Authorization=f"Basic {secret}")
        return str(json.loads(answer)["id_token"])


@contextmanager
def running_issuer(directory: Path, *, claims: Mapping[str, Any] | None = None) -> Iterator[Issuer]:
    """Start an issuer, and end it with the block."""
    authority, certificate, key = authority_and_certificate(directory)
    algorithms = {CLIENT: "RS256", ELLIPTIC_CLIENT: "ES256", ODD_CLIENT: "PS256"}
    given = {
        "key": key,
        "certificate": certificate,
        "jwks": signing_keys("first"),
        "claims": claims or {},
        "lifetime": 3600,
        "clients": [
            {
                "client_id": name,
                "client_secret": "secret",
                "redirect_uris": [_BACK],
                "id_token_signed_response_alg": algorithm,
            }
            for name, algorithm in algorithms.items()
        ],
    }
    with (directory / "issuer.log").open("wb") as log:
        process = subprocess.Popen(
            ["node", "issuer.mjs"],
            cwd=javascript(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    issuer = Issuer("", authority, process)
    try:
        url = issuer._say(given)
        assert url.startswith("https://"), (directory / "issuer.log").read_text()
        yield Issuer(url, authority, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
