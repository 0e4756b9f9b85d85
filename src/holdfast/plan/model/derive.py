"""From an effective backup policy to the plans of an account in a region.

The document is what DescribeEffectivePolicy gives: lower-case keys, values as strings, `$account` and `$region` still
literal. Here they are replaced, numbers and booleans are read, and ids are given. Pure: the same document, account and
region always give the same plans. Rules: AWS Organizations User Guide, "Backup policy syntax and examples"; AWS Backup
Developer Guide, "Managing AWS Backup resources across multiple AWS accounts".
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson

from holdfast.core.arn import partition_of
from holdfast.plan.model.lifecycle import LONGEST_RETENTION_DAYS
from holdfast.plan.model.plan import (
    DEFAULT_COMPLETION_WINDOW,
    DEFAULT_SCHEDULE,
    DEFAULT_START_WINDOW,
    LONGEST_WINDOW_MINUTES,
    CopyAction,
    Lifecycle,
    Plan,
    PlanSelection,
    Rule,
    organization_plan_id,
    organization_rule_id,
    organization_selection_id,
    plan_arn,
    version_id,
)
from holdfast.plan.model.selection import Condition, Operator, Selection, TagTerm

_OPERATORS: Final = {
    "string_equals": Operator.EQUALS,
    "string_not_equals": Operator.NOT_EQUALS,
    "string_like": Operator.LIKE,
    "string_not_like": Operator.NOT_LIKE,
}
_OPTION_NAMES: Final = {
    ("ec2", "windows_vss"): ("EC2", "WindowsVSS"),
    ("s3", "backup_acls"): ("S3", "BackupACLs"),
    ("s3", "backup_object_tags"): ("S3", "BackupObjectTags"),
}


@dataclass(frozen=True, slots=True)
class NamedSelection:
    """A selection of a policy's plan, before an account is known."""

    kind: str
    """`tags` or `resources`, the part of the policy it stands in."""
    name: str
    role_arn: str
    """Still with a literal `$account`."""
    selection: Selection


def plan_names(document: Mapping[str, Any], region: str | None = None) -> list[str]:
    """Return the names of the document's plans, in its order; with a region, only of those that list it."""
    plans: Mapping[str, Any] = document.get("plans", {})
    return [name for name, plan in plans.items() if region is None or region in plan.get("regions", ())]


def derive_plans(document: Mapping[str, Any], *, organization_id: str, account: str, region: str) -> list[Plan]:
    """Return the plans that an effective backup policy makes in one account and region."""
    return [
        derive_plan(document, name, organization_id=organization_id, account=account, region=region)
        for name in plan_names(document, region)
    ]


def derive_plan(
    document: Mapping[str, Any], plan_name: str, *, organization_id: str, account: str, region: str
) -> Plan:
    """Return one plan of the document, with everything of this account and region filled in."""
    body: Mapping[str, Any] = document["plans"][plan_name]
    where = _Where(organization_id, account, region, plan_name)
    rules = tuple(_rule(name, rule, where) for name, rule in body.get("rules", {}).items())
    selections = tuple(
        PlanSelection(
            id=organization_selection_id(organization_id, account, region, plan_name, found.kind, found.name),
            name=found.name,
            role_arn=where.fill(found.role_arn),
            selection=found.selection,
        )
        for found in sorted(selections_of(body), key=lambda found: (found.kind, found.name))
    )
    plan_id = organization_plan_id(organization_id, account, region, plan_name)
    return Plan(
        id=plan_id,
        arn=plan_arn(partition_of(region), region, account, plan_id),
        name=plan_name,
        version_id=_version_id(body, account, region),
        rules=rules,
        selections=selections,
        advanced_settings=_advanced_settings(body),
        tags=_tags(body.get("backup_plan_tags", {})),
    )


def rules_of(document: Mapping[str, Any], plan_name: str) -> Iterator[tuple[str, Rule]]:
    """Yield the rules of a plan by name, with `$account` and `$region` still literal, as the scheduler needs them."""
    where = _Where("", "$account", "$region", plan_name)
    for name, rule in document["plans"][plan_name].get("rules", {}).items():
        yield name, _rule(name, rule, where)


