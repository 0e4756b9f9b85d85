"""The grammar of backup policies: which fields there are, what they may hold, and which must stand together.

AWS Organizations User Guide, "Backup policy syntax and examples". A policy may be partial; what an account needs in
the end is checked in `validation.py`, on the effective document.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from holdfast.calendar import cron
from holdfast.policy.model.grammar import (
    Container,
    Fragment,
    Leaf,
    ValueCheck,
    length,
    matching,
    one_of,
    whole_number,
)

SHORTEST_WINDOW_MINUTES: Final = 60
LONGEST_CONTINUOUS_DAYS: Final = 35
COLD_STORAGE_DAYS: Final = 90
SHORTEST_GAP: Final = timedelta(hours=1)
SHORTEST_ARCHIVE_GAP: Final = timedelta(days=28)
MOST_CONDITIONS: Final = 30
SELECTION_LISTS: Final = frozenset({"tag_value", "resource_types", "not_resource_types"})

_PARTITION = "aws|aws-cn|aws-us-gov"
# The kinds of resources a selection may name: for each service, how the last part of the ARN is written. A kind of
# resource that Holdfast protects has an ARN of one of these.
_RESOURCE_TYPES: Final = {
    "backup-gateway": ("vm/*",),
    "cloudformation": ("stack/*",),
    "dsql": ("cluster/*",),
    "dynamodb": ("table/*",),
    "ec2": ("instance/*", "volume/*"),
    "eks": ("cluster/*",),
    "elasticfilesystem": ("file-system/*",),
    "fsx": ("file-system/*", "volume/*"),
    "rds": ("cluster:*", "db:*"),
    "redshift": ("cluster:*",),
    "redshift-serverless": ("namespace/*",),
    "ssm-sap": ("HANA/*",),
    "storagegateway": ("gateway/*",),
    "timestream": ("database/*",),
}
RESOURCE_TYPES: Final = frozenset(
    {"*"}
    | {
        f"arn:{partition}:{service}:*:*:{rest}"
        for partition in _PARTITION.split("|")
        for service, rests in _RESOURCE_TYPES.items()
        for rest in rests
    }
    | {f"arn:{partition}:s3:::*" for partition in _PARTITION.split("|")}
)

_NAME = matching("[A-Za-z0-9_.-]{1,50}", "a name of 1 to 50 letters, digits, '_', '.' and '-'")
_VAULT_NAME = matching("[A-Za-z0-9_-]{1,50}", "a vault name of 1 to 50 letters, digits, '-' and '_'")
_BOOLEAN = one_of("true", "false")
_SWITCH = one_of("enabled", "disabled")
_ROLE = matching(
    rf"arn:(?:{_PARTITION}):iam::\$account:role/[A-Za-z0-9_+=,.@/-]{{1,512}}",
    "the ARN of a role in each account, arn:aws:iam::$account:role/NAME, with $account as it stands here",
)
_AIR_GAPPED_VAULT = matching(
    rf"arn:(?:{_PARTITION}):backup:\$region:\$account:backup-vault:[A-Za-z0-9_-]{{1,50}}",
    "arn:aws:backup:$region:$account:backup-vault:NAME, with $region and $account as they stand here",
)
_COPY_TARGET_FORM = (
    r"arn:(?:{partition}):backup:([a-z0-9-]+):(?:\$account|[0-9]{{12}}):backup-vault:[A-Za-z0-9_-]{{1,50}}"
)


def grammar(regions: Collection[str], now: datetime) -> Container:
    """Return the grammar where these are the regions, and schedules are judged as of `now`."""
    known = frozenset(regions)
    plan = Container(
        what="part of a plan",
        fields={
            "regions": Leaf(_known_region(known), is_list=True, known=known),
            "rules": Container(name=_NAME, each=_rule(known, now)),
            "selections": _selections(),
            "advanced_backup_settings": Container(
                what="service with advanced settings",
                fields={
                    "ec2": Container(fields={"windows_vss": Leaf(_SWITCH)}),
                    "s3": Container(fields={"backup_acls": Leaf(_SWITCH), "backup_object_tags": Leaf(_SWITCH)}),
                },
            ),
            "backup_plan_tags": _tags(),
            "scan_settings": Container(
                what="scanner",
                fields={
                    "guardduty": Container(
                        fields={
                            "resource_types": Leaf(one_of("EBS", "EC2", "S3", "ALL"), is_list=True),
                            "scanner_role_arn": Leaf(_ROLE),
                        }
                    )
                },
            ),
        },
    )
    return Container(
        what="part of a backup policy",
        fields={"plans": Container(name=_NAME, each=plan)},
        cross_check=_check_plans,
    )


def _rule(regions: frozenset[str], now: datetime) -> Container:
    target = _copy_target(regions)
    return Container(
        what="part of a rule",
        fields={
            "schedule_expression": Leaf(_schedule(now)),
            "target_backup_vault_name": Leaf(_VAULT_NAME),
            "target_logically_air_gapped_backup_vault_arn": Leaf(_AIR_GAPPED_VAULT),
            "start_backup_window_minutes": Leaf(whole_number(SHORTEST_WINDOW_MINUTES)),
            "complete_backup_window_minutes": Leaf(whole_number(SHORTEST_WINDOW_MINUTES)),
            "enable_continuous_backup": Leaf(_BOOLEAN),
            "lifecycle": _lifecycle(),
            "copy_actions": Container(
                name=lambda key: target(key.lower()),
                each=Container(
                    what="part of a copy action",
                    fields={"target_backup_vault_arn": Leaf(target), "lifecycle": _lifecycle()},
                    cross_check=_check_copy_action,
                ),
            ),
            "recovery_point_tags": _tags(),
            "index_actions": Container(
                fields={"resource_types": Leaf(one_of("EBS", "S3"), is_list=True, may_be_empty=False)}
            ),
            "scan_actions": Container(
                what="scanner",
                fields={
                    "guardduty": Container(fields={"scan_mode": Leaf(one_of("INCREMENTAL_SCAN", "FULL_SCAN"))}),
                },
            ),
        },
        cross_check=lambda rule: _check_rule(rule, now),
    )


def _lifecycle() -> Container:
    return Container(
        what="part of a lifecycle",
        fields={
            "move_to_cold_storage_after_days": Leaf(whole_number(1)),
            "delete_after_days": Leaf(whole_number(1)),
            "opt_in_to_archive_for_supported_resources": Leaf(_BOOLEAN),
        },
    )


def _tags() -> Container:
    tag = Container(
        what="part of a tag",
        fields={"tag_key": Leaf(length(1, 128)), "tag_value": Leaf(length(0, 256))},
        cross_check=_check_tag,
    )
    return Container(name=length(1, 128), each=tag)


def _selections() -> Container:
    condition = Container(
        what="part of a condition",
        fields={"condition_key": Leaf(length(1, 512)), "condition_value": Leaf(length(0, 512))},
        cross_check=lambda fragment: _check_both(fragment, "condition_key", "condition_value"),
    )
    conditions = Container(
        what="kind of condition",
        fields={
            kind: Container(name=_NAME, each=condition)
            for kind in ("string_equals", "string_not_equals", "string_like", "string_not_like")
        },
        cross_check=_check_number_of_conditions,
    )
    by_tag = Container(
        what="part of a selection by tag",
        fields={
            "iam_role_arn": Leaf(_ROLE),
            "tag_key": Leaf(length(1, 128)),
            "tag_value": Leaf(length(0, 256), is_list=True, may_be_empty=False),
            "conditions": conditions,
        },
        cross_check=lambda fragment: _check_both(fragment, "tag_key", "tag_value"),
    )
    by_resource = Container(
        what="part of a selection by resource type",
        fields={
            "iam_role_arn": Leaf(_ROLE),
            "resource_types": Leaf(_resource_type, is_list=True, known=RESOURCE_TYPES),
            "not_resource_types": Leaf(_resource_type, is_list=True, known=RESOURCE_TYPES),
            "conditions": conditions,
        },
        cross_check=_check_selection_by_resource,
    )
    return Container(
        what="kind of selection",
        fields={
            "tags": Container(name=_NAME, each=by_tag),
            "resources": Container(name=_NAME, each=by_resource),
        },
    )


def _known_region(regions: frozenset[str]) -> ValueCheck:
    return lambda value: None if value in regions else f"{value!r} is no known region"


def _copy_target(regions: frozenset[str]) -> ValueCheck:
    form = matching(
        _COPY_TARGET_FORM.format(partition=_PARTITION),
        "the ARN of a vault, arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME, where ACCOUNT may be $account",
    )
    known = _known_region(regions)
    return lambda value: form(value) or known(value.split(":")[3])


def _resource_type(value: str) -> str | None:
    return None if value in RESOURCE_TYPES else f"{value!r} is no resource type that a selection may name"


def _schedule(now: datetime) -> ValueCheck:
    def check(value: str) -> str | None:
        try:
            schedule = cron.parse(value)
        except cron.InvalidScheduleError as error:
            return str(error)
        gap = next_gap(schedule, now)
        if gap is None:
            return f"{value!r} fires less than twice from now on"
        return f"{value!r} fires twice within an hour" if gap < SHORTEST_GAP else None

    return check


def next_gap(schedule: cron.Cron, now: datetime) -> timedelta | None:
    """Return the time between the next two firings after `now`, or None if there are not two."""
    firings = schedule.upcoming(now, UTC, 2)
    return firings[1] - firings[0] if len(firings) > 1 else None


def is_too_frequent_for_archive(schedule_expression: str | None, now: datetime) -> bool:
    """Return whether points on this schedule may not be archived: no schedule, or next firings under 28 days apart."""
    if schedule_expression is None:
        return True
    gap = next_gap(cron.parse(schedule_expression), now)
    return gap is None or gap < SHORTEST_ARCHIVE_GAP


def _check_plans(top: Fragment) -> None:
    if not top.has("plans"):
        raise top.refuse("a backup policy has 'plans'")


def _check_both(fragment: Fragment, one: str, other: str) -> None:
    for present, missing in ((one, other), (other, one)):
        if fragment.has(present) and not fragment.has(missing):
            raise fragment.refuse(f"{present!r} needs {missing!r} beside it")


def _check_tag(tag: Fragment) -> None:
    _check_both(tag, "tag_key", "tag_value")
    key = tag.assigned("tag_key")
    if key is not None and key.lower() != tag.key.lower():
        raise tag.refuse(f"the tag under {tag.key!r} must have this tag_key, letter case apart, not {key!r}", "tag_key")


def _check_selection_by_resource(selection: Fragment) -> None:
    if not selection.has("resource_types") and not selection.has("conditions"):
        raise selection.refuse("a selection by resource type needs 'resource_types' or 'conditions'")


def _check_number_of_conditions(conditions: Fragment) -> None:
    number = sum(len(list(kind.below_each())) for kind in conditions.below_each())
    if number > MOST_CONDITIONS:
        raise conditions.refuse(f"there are {number} conditions; a selection may have {MOST_CONDITIONS}")


def _check_copy_action(action: Fragment) -> None:
    if not action.members:
        raise action.refuse("a copy action without anything in it; give it a target_backup_vault_arn")


def _check_rule(rule: Fragment, now: datetime) -> None:
    lifecycle = rule.below("lifecycle")
    if rule.assigned("enable_continuous_backup") == "true":
        days = lifecycle.assigned("delete_after_days")
        if days is None or int(days) > LONGEST_CONTINUOUS_DAYS:
            raise rule.refuse(
                f"continuous backup needs delete_after_days of at most {LONGEST_CONTINUOUS_DAYS} in the same rule",
                "enable_continuous_backup",
            )
        if lifecycle.has("move_to_cold_storage_after_days"):
            raise rule.refuse("continuous backups do not move to cold storage", "enable_continuous_backup")
    for kept in _lifecycles(rule):
        _check_archive(kept, rule.assigned("schedule_expression"), now)


def _lifecycles(rule: Fragment) -> Iterable[Fragment]:
    yield rule.below("lifecycle")
    for action in rule.below("copy_actions").below_each():
        yield action.below("lifecycle")


def _check_archive(lifecycle: Fragment, schedule_expression: str | None, now: datetime) -> None:
    opt_in = "opt_in_to_archive_for_supported_resources"
    if lifecycle.assigned(opt_in) != "true":
        return
    cold = lifecycle.assigned("move_to_cold_storage_after_days")
    delete = lifecycle.assigned("delete_after_days")
    if cold is None or delete is None or int(delete) - int(cold) < COLD_STORAGE_DAYS:
        raise lifecycle.refuse(
            "archiving needs move_to_cold_storage_after_days and, at least 90 days above it, delete_after_days", opt_in
        )
    if is_too_frequent_for_archive(schedule_expression, now):
        raise lifecycle.refuse(
            "archiving needs a schedule_expression in the same rule whose next firings are at least 28 days apart",
            opt_in,
        )
