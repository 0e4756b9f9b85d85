"""The plan and rule that made a job."""

from typing import Any, Final

import sqlalchemy as sa

from holdfast.core.arn import partition_of
from holdfast.database.values import from_json
from holdfast.job.model import Job
from holdfast.plan.model.derive import derive_plan
from holdfast.plan.model.plan import organization_plan_id, organization_rule_id, plan_arn
from holdfast.plan.store import document_content

_PLANS_KNOWN: Final = 10_000
"""Of so many plans ARN and version are remembered, so that a long page does not derive each of them anew."""
_PLANS: Final[dict[tuple[str, str, str, str, str], tuple[str, str]]] = {}


def created_by(tx: sa.Connection, job: Job) -> dict[str, Any] | None:
    """Return the plan and rule that made a job by the API's names, None for one that was started by hand."""
    if job.plan_name is None or job.document_id is None:
        return None
    organization, account, region = job.organization_id, job.account, job.region
    if job.plan_id is not None:  # the account made the plan itself
        plan_id, rule_id, version = job.plan_id, job.rule_id, job.plan_version
        arn = plan_arn(partition_of(region), region, account, plan_id)
    elif organization is not None:
        plan_id = organization_plan_id(organization, account, region, job.plan_name)
        rule_id = organization_rule_id(organization, account, region, job.plan_name, job.rule_name or "")
        arn, version = _plan_made_of(
            tx, job.document_id, job.plan_name, organization=organization, account=account, region=region
        )
    else:
        return None
    return {
        "BackupPlanId": plan_id,
        "BackupPlanArn": arn,
        "BackupPlanName": job.plan_name,
        "BackupPlanVersion": version,
        "BackupRuleId": rule_id,
        "BackupRuleName": job.rule_name,
        "BackupRuleCron": job.options.get("schedule"),
        "BackupRuleTimezone": job.options.get("timezone"),
    }


def _plan_made_of(
    tx: sa.Connection, document_id: str, name: str, *, organization: str, account: str, region: str
) -> tuple[str, str]:
    """Return ARN and version of the plan that a document makes in an account; documents never change."""
    key = (document_id, name, organization, account, region)
    found = _PLANS.get(key)
    if found is None:
        document = from_json(document_content(tx, document_id))
        plan = derive_plan(document, name, organization_id=organization, account=account, region=region)
        if len(_PLANS) >= _PLANS_KNOWN:
            _PLANS.clear()
        found = _PLANS[key] = (plan.arn, plan.version_id)
    return found
