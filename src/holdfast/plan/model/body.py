"""The body of a plan that an account makes itself: read from text and written, compared, and refused where it is wrong.

Rules and limits: AWS Backup API Reference, "BackupPlanInput" and "BackupRuleInput"; AWS Backup Developer Guide, "Backup
plan options and configuration" and "AWS Backup quotas".
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, Final
from zoneinfo import available_timezones

import orjson

from holdfast.access.tag import InvalidTagError, check_tags
from holdfast.calendar.cron import InvalidScheduleError, parse
from holdfast.core.arn import Arn, InvalidArnError
from holdfast.core.errors import InvalidInputError
from holdfast.core.ids import new_uuid
from holdfast.plan.model.lifecycle import (
    LONGEST_CONTINUOUS_DAYS,
    InvalidLifecycleError,
    normal,
    refuse_bad_lifecycle,
)
from holdfast.plan.model.plan import LONGEST_WINDOW_MINUTES, CopyAction, Lifecycle, Rule

MOST_RULES: Final = 10
MOST_COPIES: Final = 5
MOST_POINT_TAGS: Final = 10
SHORTEST_WINDOW: Final = timedelta(minutes=60)
_LONGEST_WINDOW: Final = timedelta(minutes=LONGEST_WINDOW_MINUTES)
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "EC2": frozenset({"WindowsVSS"}),
    "S3": frozenset({"BackupACLs", "BackupObjectTags"}),
}
_SWITCH: Final = ("enabled", "disabled")
_INDEXED_TYPES: Final = ("EBS", "S3")


class InvalidPlanError(InvalidInputError):
    """A plan cannot be as it was given."""


@dataclass(frozen=True, slots=True)
class PlanBody:
    """What a version of a plan says."""

    name: str
    rules: tuple[Rule, ...]
    advanced_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """The content's address, whatever ids its rules have."""
        return hashlib.sha256(replace(self, rules=tuple(replace(r, id="") for r in self.rules)).to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Return it as canonical JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS, default=_minutes)

    @classmethod
    def from_json(cls, content: str) -> "PlanBody":
        """Return the body that `to_json` wrote."""
        read = orjson.loads(content)
        return cls(read["name"], tuple(_rule(rule) for rule in read["rules"]), read["advanced_settings"])


def with_rule_ids(body: PlanBody, earlier: PlanBody | None = None) -> PlanBody:
    """Return the body with an id for each rule: the one that a rule of the same name had before, or a new one."""
    known = {} if earlier is None else {rule.name: rule.id for rule in earlier.rules}
    return replace(body, rules=tuple(replace(rule, id=known.get(rule.name) or new_uuid()) for rule in body.rules))


def refuse_bad_body(body: PlanBody) -> None:
    """Refuse a plan that cannot be.

    Raises:
        InvalidPlanError: with the rule that is wrong, and what is wrong in it.
    """
    if not _NAME.fullmatch(body.name):
        raise InvalidPlanError("BackupPlanName must be 1 to 200 letters, digits, '-', '_' and '.'")
    if not 1 <= len(body.rules) <= MOST_RULES:
        raise InvalidPlanError(f"A backup plan has 1 to {MOST_RULES} rules, not {len(body.rules)}")
    for name, times in Counter(rule.name for rule in body.rules).items():
        if times > 1:
            raise InvalidPlanError(f"Error in rule {name} : The plan has {times} rules of this name")
    for rule in body.rules:
        for fault in _faults(rule):
            raise InvalidPlanError(f"Error in rule {rule.name} : {fault}")
    for kind, options in body.advanced_settings.items():
        if kind not in _OPTIONS:
            raise InvalidPlanError(f"AdvancedBackupSettings are for {' and '.join(_OPTIONS)}, not for {kind!r}")
        for option, value in options.items():
            if option not in _OPTIONS[kind] or value not in _SWITCH:
                known = ", ".join(sorted(_OPTIONS[kind]))
                raise InvalidPlanError(
                    f"Invalid backup option {option} = {value} for {kind}: there are {known}, enabled or disabled"
                )


