"""How the things of an organization are named: ARNs, e-mail addresses, aliases."""

import re
from dataclasses import dataclass
from typing import Final

from holdfast.organization.errors import InputReason, OrganizationInputError
from holdfast.organization.model.tree import NodeKind, kind_of

_LOCAL_FORBIDDEN: Final = frozenset("\"'()<>[]:;,\\|%&")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_ALIAS: Final = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]")
_ACCOUNT_ID: Final = re.compile(r"[0-9]{12}")
_EXTERNAL_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SHORTEST_EMAIL: Final = 6
_LONGEST_EMAIL: Final = 64


@dataclass(frozen=True, slots=True)
class OrganizationArns:
    """Makes the ARNs of one organization's things, in the partition that the request came in.

    Formats: Service Authorization Reference, "Actions, resources, and condition keys for AWS Organizations".
    """

    partition: str
    management_account: str
    organization_id: str

    def organization(self) -> str:
        """Return the organization's own ARN."""
        return self._make(f"organization/{self.organization_id}")

    def root(self, root_id: str) -> str:
        """Return the root's ARN."""
        return self._make(f"root/{self.organization_id}/{root_id}")

    def unit(self, unit_id: str) -> str:
        """Return a unit's ARN."""
        return self._make(f"ou/{self.organization_id}/{unit_id}")

    def account(self, account_id: str) -> str:
        """Return an account's ARN."""
        return self._make(f"account/{self.organization_id}/{account_id}")

    def policy(self, policy_type: str, policy_id: str) -> str:
        """Return the ARN of a policy of the organization's own, whose type is named as in the API."""
        return self._make(f"policy/{self.organization_id}/{policy_type.lower()}/{policy_id}")

    def handshake(self, action: str, handshake_id: str) -> str:
        """Return a handshake's ARN."""
        return self._make(f"handshake/{self.organization_id}/{action.lower()}/{handshake_id}")

    def resource_policy(self, policy_id: str) -> str:
        """Return the ARN of the organization's resource policy."""
        return self._make(f"resourcepolicy/{self.organization_id}/{policy_id}")

    def node(self, node_id: str) -> str:
        """Return the ARN of a root, unit or account, told apart by the form of the id.

        Raises:
            OrganizationInputError: it is the id of none of them.
        """
        match kind_of(node_id):
            case NodeKind.ROOT:
                return self.root(node_id)
            case NodeKind.UNIT:
                return self.unit(node_id)
            case NodeKind.ACCOUNT:
                return self.account(node_id)
            case _:
                raise OrganizationInputError(
                    InputReason.INVALID_PATTERN,
                    f"You provided a value that does not match the required pattern: {node_id!r} is not the id of a "
                    "root, organizational unit or account.",
                )

    def _make(self, resource: str) -> str:
        return f"arn:{self.partition}:organizations::{self.management_account}:{resource}"


def email_problem(email: str) -> str | None:
    """Return what is wrong with an e-mail address, None if nothing is.

    The rules are those of CreateAccount's Email member in the AWS Organizations API Reference.
    """
    local, at, domain = email.partition("@")
    if not _SHORTEST_EMAIL <= len(email) <= _LONGEST_EMAIL:
        return f"An e-mail address has {_SHORTEST_EMAIL} to {_LONGEST_EMAIL} characters."
    if not email.isascii():
        return "An e-mail address has only ASCII characters."
    if not at or not local or "@" in domain:
        return "An e-mail address has exactly one @, with a name before it."
    if local.startswith(".") or any(c.isspace() or c in _LOCAL_FORBIDDEN for c in local):
        return (
            "The part before the @ may not begin with a dot nor hold blanks or any of \" ' ( ) < > [ ] : ; , \\ | % &"
        )
    if not _DOMAIN.fullmatch(domain) or domain[0] in "-." or domain[-1] in "-.":
        return "The part after the @ is a domain name with at least one dot."
    return None


def alias_problem(alias: str) -> str | None:
    """Return what is wrong with an account alias, None if nothing is.

    The rules are IAM's: 3 to 63 lower-case letters, digits and single hyphens, and not twelve digits.
    """
    if not _ALIAS.fullmatch(alias) or _ACCOUNT_ID.fullmatch(alias):
        return (
            "An alias has 3 to 63 lower-case letters, digits and single hyphens inside, and is not a number of "
            "twelve digits."
        )
    return None


def external_id_problem(external_id: str) -> str | None:
    """Return what is wrong with an external id, None if nothing is."""
    if not _EXTERNAL_ID.fullmatch(external_id):
        return "An external id has 1 to 128 printable ASCII characters and no blanks."
    return None


def account_id_problem(account_id: str) -> str | None:
    """Return what is wrong with a given account id, None if nothing is."""
    if not _ACCOUNT_ID.fullmatch(account_id) or account_id == "0" * 12:
        return "An account id has twelve digits."
    return None
