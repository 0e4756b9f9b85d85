"""The plans that AWS Backup has ready to begin with.

Names: AWS Backup Developer Guide, "Create a backup plan"; AWS CLI Command Reference, "list-backup-plan-templates". How
long each kind of backup is kept follows from the names.
"""

from typing import Final

from holdfast.core.errors import NotFoundError
from holdfast.plan.model.body import PlanBody
from holdfast.plan.model.plan import Lifecycle, Rule

_VAULT: Final = "Default"
_DAILY: Final = Rule("", "DailyBackups", _VAULT, lifecycle=Lifecycle(delete_after_days=35))
_WEEKLY: Final = Rule(
    "", "WeeklyBackups", _VAULT, schedule="cron(0 5 ? * 7 *)", lifecycle=Lifecycle(delete_after_days=90)
)


def _monthly(years: int) -> Rule:
    kept = Lifecycle(cold_after_days=90, delete_after_days=365 * years)
    return Rule("", "MonthlyBackups", _VAULT, schedule="cron(0 5 1 * ? *)", lifecycle=kept)


TEMPLATES: Final = {
    f"87c0c1ef-254d-4180-8fef-2e76a2c38aa{letter}": PlanBody(name, rules)
    for letter, name, rules in (
        ("a", "Daily-35day-Retention", (_DAILY,)),
        ("b", "Daily-Monthly-1yr-Retention", (_DAILY, _monthly(1))),
        ("c", "Daily-Weekly-Monthly-5yr-Retention", (_DAILY, _WEEKLY, _monthly(5))),
        ("d", "Daily-Weekly-Monthly-7yr-Retention", (_DAILY, _WEEKLY, _monthly(7))),
    )
}
"""By their ids, in the order in which they are listed."""


class TemplateNotFoundError(NotFoundError):
    """There is no template with this id."""


def get_template(template_id: str) -> PlanBody:
    """Return a template.

    Raises:
        TemplateNotFoundError: there is none with this id.
    """
    found = TEMPLATES.get(template_id)
    if found is None:
        raise TemplateNotFoundError(f"Cannot find Backup plan template with ID {template_id}")
    return found
