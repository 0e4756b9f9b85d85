"""The `organizations` API: every operation that is offered, by name."""

from collections.abc import Mapping
from typing import Final

from holdfast.wire import (
    organizations_accounts,
    organizations_delegation,
    organizations_policies,
    organizations_tree,
)
from holdfast.wire.call import Handler

OPERATIONS: Final[Mapping[str, Handler]] = {
    **organizations_tree.OPERATIONS,
    **organizations_accounts.OPERATIONS,
    **organizations_delegation.OPERATIONS,
    **organizations_policies.OPERATIONS,
}