def _faults(rule: Rule) -> Iterator[str]:
    yield from _schedule_faults(rule)
    for what, window in (
        ("StartWindowMinutes", rule.start_window),
        ("CompletionWindowMinutes", rule.completion_window),
    ):
        if not SHORTEST_WINDOW <= window <= _LONGEST_WINDOW:
            yield f"{what} must be between 60 and {LONGEST_WINDOW_MINUTES} minutes"
    yield from _lifecycle_faults(rule.lifecycle, continuous=rule.continuous)
    try:
        check_tags(rule.recovery_point_tags.items())
    except InvalidTagError as error:
        yield f"RecoveryPointTags: {error}"
    if len(rule.recovery_point_tags) > MOST_POINT_TAGS:
        yield f"RecoveryPointTags may be {MOST_POINT_TAGS}, not {len(rule.recovery_point_tags)}"
    if len(rule.copies) > MOST_COPIES:
        yield f"CopyActions may be {MOST_COPIES}, not {len(rule.copies)}"
    for target, times in Counter(copy.vault_arn for copy in rule.copies).items():
        if times > 1:
            yield f"CopyActions name {target} {times} times"
    for copy in rule.copies:
        yield from _vault_faults("DestinationBackupVaultArn", copy.vault_arn)
        yield from _lifecycle_faults(copy.lifecycle, continuous=False)
    if rule.air_gapped_vault_arn is not None:
        yield from _vault_faults("TargetLogicallyAirGappedBackupVaultArn", rule.air_gapped_vault_arn)
    for kind in rule.index_types:
        if kind not in _INDEXED_TYPES:
            yield f"IndexActions are for {' and '.join(_INDEXED_TYPES)}, not for {kind!r}"


def _schedule_faults(rule: Rule) -> Iterator[str]:
    try:
        schedule = parse(rule.schedule)
    except InvalidScheduleError as error:
        yield f"Invalid ScheduleExpression {rule.schedule!r}: {error}"
    else:
        if len(schedule.minutes) > 1:
            yield f"Invalid ScheduleExpression {rule.schedule!r}: backups are made once an hour at most"
    if rule.timezone not in available_timezones():
        yield f"Invalid ScheduleExpressionTimezone {rule.timezone!r}: it is no time zone of the IANA database"


def _lifecycle_faults(lifecycle: Lifecycle, *, continuous: bool) -> Iterator[str]:
    try:
        refuse_bad_lifecycle(lifecycle, continuous=continuous)
    except InvalidLifecycleError as error:
        yield str(error)
    if continuous and normal(lifecycle).delete_after_days is None:
        yield f"Invalid lifecycle. DeleteAfterDays cannot be less than 1 or more than {LONGEST_CONTINUOUS_DAYS} days"


def _vault_faults(member: str, text: str) -> Iterator[str]:
    try:
        arn = Arn.parse(text)
    except InvalidArnError as error:
        yield f"{member}: {error}"
    else:
        if arn.service != "backup" or not arn.resource.startswith("backup-vault:"):
            yield f"{member} {text} is not the ARN of a backup vault"


def _minutes(value: Any) -> int:
    if isinstance(value, timedelta):
        return value // timedelta(minutes=1)
    raise TypeError(value)


def _rule(read: Mapping[str, Any]) -> Rule:
    spans = {name: timedelta(minutes=read[name]) for name in ("start_window", "completion_window")}
    lifecycle = Lifecycle(**read["lifecycle"])
    copies = tuple(CopyAction(copy["vault_arn"], Lifecycle(**copy["lifecycle"])) for copy in read["copies"])
    return Rule(
        **{**read, **spans, "lifecycle": lifecycle, "copies": copies, "index_types": tuple(read["index_types"])}
    )
