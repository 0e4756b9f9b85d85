"""What can go wrong with an organization: named for what happened, with the reason codes that clients know.

Names and reasons follow the AWS Organizations API Reference ("Common errors" and the exceptions of each operation).
"""

from enum import StrEnum

from holdfast.core.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    HoldfastError,
    InvalidInputError,
    InvalidStateError,
    LimitExceededError,
    NotFoundError,
)


class NotInOrganizationError(InvalidStateError):
    """The caller's account belongs to no organization."""

    def __init__(self, text: str = "Your account is not a member of an organization.") -> None:
        super().__init__(text)


class AlreadyInOrganizationError(AlreadyExistsError):
    """The account belongs to an organization already."""

    def __init__(self, text: str = "The AWS account is already a member of an organization.") -> None:
        super().__init__(text)


class OrganizationAccessDeniedError(DeniedError):
    """Only the management account (or a delegated administrator) may do this, and the caller is neither."""

    def __init__(self, text: str = "You don't have permissions to access this resource.") -> None:
        super().__init__(text)


class AccountNotFoundError(NotFoundError):
    """There is no such account, or not in this organization."""

    def __init__(self, text: str = "You specified an account that doesn't exist.") -> None:
        super().__init__(text)


class RootNotFoundError(NotFoundError):
    """The organization has no such root."""

    def __init__(self, text: str = "You specified a root that doesn't exist.") -> None:
        super().__init__(text)


class UnitNotFoundError(NotFoundError):
    """The organization has no such unit."""

    def __init__(self, text: str = "You specified an organizational unit that doesn't exist.") -> None:
        super().__init__(text)


class ParentNotFoundError(NotFoundError):
    """The organization has no such root or unit."""

    def __init__(self, text: str = "You specified a parent that doesn't exist.") -> None:
        super().__init__(text)


class SourceParentNotFoundError(NotFoundError):
    """The account to move does not stand under the node it should be moved from."""

    def __init__(self, text: str = "You specified a source parent that doesn't hold the account.") -> None:
        super().__init__(text)


class DestinationParentNotFoundError(NotFoundError):
    """The node an account should be moved to does not exist."""

    def __init__(self, text: str = "You specified a destination parent that doesn't exist.") -> None:
        super().__init__(text)


class ChildNotFoundError(NotFoundError):
    """The organization has no such unit or account."""

    def __init__(self, text: str = "You specified a child that doesn't exist.") -> None:
        super().__init__(text)


class TargetNotFoundError(NotFoundError):
    """The organization has no such root, unit, account or policy."""

    def __init__(self, text: str = "You specified a target that doesn't exist.") -> None:
        super().__init__(text)


class CreateAccountRequestNotFoundError(NotFoundError):
    """The organization never asked for an account under this id."""

    def __init__(self, text: str = "You specified a request to create an account that doesn't exist.") -> None:
        super().__init__(text)


class HandshakeNotFoundError(NotFoundError):
    """There is no such handshake, or the caller is no party to it."""

    def __init__(self, text: str = "You specified a handshake that doesn't exist.") -> None:
        super().__init__(text)


class DuplicateUnitError(AlreadyExistsError):
    """The parent holds a unit of this name already."""

    def __init__(self, text: str = "An OU with the same name already exists.") -> None:
        super().__init__(text)


class DuplicateAccountError(AlreadyExistsError):
    """The account stands in the destination already."""

    def __init__(self, text: str = "That account is already present in the specified destination.") -> None:
        super().__init__(text)


class AccountExistsError(AlreadyExistsError):
    """Another account has this id, e-mail address, alias or external id."""


class DuplicateHandshakeError(AlreadyExistsError):
    """The same invitation is waiting for an answer already."""

    def __init__(
        self, text: str = "A handshake with the same action and target already exists for the given parties."
    ) -> None:
        super().__init__(text)


class UnitNotEmptyError(InvalidStateError):
    """The unit still holds accounts or units."""

    def __init__(
        self, text: str = "The specified OU is not empty. Move its accounts elsewhere and delete its OUs first."
    ) -> None:
        super().__init__(text)


class OrganizationNotEmptyError(InvalidStateError):
    """The organization still has member accounts."""

    def __init__(
        self, text: str = "To delete an organization you must first remove all member accounts (except the master)."
    ) -> None:
        super().__init__(text)


class ManagementCannotLeaveError(InvalidStateError):
    """The management account cannot leave its organization."""

    def __init__(
        self, text: str = "The management account can't leave its organization. Delete the organization instead."
    ) -> None:
        super().__init__(text)


class AccountAlreadyClosedError(InvalidStateError):
    """The account was closed before."""

    def __init__(self, text: str = "The provided account is already closed.") -> None:
        super().__init__(text)


class HandshakeAlreadyInStateError(InvalidStateError):
    """The handshake was given this very answer before."""

    def __init__(self, text: str = "The handshake is already in the requested state.") -> None:
        super().__init__(text)


class InvalidHandshakeTransitionError(InvalidStateError):
    """The handshake was answered, cancelled or expired, or this party cannot answer it so."""


class AccountAlreadyRegisteredError(AlreadyExistsError):
    """The account is a delegated administrator of this service already."""

    def __init__(
        self, text: str = "The provided account is already a delegated administrator for your organization."
    ) -> None:
        super().__init__(text)


