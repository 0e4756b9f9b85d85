"""The table of operations is whole: each operation served has its line, and each line is of one that exists."""

import pytest

from holdfast.server.handlers import HANDLERS
from holdfast.server.operations import RULES
from holdfast.wire.model import load_service

SERVED = [(service, operation) for service, handlers in HANDLERS.items() for operation in handlers]


@pytest.mark.parametrize(("service", "operation"), SERVED, ids=[f"{service}:{name}" for service, name in SERVED])
def test_an_operation_that_is_served_has_a_rule_of_access(service: str, operation: str) -> None:
    assert operation in RULES[service]
    assert operation in load_service(service).operations


@pytest.mark.parametrize("service", sorted(RULES))
def test_no_rule_is_of_an_operation_that_no_client_can_call(service: str) -> None:
    assert set(RULES[service]) - set(load_service(service).operations) == set()


@pytest.mark.parametrize("service", sorted(RULES))
def test_what_only_looks_is_not_recorded_as_a_change(service: str) -> None:
    looking = ("Describe", "List", "Lookup", "Explain", "Simulate")
    changing = {name for name, rule in RULES[service].items() if rule.changing}
    assert not {name for name in changing if name.startswith(looking)}
    written = ("Create", "Delete", "Put", "Update", "Attach", "Detach", "Tag", "Untag", "Start", "Stop", "Enable")
    assert not {name for name in set(RULES[service]) - changing if name.startswith(written)}
