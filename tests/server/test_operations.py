"""The table of operations is whole: each operation served has its line, and each line is of one that exists."""

import pytest
from tests.access.destructive import ADDS, EXCEPTIONS, TABLE

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


def test_every_operation_that_changes_something_is_tried_adds_only_or_has_its_reason() -> None:
    changing = {
        (service, operation)
        for service, operation in SERVED
        if RULES[service][operation].changing and not operation.startswith(ADDS)
    }
    tried = [(line.service, line.operation) for line in TABLE]
    assert len(tried) == len(set(tried))
    missing = changing - set(tried) - set(EXCEPTIONS)
    assert missing == set(), "give each a line in tests/access/destructive.py, or the reason why it is not tried"
    assert set(tried) & set(EXCEPTIONS) == set()
    assert set(tried) | set(EXCEPTIONS) <= changing
    assert all(EXCEPTIONS.values())
