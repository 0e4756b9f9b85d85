"""What can go wrong, named for what happened; `str(error)` is a sentence for a person.

Each station declares its narrower classes beside the code that raises them. `wire/errors.py` alone gives them the
codes that clients of the API know.
"""


class HoldfastError(Exception):
    """Something that was asked for could not be done; the text says why and what to do."""


class NotFoundError(HoldfastError):
    """What was named does not exist."""


class AlreadyExistsError(HoldfastError):
    """What should be made exists already."""


class InvalidInputError(HoldfastError):
    """What was given does not make sense by itself, whatever the state of things."""


class InvalidStateError(HoldfastError):
    """What was asked for cannot be done in the present state of things."""


class LimitExceededError(HoldfastError):
    """A published limit would be passed."""


class ConflictError(HoldfastError):
    """Somebody else changed the same thing; reading it again and repeating the call helps."""


class DeniedError(HoldfastError):
    """The caller may not do this; the text says which policy decided."""


class DamagedError(HoldfastError):
    """Stored bytes are not what was written: a checksum, a signature or a structure is wrong."""


class UnavailableError(HoldfastError):
    """A part that is needed does not answer now; trying again later may help."""
