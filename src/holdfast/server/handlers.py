"""Every operation that is served, by service: the tables of the wire's modules, side by side."""

from collections.abc import Mapping
from typing import Final

from holdfast.server import copying, explain, simulate
from holdfast.wire import (
    backup_copies,
    backup_job_lists,
    backup_jobs,
    backup_plans,
    backup_points,
    backup_settings,
    backup_vaults,
    cloudtrail,
    holdfast_audit,
    holdfast_events,
    holdfast_incidents,
    holdfast_jobs,
    holdfast_organization,
    holdfast_points,
    holdfast_policies,
    holdfast_resources,
    holdfast_selections,
    iam,
    kms,
    organizations,
    resourcegroupstaggingapi,
    sts,
)
from holdfast.wire.call import Handler

HANDLERS: Final[Mapping[str, Mapping[str, Handler]]] = {
    "backup": {
        **backup_plans.OPERATIONS,
        **backup_vaults.OPERATIONS,
        **backup_points.OPERATIONS,
        **backup_jobs.OPERATIONS,
        **backup_copies.OPERATIONS,
        **backup_job_lists.OPERATIONS,
        **backup_settings.OPERATIONS,
    },
    "cloudtrail": cloudtrail.OPERATIONS,
    "holdfast": {
        **holdfast_resources.OPERATIONS,
        **holdfast_selections.OPERATIONS,
        **holdfast_organization.OPERATIONS,
        **holdfast_policies.OPERATIONS,
        **holdfast_points.OPERATIONS,
        **holdfast_jobs.OPERATIONS,
        **holdfast_audit.OPERATIONS,
        **holdfast_events.OPERATIONS,
        **holdfast_incidents.OPERATIONS,
        **explain.OPERATIONS,
        **copying.OPERATIONS,
    },
    "iam": {**iam.OPERATIONS, **simulate.OPERATIONS},
    "kms": kms.OPERATIONS,
    "organizations": organizations.OPERATIONS,
    "resourcegroupstaggingapi": resourcegroupstaggingapi.OPERATIONS,
    "sts": sts.OPERATIONS,
}
"""By boto3's name of the service, and the operation."""
