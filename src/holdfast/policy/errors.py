"""What can go wrong with policies: named for what happened, with the reason codes that clients know.

Names, reasons and sentences follow the AWS Organizations API Reference ("Common errors" and the exceptions of each
operation).
"""

from enum import StrEnum

from holdfast.core.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidStateError,
    LimitExceededError,
    NotFoundError,
)


class PolicyNotFoundError(NotFoundError):
    """The organization has no such policy."""

    def __init__(self, text: str = "We can't find a policy with the PolicyId that you specified.") -> None:
        super().__init__(text)


class DuplicatePolicyError(AlreadyExistsError):
    """The organization has a policy of this type and name already."""

    def __init__(self, text: str = "A policy with the same name already exists.") -> None:
        super().__init__(text)


class DuplicateAttachmentError(AlreadyExistsError):
    """The policy is attached to this node already."""

    def __init__(self, text: str = "The selected policy is already attached to the specified target.") -> None:
        super().__init__(text)


class PolicyNotAttachedError(NotFoundError):
    """The policy is not attached to this node."""

    def __init__(self, text: str = "The policy isn't attached to the specified target.") -> None:
        super().__init__(text)


class PolicyInUseError(InvalidStateError):
    """The policy is attached somewhere and so cannot be deleted."""

    def __init__(
        self, text: str = "The policy is attached to one or more entities. Detach it from all of them first."
    ) -> None:
        super().__init__(text)


class PolicyTypeAlreadyEnabledError(InvalidStateError):
    """The type is switched on already."""

    def __init__(self, text: str = "The specified policy type is already enabled.") -> None:
        super().__init__(text)


class PolicyTypeNotEnabledError(InvalidStateError):
    """The type is not switched on at the root, so policies of it cannot be attached."""

    def __init__(
        self, text: str = "This operation can be performed only for enabled policy types. Enable the type first."
    ) -> None:
        super().__init__(text)


class PolicyTypeNotAvailableError(InvalidStateError):
    """The organization does not have all features, so it has no policies of this type."""

    def __init__(
        self,
        text: str = "You can't use this policy type with the organization's feature set. Enable all features.",
    ) -> None:
        super().__init__(text)


class EffectivePolicyNotFoundError(NotFoundError):
    """There is no effective policy of this type, because the type is not switched on."""

    def __init__(self) -> None:
        super().__init__(
            "The specified policy type is not enabled. "
            "Enable that policy type on your organization root and then retry."
        )


class ResourcePolicyNotFoundError(NotFoundError):
    """The organization has no resource policy."""

    def __init__(self, text: str = "We can't find a resource policy for this organization.") -> None:
        super().__init__(text)


class PolicyInputReason(StrEnum):
    """Why an input is refused by itself."""

    IMMUTABLE_POLICY = "IMMUTABLE_POLICY"
    NON_DETACHABLE_POLICY = "NON_DETACHABLE_POLICY"
    INPUT_REQUIRED = "INPUT_REQUIRED:POLICY_TYPE"
    TOO_FEW_RESULTS = "MIN_VALUE_EXCEEDED:MAX_RESULTS"
    TOO_MANY_RESULTS = "MAX_VALUE_EXCEEDED:MAX_RESULTS"
    INVALID_RESOURCE_POLICY_JSON = "INVALID_RESOURCE_POLICY_JSON"
    UNSUPPORTED_ACTION = "UNSUPPORTED_ACTION_IN_RESOURCE_POLICY"
    INVALID_ENUM = "INVALID_ENUM:POLICY_TYPE"
    INVALID_POLICY_TYPE = "INVALID_ENUM_POLICY_TYPE"
    TARGET_NOT_SUPPORTED = "TARGET_NOT_SUPPORTED"


class PolicyInputError(InvalidInputError):
    """A value is wrong by itself; `reason` says in which way."""

    def __init__(self, reason: PolicyInputReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PolicyConstraint(StrEnum):
    """Which rule or limit of policies an operation would break."""

    POLICY_NUMBER_LIMIT_EXCEEDED = "POLICY_NUMBER_LIMIT_EXCEEDED"
    MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED = "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"
    MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED = "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"


class PolicyConstraintError(LimitExceededError):
    """A rule or limit of policies would be broken; `reason` says which."""

    def __init__(self, reason: PolicyConstraint, text: str) -> None:
        super().__init__(text)
        self.reason = reason
