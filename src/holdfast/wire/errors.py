"""How errors sound to clients: the one table from what went wrong to the code, status and members of each service.

A class that is not in the table sounds like the nearest class above it that is. Whoever declares a narrower class
adds it here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.access.model import MalformedPolicyError
from holdfast.access.model.identity import InvalidNameError, ProtectedIdentityError
from holdfast.access.model.password import NoUserError, WeakPasswordError
from holdfast.access.model.second_factor import WrongCodeError
from holdfast.access.model.web_identity import (
    ExpiredIdentityTokenError,
    InvalidIdentityTokenError,
    IssuerUnreachableError,
)
from holdfast.access.tag import InvalidTagError
from holdfast.core.errors import (
    AlreadyExistsError,
    ConflictError,
    DamagedError,
    DeniedError,
    HoldfastError,
    InvalidInputError,
    InvalidStateError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
)
from holdfast.database.idempotency import TokenReusedError
from holdfast.key.model import IncorrectKeyError, InvalidCiphertextError, KeyDisabledError
from holdfast.key.service import InvalidAliasError
from holdfast.organization import errors as organization
from holdfast.plan.service import PresentError
from holdfast.policy import errors as policy
from holdfast.policy.model.document import MalformedPolicyError as MalformedOrganizationPolicyError
from holdfast.recovery.hold import HoldReleasedError
from holdfast.recovery.model import PointBusyError
from holdfast.source.restore_metadata import OptionMissingError
from holdfast.vault.ledger import CatalogueBehindError
from holdfast.vault.model import VaultExistsError
from holdfast.wire.attempts import TooManyAttemptsError
from holdfast.wire.jsonbody import MalformedBodyError
from holdfast.wire.model import Service
from holdfast.wire.paging import InvalidPageTokenError
from holdfast.wire.protocol import ErrorReply, UnknownOperationError
from holdfast.wire.signature import Flaw, SignatureError
from holdfast.wire.validation import Fault, InvalidParametersError


class UnsupportedOperationError(HoldfastError):
    """The service has this operation, Holdfast has not."""

    def __init__(self, service: str, operation: str) -> None:
        super().__init__(
            f"Holdfast does not offer the operation {operation} of {service}. Calling it again will not help"
        )


class ExpiredSessionError(DeniedError):
    """The session that a request was signed with has ended."""


class TooManyCallsError(UnavailableError):
    """More calls came in at once than are let wait."""


@dataclass(frozen=True, slots=True)
class Code:
    """What one service calls an error; a status only where it is not the one of the model, or 400."""

    code: str
    status: int | None = None
    members: Mapping[str, Any] = field(default_factory=dict)


EVERYWHERE = "*"
"""Stands for the services that an error has no code of its own for."""

CODES: dict[type[Exception], dict[str, Code]] = {
    HoldfastError: {EVERYWHERE: Code("InvalidRequestException"), "organizations": Code("ConstraintViolationException")},
    NotFoundError: {
        EVERYWHERE: Code("ResourceNotFoundException"),
        "iam": Code("NoSuchEntity"),
        "kms": Code("NotFoundException"),
        "organizations": Code("TargetNotFoundException"),
        "resourcegroupstaggingapi": Code("InvalidParameterException"),
    },
    AlreadyExistsError: {
        EVERYWHERE: Code("AlreadyExistsException"),
        "holdfast": Code("ConflictException"),
        "iam": Code("EntityAlreadyExists"),
        "organizations": Code("ConflictException"),
    },
    InvalidInputError: {
        EVERYWHERE: Code("ValidationException"),
        "backup": Code("InvalidParameterValueException"),
        "iam": Code("InvalidInput"),
        "organizations": Code("InvalidInputException", members={"Reason": "INVALID_PATTERN"}),
        "resourcegroupstaggingapi": Code("InvalidParameterException"),
        "sts": Code("ValidationError"),
    },
    InvalidPageTokenError: {
        EVERYWHERE: Code("ValidationException"),
        "backup": Code("InvalidParameterValueException"),
        "iam": Code("ValidationError"),
        "kms": Code("InvalidMarkerException"),
        "organizations": Code("InvalidInputException", members={"Reason": "INVALID_NEXT_TOKEN"}),
        "resourcegroupstaggingapi": Code("PaginationTokenExpiredException"),
    },
    InvalidStateError: {
        EVERYWHERE: Code("InvalidRequestException"),
        "iam": Code("DeleteConflict"),
        "kms": Code("KMSInvalidStateException"),
        "organizations": Code("ConstraintViolationException"),
    },
    LimitExceededError: {
        EVERYWHERE: Code("LimitExceededException"),
        "iam": Code("LimitExceeded"),
        "organizations": Code("ConstraintViolationException"),
    },
    # The one that every operation with a token has in its model.
    TokenReusedError: {EVERYWHERE: Code("InvalidRequestException"), "backup": Code("InvalidParameterValueException")},
    OptionMissingError: {
        EVERYWHERE: Code("ValidationException"),
        "backup": Code("MissingParameterValueException"),
    },
    PointBusyError: {EVERYWHERE: Code("InvalidResourceStateException")},
    HoldReleasedError: {EVERYWHERE: Code("InvalidResourceStateException")},
    CatalogueBehindError: {EVERYWHERE: Code("InvalidRequestException")},
    ConflictError: {
        EVERYWHERE: Code("ConflictException"),
        "iam": Code("ConcurrentModification"),
        "organizations": Code("ConcurrentModificationException"),
        "resourcegroupstaggingapi": Code("ConstraintViolationException"),
    },
    DeniedError: {
        EVERYWHERE: Code("AccessDeniedException"),
        "iam": Code("AccessDenied", 403),
        "sts": Code("AccessDenied", 403),
        "backup": Code("AccessDeniedException", 403),
        "holdfast": Code("AccessDeniedException", 403),
    },
    ExpiredSessionError: {
        EVERYWHERE: Code("ExpiredTokenException"),
        "iam": Code("ExpiredToken", 403),
        "sts": Code("ExpiredToken", 403),
        "backup": Code("ExpiredTokenException", 403),
        "holdfast": Code("ExpiredTokenException", 403),
    },
    MalformedPolicyError: {
        EVERYWHERE: Code("MalformedPolicyDocumentException"),
        "backup": Code("InvalidParameterValueException"),
        "holdfast": Code("ValidationException"),
        "iam": Code("MalformedPolicyDocument"),
        "sts": Code("MalformedPolicyDocument"),
    },
    InvalidNameError: {EVERYWHERE: Code("ValidationException"), "iam": Code("ValidationError")},
    InvalidTagError: {
        EVERYWHERE: Code("ValidationException"),
        "backup": Code("InvalidParameterValueException"),
        "iam": Code("InvalidInput"),
        "kms": Code("TagException"),
        "organizations": Code("InvalidInputException", members={"Reason": "INVALID_PATTERN"}),
        "resourcegroupstaggingapi": Code("InvalidParameterException"),
        "sts": Code("ValidationError"),
    },
    ExpiredIdentityTokenError: {EVERYWHERE: Code("ExpiredTokenException", 400)},
    InvalidIdentityTokenError: {EVERYWHERE: Code("ValidationException"), "sts": Code("InvalidIdentityToken")},
    IssuerUnreachableError: {
        EVERYWHERE: Code("ServiceUnavailableException", 500),
        "sts": Code("IDPCommunicationError", 400),
    },
    NoUserError: {EVERYWHERE: Code("InvalidRequestException"), "iam": Code("InvalidUserType")},
    WeakPasswordError: {EVERYWHERE: Code("ValidationException"), "iam": Code("PasswordPolicyViolation")},
    WrongCodeError: {
        EVERYWHERE: Code("AccessDeniedException", 403),
        "iam": Code("InvalidAuthenticationCode", 403),
        "sts": Code("AccessDenied", 403),
    },
    ProtectedIdentityError: {EVERYWHERE: Code("InvalidRequestException"), "iam": Code("UnmodifiableEntity")},
    KeyDisabledError: {EVERYWHERE: Code("InvalidRequestException"), "kms": Code("DisabledException")},
    # Clients call again after a 500; damaged bytes do not mend by that, so these are refusals.
    DamagedError: {EVERYWHERE: Code("InvalidResourceStateException"), "kms": Code("KMSInvalidStateException")},
    UnavailableError: {
        EVERYWHERE: Code("ServiceUnavailableException", 500),
        "iam": Code("ServiceUnavailable", 503),
        "kms": Code("KeyUnavailableException", 500),
        "organizations": Code("ServiceException", 500),
        "sts": Code("ServiceUnavailable", 503),
    },
    TooManyAttemptsError: {
        EVERYWHERE: Code("ThrottlingException", 429),
        "iam": Code("Throttling", 400),
        "organizations": Code("TooManyRequestsException"),
        "sts": Code("Throttling", 400),
    },
    TooManyCallsError: {
        EVERYWHERE: Code("ThrottlingException", 429),
        "iam": Code("Throttling", 400),
        "organizations": Code("TooManyRequestsException"),
        "sts": Code("Throttling", 400),
    },
    UnsupportedOperationError: {
        EVERYWHERE: Code("UnsupportedOperationException"),
        # The one error that the model of every operation has. Clients try again by the status, so it is not 5xx.
        "backup": Code("ServiceUnavailableException", 400),
        "organizations": Code("UnsupportedAPIEndpointException"),
    },
    UnknownOperationError: {
        EVERYWHERE: Code("UnknownOperationException"),
        "cloudformation": Code("InvalidAction"),
        "iam": Code("InvalidAction"),
        "sns": Code("InvalidAction"),
        "sts": Code("InvalidAction"),
    },
    MalformedBodyError: {
        EVERYWHERE: Code("SerializationException"),
        "cloudformation": Code("MalformedInput"),
        "iam": Code("MalformedInput"),
        "sns": Code("MalformedInput"),
        "sts": Code("MalformedInput"),
    },
}

# AWS Organizations API Reference: the exceptions of each operation.
_ORGANIZATIONS_CODES: dict[type[HoldfastError], str] = {
    organization.NotInOrganizationError: "AWSOrganizationsNotInUseException",
    organization.AlreadyInOrganizationError: "AlreadyInOrganizationException",
    organization.OrganizationAccessDeniedError: "AccessDeniedException",
    organization.AccountNotFoundError: "AccountNotFoundException",
    organization.RootNotFoundError: "RootNotFoundException",
    organization.UnitNotFoundError: "OrganizationalUnitNotFoundException",
    organization.ParentNotFoundError: "ParentNotFoundException",
    organization.SourceParentNotFoundError: "SourceParentNotFoundException",
    organization.DestinationParentNotFoundError: "DestinationParentNotFoundException",
    organization.ChildNotFoundError: "ChildNotFoundException",
    organization.TargetNotFoundError: "TargetNotFoundException",
    organization.CreateAccountRequestNotFoundError: "CreateAccountStatusNotFoundException",
    organization.HandshakeNotFoundError: "HandshakeNotFoundException",
    organization.DuplicateUnitError: "DuplicateOrganizationalUnitException",
    organization.DuplicateAccountError: "DuplicateAccountException",
    organization.DuplicateHandshakeError: "DuplicateHandshakeException",
    organization.UnitNotEmptyError: "OrganizationalUnitNotEmptyException",
    organization.OrganizationNotEmptyError: "OrganizationNotEmptyException",
    organization.ManagementCannotLeaveError: "MasterCannotLeaveOrganizationException",
    organization.AccountAlreadyClosedError: "AccountAlreadyClosedException",
    organization.HandshakeAlreadyInStateError: "HandshakeAlreadyInStateException",
    organization.InvalidHandshakeTransitionError: "InvalidHandshakeTransitionException",
    organization.AccountAlreadyRegisteredError: "AccountAlreadyRegisteredException",
    organization.AccountNotRegisteredError: "AccountNotRegisteredException",
    organization.UnsupportedEndpointError: "UnsupportedAPIEndpointException",
    organization.ConcurrentChangeError: "ConcurrentModificationException",
    organization.OrganizationInputError: "InvalidInputException",
    organization.ConstraintError: "ConstraintViolationException",
    organization.HandshakeConstraintError: "HandshakeConstraintViolationException",
    policy.DuplicateAttachmentError: "DuplicatePolicyAttachmentException",
    policy.DuplicatePolicyError: "DuplicatePolicyException",
    policy.EffectivePolicyNotFoundError: "EffectivePolicyNotFoundException",
    policy.PolicyInUseError: "PolicyInUseException",
    policy.PolicyNotAttachedError: "PolicyNotAttachedException",
    policy.PolicyNotFoundError: "PolicyNotFoundException",
    policy.PolicyTypeAlreadyEnabledError: "PolicyTypeAlreadyEnabledException",
    policy.PolicyTypeNotAvailableError: "PolicyTypeNotAvailableForOrganizationException",
    policy.PolicyTypeNotEnabledError: "PolicyTypeNotEnabledException",
    policy.ResourcePolicyNotFoundError: "ResourcePolicyNotFoundException",
    MalformedOrganizationPolicyError: "MalformedPolicyDocumentException",
}


# AWS KMS API Reference: the exceptions of each operation.
_KMS_CODES: dict[type[HoldfastError], str] = {
    IncorrectKeyError: "IncorrectKeyException",
    InvalidAliasError: "InvalidAliasNameException",
    InvalidCiphertextError: "InvalidCiphertextException",
}


def _add_codes_of(service: str, codes: Mapping[type[HoldfastError], str]) -> None:
    """Add classes that one service has codes for; at the others they sound like the nearest class above them."""
    for kind, code in codes.items():
        elsewhere = next(CODES[above] for above in kind.__mro__[1:] if above in CODES)
        CODES[kind] = {**elsewhere, service: Code(code)}


_add_codes_of("organizations", _ORGANIZATIONS_CODES)
_add_codes_of("kms", _KMS_CODES)

_QUERY_FLAWS = {
    Flaw.MISSING: Code("MissingAuthenticationToken", 403),
    Flaw.INCOMPLETE: Code("IncompleteSignature", 403),
    Flaw.UNKNOWN_KEY: Code("InvalidClientTokenId", 403),
    Flaw.MISMATCH: Code("SignatureDoesNotMatch", 403),
    Flaw.SKEWED: Code("SignatureDoesNotMatch", 403),
    Flaw.EXPIRED_SESSION: Code("ExpiredToken", 403),
    Flaw.WRONG_SCOPE: Code("SignatureDoesNotMatch", 403),
}
_JSON_FLAWS = {
    Flaw.MISSING: Code("MissingAuthenticationTokenException", 403),
    Flaw.INCOMPLETE: Code("IncompleteSignatureException", 403),
    Flaw.UNKNOWN_KEY: Code("UnrecognizedClientException", 403),
    Flaw.MISMATCH: Code("InvalidSignatureException", 403),
    Flaw.SKEWED: Code("InvalidSignatureException", 403),
    Flaw.EXPIRED_SESSION: Code("ExpiredTokenException", 403),
    Flaw.WRONG_SCOPE: Code("InvalidSignatureException", 403),
}

# AWS Organizations API Reference, "InvalidInputException": its reasons, each with what the service says of it.
_ORGANIZATIONS_REASONS = {
    Fault.MISSING: ("INPUT_REQUIRED", "You must provide a value for the parameter."),
    Fault.TYPE: ("INVALID_PATTERN", "You provided a value that does not match the required pattern."),
    Fault.ENUM: ("INVALID_ENUM", "You specified an invalid value."),
    Fault.PATTERN: ("INVALID_PATTERN", "You provided a value that does not match the required pattern."),
    Fault.TOO_SHORT: ("MIN_LENGTH_EXCEEDED", "You provided a string that is shorter than the minimum length."),
    Fault.TOO_LONG: ("MAX_LENGTH_EXCEEDED", "You provided a string that exceeds that maximum length."),
    Fault.TOO_SMALL: ("MIN_VALUE_EXCEEDED", "You provided a number that is smaller than the minimum value."),
    Fault.TOO_LARGE: ("MAX_VALUE_EXCEEDED", "You provided a number that exceeds the maximum value."),
    Fault.UNION: ("INVALID_PATTERN", "You provided a value that does not match the required pattern."),
}
_WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_INDEX = re.compile(r"\[[^\]]*\]")
_VALIDATION_CODES = {
    "backup": "InvalidParameterValueException",
    "cloudformation": "ValidationError",
    "cloudtrail": "InvalidParameterCombinationException",
    "iam": "ValidationError",
    "organizations": "InvalidInputException",
    "ram": "InvalidParameterException",
    "resourcegroupstaggingapi": "InvalidParameterException",
    "sns": "InvalidParameter",
    "sts": "ValidationError",
}
_INTERNAL = {
    "backup": Code("ServiceUnavailableException", 500),
    "iam": Code("ServiceFailure", 500),
    "kms": Code("KMSInternalException", 500),
    "organizations": Code("ServiceException", 500),
}


def error_reply(service: Service, error: Exception) -> ErrorReply | None:
    """Return how `service` tells a client of `error`, None if the error is none that a client should be told of."""
    if isinstance(error, InvalidParametersError):
        return _validation_reply(service, error)
    if isinstance(error, SignatureError):
        code = (_QUERY_FLAWS if service.protocol == "query" else _JSON_FLAWS)[error.flaw]
        return ErrorReply(code.code, str(error), code.status or 403)
    for kind in type(error).__mro__:
        codes = CODES.get(kind)
        if codes is not None:
            return _reply(service, codes.get(service.name) or codes[EVERYWHERE], error)
    return None


def internal_reply(service: Service, request_id: str) -> ErrorReply:
    """Return the reply to a call that failed for a reason which only the log knows."""
    code = _INTERNAL.get(service.name, Code("InternalServerException", 500))
    sentence = f"The call failed inside the server. Its log tells why, under request id {request_id}"
    return ErrorReply(code.code, sentence, code.status or 500)


def _reply(service: Service, code: Code, error: Exception) -> ErrorReply:
    modelled = service.errors.get(code.code)
    status = code.status or (modelled.status if modelled is not None else None) or 400
    members = dict(code.members)
    if isinstance(error, VaultExistsError | PresentError):
        members |= {"Arn": error.arn, "CreatorRequestId": error.creator_request_id}
    reason = getattr(error, "reason", None)
    if isinstance(reason, str) and modelled is not None and "Reason" in modelled.members:
        members["Reason"] = reason
    return ErrorReply(code.code, str(error), status, members)


def _validation_reply(service: Service, error: InvalidParametersError) -> ErrorReply:
    problems = error.problems
    count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
    sentence = f"{count}: {'; '.join(each.sentence for each in problems)}"
    if service.name == "organizations":
        reason, frame = _ORGANIZATIONS_REASONS[problems[0].fault]
        member = _WORD_BOUNDARY.sub("_", _INDEX.sub("", problems[0].path)).replace(".", "_").upper()
        return ErrorReply("InvalidInputException", f"{frame} {sentence}", 400, {"Reason": f"{reason}:{member}"})
    if service.name == "backup" and all(each.fault is Fault.MISSING for each in problems):
        return ErrorReply("MissingParameterValueException", sentence)
    return ErrorReply(_VALIDATION_CODES.get(service.name, "ValidationException"), sentence)
