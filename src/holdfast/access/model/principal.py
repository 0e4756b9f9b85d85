"""Whom a statement speaks of: the Principal and NotPrincipal elements of resource-based policies.

Rules: AWS Identity and Access Management User Guide, "AWS JSON policy elements: Principal" and "... NotPrincipal".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from holdfast.access.model.caller import Caller, CallerKind
from holdfast.core.errors import InvalidInputError

_ACCOUNT = re.compile(r"\d{12}\Z")
_ROOT_ARN = re.compile(r"arn:[a-z-]+:iam::(?P<account>\d{12}):root\Z")
_IDENTITY_ARN = re.compile(r"arn:[a-z-]+:(iam::\d{12}:(user|role)/.+|sts::\d{12}:(assumed-role|federated-user)/.+)\Z")
_UNIQUE_ID = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}\Z")
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com(\.cn)?\Z")
_KINDS = ("AWS", "Service", "Federated", "CanonicalUser")


class InvalidPrincipalError(InvalidInputError):
    """A principal in a policy document is not well formed."""


class Grade(IntEnum):
    """How closely a statement names the caller; what it grants depends on that."""

    NOT = 0
    ACCOUNT = 1
    """The caller's account: it may give the right on to its principals."""
    EVERYBODY = 2
    """Anybody at all."""
    ROLE = 3
    """The role that the session acts in."""
    ITSELF = 4
    """This user, this session, this service: nothing narrows the grant but an explicit deny."""


@dataclass(frozen=True, slots=True)
class Principals:
    """The principals that one statement names."""

    everybody: bool
    accounts: frozenset[str]
    identities: frozenset[str]
    """ARNs and unique ids of users, roles and sessions."""
    services: frozenset[str]
    providers: frozenset[str]

    def grade(self, caller: Caller) -> Grade:
        """Return how closely these principals name the caller."""
        if caller.kind is CallerKind.SERVICE:
            if caller.arn in self.services:
                return Grade.ITSELF
            return Grade.EVERYBODY if self.everybody else Grade.NOT
        if caller.kind is CallerKind.FEDERATED:
            if caller.federated_provider in self.providers:
                return Grade.ITSELF
            return Grade.EVERYBODY if self.everybody else Grade.NOT
        if caller.kind is CallerKind.ROOT and caller.account in self.accounts:
            return Grade.ITSELF
        if caller.arn in self.identities:
            return Grade.ITSELF
        if caller.principal_arn in self.identities or caller.unique_id in self.identities:
            return Grade.ROLE if caller.kind is CallerKind.ROLE else Grade.ITSELF
        if self.everybody:
            return Grade.EVERYBODY
        return Grade.ACCOUNT if caller.account in self.accounts else Grade.NOT

    def spares(self, caller: Caller) -> bool:
        """Return whether a Deny with these as NotPrincipal leaves the caller alone.

        Everything that stands for the caller must be named: the account, the role, and the session in it.
        """
        if self.everybody:
            return True
        if caller.kind is CallerKind.SERVICE:
            return caller.arn in self.services
        if caller.kind is CallerKind.FEDERATED:
            return caller.federated_provider in self.providers
        if caller.account not in self.accounts:
            return False
        if caller.kind is CallerKind.ROOT:
            return True
        names_principal = caller.principal_arn in self.identities or caller.unique_id in self.identities
        return names_principal and caller.arn in self.identities


def _texts(value: Any, where: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidPrincipalError(f"{where} is a text or a list of texts")
    return texts


def parse_principals(element: Any, *, name: str) -> Principals:
    """Return the principals that the element called `name` (Principal or NotPrincipal) spells.

    Raises:
        InvalidPrincipalError: it is not `*`, nor kinds of principals with their names.
    """
    if element == "*":
        return Principals(True, frozenset(), frozenset(), frozenset(), frozenset())
    if not isinstance(element, Mapping) or not element:
        raise InvalidPrincipalError(f'{name} is "*" or an object such as {{"AWS": "arn:aws:iam::111122223333:root"}}')
    everybody = False
    accounts, identities, services, providers = set(), set(), set(), set()
    for kind, value in element.items():
        if kind not in _KINDS:
            raise InvalidPrincipalError(f"{name} knows {', '.join(_KINDS)}, not {kind!r}")
        for text in _texts(value, f"{name}.{kind}"):
            if kind == "AWS":
                root = _ROOT_ARN.match(text)
                if text == "*":
                    everybody = True
                elif _ACCOUNT.match(text):
                    accounts.add(text)
                elif root is not None:
                    accounts.add(root["account"])
                elif _UNIQUE_ID.match(text) or (_IDENTITY_ARN.match(text) and not set(text) & {"*", "?"}):
                    identities.add(text)
                else:
                    raise InvalidPrincipalError(
                        f"{name}.AWS takes *, an account id, or the ARN of an account's root, a user, a role or a "
                        f"session without wildcards; {text!r} is none of them"
                    )
            elif kind == "Service":
                if _SERVICE.match(text) is None:
                    raise InvalidPrincipalError(f"{name}.Service takes names like backup.amazonaws.com, not {text!r}")
                services.add(text)
            elif kind == "Federated":
                providers.add(text)
    if name == "NotPrincipal" and everybody:
        raise InvalidPrincipalError("NotPrincipal takes no *, since nobody is left then")
    return Principals(everybody, frozenset(accounts), frozenset(identities), frozenset(services), frozenset(providers))