def selections_of(plan: Mapping[str, Any]) -> list[NamedSelection]:
    """Return the selections of one plan of an effective document, with `$account` still literal in their roles."""
    parts: Mapping[str, Any] = plan.get("selections", {})
    by_tags = [
        NamedSelection("tags", name, body["iam_role_arn"], _tag_selection(body))
        for name, body in parts.get("tags", {}).items()
    ]
    by_type = [
        NamedSelection("resources", name, body["iam_role_arn"], _type_selection(body))
        for name, body in parts.get("resources", {}).items()
    ]
    return by_tags + by_type


@dataclass(frozen=True, slots=True)
class _Where:
    organization_id: str
    account: str
    region: str
    plan_name: str

    def fill(self, text: str) -> str:
        return text.replace("$account", self.account).replace("$region", self.region)


def _rule(name: str, body: Mapping[str, Any], where: _Where) -> Rule:
    air_gapped = body.get("target_logically_air_gapped_backup_vault_arn")
    return Rule(
        id=organization_rule_id(where.organization_id, where.account, where.region, where.plan_name, name),
        name=name,
        vault_name=body["target_backup_vault_name"],
        schedule=body.get("schedule_expression", DEFAULT_SCHEDULE),
        start_window=_minutes(body.get("start_backup_window_minutes"), DEFAULT_START_WINDOW),
        completion_window=_minutes(body.get("complete_backup_window_minutes"), DEFAULT_COMPLETION_WINDOW),
        lifecycle=_lifecycle(body.get("lifecycle", {})),
        recovery_point_tags=_tags(body.get("recovery_point_tags", {})),
        copies=tuple(
            CopyAction(where.fill(copy.get("target_backup_vault_arn", key)), _lifecycle(copy.get("lifecycle", {})))
            for key, copy in body.get("copy_actions", {}).items()
        ),
        continuous=body.get("enable_continuous_backup") == "true",
        index_types=tuple(body.get("index_actions", {}).get("resource_types", ())),
        air_gapped_vault_arn=None if air_gapped is None else where.fill(air_gapped),
    )


def _minutes(text: str | None, default: timedelta) -> timedelta:
    # A policy may name up to 16 digits; a window of a hundred years is the longest that AWS Backup knows.
    return default if text is None else timedelta(minutes=min(int(text), LONGEST_WINDOW_MINUTES))


def _days(text: str | None) -> int | None:
    return None if text is None else min(int(text), LONGEST_RETENTION_DAYS)


def _lifecycle(body: Mapping[str, Any]) -> Lifecycle:
    archive = body.get("opt_in_to_archive_for_supported_resources")
    return Lifecycle(
        cold_after_days=_days(body.get("move_to_cold_storage_after_days")),
        delete_after_days=_days(body.get("delete_after_days")),
        archive=None if archive is None else archive == "true",
    )


def _tags(body: Mapping[str, Any]) -> dict[str, str]:
    return {tag["tag_key"]: tag.get("tag_value", "") for tag in body.values()}


def _conditions(body: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple(
        Condition(_OPERATORS[operator], condition["condition_key"], condition["condition_value"])
        for operator, conditions in body.get("conditions", {}).items()
        for condition in conditions.values()
    )


def _tag_selection(body: Mapping[str, Any]) -> Selection:
    terms = tuple(TagTerm(body["tag_key"], value) for value in body["tag_value"])
    return Selection(tags=terms, conditions=_conditions(body))


def _type_selection(body: Mapping[str, Any]) -> Selection:
    types: tuple[str, ...] = tuple(body.get("resource_types", ()))
    # Conditions without types ask of every resource.
    return Selection(types or ("*",), tuple(body.get("not_resource_types", ())), (), _conditions(body))


def _advanced_settings(body: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = {}
    for service, options in body.get("advanced_backup_settings", {}).items():
        for option, value in options.items():
            resource_type, name = _OPTION_NAMES[service, option]
            settings.setdefault(resource_type, {})[name] = value
    return settings


def _version_id(body: Mapping[str, Any], account: str, region: str) -> str:
    # A new one whenever the rendered plan changes.
    rendered = orjson.dumps([body, account, region], option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(rendered).digest()[:16]
    return version_id(str(uuid.UUID(bytes=digest, version=4)))
