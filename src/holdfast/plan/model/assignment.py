"""What a selection of an account's own plan may say, and how much of it.

Rules and limits: AWS Backup API Reference, "BackupSelection", "Condition" and "ConditionParameter"; AWS Backup
Developer Guide, "AWS Backup quotas".
"""

import re
from typing import Final

from holdfast.core.errors import InvalidInputError
from holdfast.plan.model.selection import Selection

MOST_SELECTIONS: Final = 100
"""Of one plan."""
MOST_ARNS: Final = 500
MOST_PATTERNS: Final = 30
MOST_CONDITIONS: Final = 30
MOST_TAGS: Final = 30
_PREFIX: Final = "aws:ResourceTag/"
_LONGEST_KEY: Final = 128
_LONGEST_VALUE: Final = 256
_ARN: Final = re.compile(r"\*|arn:[^:\s]+:[^:\s]+:(?:\*|[^:\s]*:[^:\s]*:\S.*)")


class InvalidSelectionError(InvalidInputError):
    """A selection cannot be as it was given."""


def refuse_bad_selection(selection: Selection) -> None:
    """Refuse a selection that cannot be; one that names nothing takes every resource.

    Raises:
        InvalidSelectionError: with what is wrong in it.
    """
    named = (*selection.resources, *selection.not_resources)
    for text in named:
        if not _ARN.fullmatch(text):
            raise InvalidSelectionError(f"Invalid ARN: {text!r} is neither an ARN, perhaps with *, nor * alone")
    patterns = sum("*" in text for text in named)
    for what, count, most in (
        ("ARNs without *", len(named) - patterns, MOST_ARNS),
        ("ARNs with *", patterns, MOST_PATTERNS),
        ("Conditions", len(selection.conditions), MOST_CONDITIONS),
        ("tags", len(selection.tags), MOST_TAGS),
    ):
        if count > most:
            raise InvalidSelectionError(f"A selection names {most} {what} at most, not {count}")
    for term in selection.tags:
        _refuse_bad_tag(term.key, term.value)
    for condition in selection.conditions:
        if not condition.key.startswith(_PREFIX):
            raise InvalidSelectionError(f"Invalid condition key {condition.key!r}: conditions are about {_PREFIX}KEY")
        _refuse_bad_tag(condition.key.removeprefix(_PREFIX), condition.value)


def _refuse_bad_tag(key: str, value: str) -> None:
    if not 1 <= len(key) <= _LONGEST_KEY or len(value) > _LONGEST_VALUE:
        raise InvalidSelectionError(
            f"The tag {key[:40]!r}: a key has 1 to {_LONGEST_KEY} characters, a value at most {_LONGEST_VALUE}"
        )
