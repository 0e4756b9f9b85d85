"""Who may do what: policy documents, callers, and the one function that decides."""

from holdfast.access.model.caller import Caller, CallerKind, Person, root_caller, service_caller
from holdfast.access.model.document import Document, DocumentKind, MalformedPolicyError, parse_document
from holdfast.access.model.evaluation import Decision, Reason, Verdict, evaluate
from holdfast.access.model.request import (
    AccessRequest,
    Level,
    Policy,
    PolicySet,
    PolicyType,
    caller_values,
    values_of,
)

__all__ = [
    "AccessRequest",
    "Caller",
    "CallerKind",
    "Decision",
    "Document",
    "DocumentKind",
    "Level",
    "MalformedPolicyError",
    "Person",
    "Policy",
    "PolicySet",
    "PolicyType",
    "Reason",
    "Verdict",
    "caller_values",
    "evaluate",
    "parse_document",
    "root_caller",
    "service_caller",
    "values_of",
]