class AccountNotRegisteredError(NotFoundError):
    """The account is no delegated administrator of this service."""

    def __init__(
        self, text: str = "The provided account is not a registered delegated administrator for your organization."
    ) -> None:
        super().__init__(text)


class UnsupportedEndpointError(InvalidInputError):
    """The operation is not offered here."""

    def __init__(self, text: str = "This action isn't available in the current Region.") -> None:
        super().__init__(text)


class ConcurrentChangeError(ConflictError):
    """Another request changed the same thing."""


class InputReason(StrEnum):
    """Why an input is refused by itself."""

    INVALID_PATTERN = "INVALID_PATTERN"
    INVALID_PARTY_TYPE_TARGET = "INVALID_PARTY_TYPE_TARGET"
    INVALID_ROLE_NAME = "INVALID_ROLE_NAME"
    INVALID_EMAIL_ADDRESS_TARGET = "INVALID_EMAIL_ADDRESS_TARGET"
    INVALID_SYSTEM_TAGS_PARAMETER = "INVALID_SYSTEM_TAGS_PARAMETER"
    DUPLICATE_TAG_KEY = "DUPLICATE_TAG_KEY"
    UNRECOGNIZED_SERVICE_PRINCIPAL = "UNRECOGNIZED_SERVICE_PRINCIPAL"
    TARGET_NOT_SUPPORTED = "TARGET_NOT_SUPPORTED"
    MAX_LIMIT_EXCEEDED_FILTER = "MAX_LIMIT_EXCEEDED_FILTER"


class OrganizationInputError(InvalidInputError):
    """A value is wrong by itself; `reason` says in which way."""

    def __init__(self, reason: InputReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Constraint(StrEnum):
    """Which rule or limit of an organization an operation would break."""

    ACCOUNT_NUMBER_LIMIT_EXCEEDED = "ACCOUNT_NUMBER_LIMIT_EXCEEDED"
    OU_NUMBER_LIMIT_EXCEEDED = "OU_NUMBER_LIMIT_EXCEEDED"
    OU_DEPTH_LIMIT_EXCEEDED = "OU_DEPTH_LIMIT_EXCEEDED"
    MAX_TAG_LIMIT_EXCEEDED = "MAX_TAG_LIMIT_EXCEEDED"
    WAIT_PERIOD_ACTIVE = "WAIT_PERIOD_ACTIVE"
    CANNOT_CLOSE_MANAGEMENT_ACCOUNT = "CANNOT_CLOSE_MANAGEMENT_ACCOUNT"
    CLOSE_ACCOUNT_QUOTA_EXCEEDED = "CLOSE_ACCOUNT_QUOTA_EXCEEDED"
    CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG = "CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG"
    ORGANIZATION_NOT_IN_ALL_FEATURES_MODE = "ORGANIZATION_NOT_IN_ALL_FEATURES_MODE"
    SERVICE_ACCESS_NOT_ENABLED = "SERVICE_ACCESS_NOT_ENABLED"
    POLICY_TYPE_ENABLED_FOR_THIS_SERVICE = "POLICY_TYPE_ENABLED_FOR_THIS_SERVICE"
    DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE = "DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE"
    MAX_DELEGATED_ADMINISTRATORS_FOR_SERVICE_LIMIT_EXCEEDED = "MAX_DELEGATED_ADMINISTRATORS_FOR_SERVICE_LIMIT_EXCEEDED"
    CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR = "CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR"
    CANNOT_REGISTER_SUSPENDED_ACCOUNT_AS_DELEGATED_ADMINISTRATOR = (
        "CANNOT_REGISTER_SUSPENDED_ACCOUNT_AS_DELEGATED_ADMINISTRATOR"
    )


class ConstraintError(LimitExceededError):
    """A rule or limit of the organization would be broken; `reason` says which."""

    def __init__(self, reason: Constraint, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class HandshakeConstraint(StrEnum):
    """Why a handshake cannot be sent or answered so."""

    ACCOUNT_NUMBER_LIMIT_EXCEEDED = "ACCOUNT_NUMBER_LIMIT_EXCEEDED"
    HANDSHAKE_RATE_LIMIT_EXCEEDED = "HANDSHAKE_RATE_LIMIT_EXCEEDED"
    ALREADY_IN_AN_ORGANIZATION = "ALREADY_IN_AN_ORGANIZATION"
    ORGANIZATION_ALREADY_HAS_ALL_FEATURES = "ORGANIZATION_ALREADY_HAS_ALL_FEATURES"
    ORGANIZATION_IS_ALREADY_PENDING_ALL_FEATURES_MIGRATION = "ORGANIZATION_IS_ALREADY_PENDING_ALL_FEATURES_MIGRATION"
    INVITE_DISABLED_DURING_ENABLE_ALL_FEATURES = "INVITE_DISABLED_DURING_ENABLE_ALL_FEATURES"


class HandshakeConstraintError(HoldfastError):
    """A handshake cannot be sent or answered so; `reason` says why."""

    def __init__(self, reason: HandshakeConstraint, text: str) -> None:
        super().__init__(text)
        self.reason = reason
