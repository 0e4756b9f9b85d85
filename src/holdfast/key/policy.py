"""Key policies: whether a policy leaves somebody who can change it again."""

from holdfast.access.model import (
    AccessRequest,
    Caller,
    Document,
    MalformedPolicyError,
    Policy,
    PolicySet,
    caller_values,
    evaluate,
    root_caller,
)

_ACTION = "kms:PutKeyPolicy"


def refuse_lockout(document: Document, account: str, caller: Caller) -> None:
    """Refuse a key policy under which neither the caller nor the account's root could change it again.

    Raises:
        MalformedPolicyError: nobody could.
    """
    policies = PolicySet(resource=(Policy("the new key policy", document),), resource_policy_decides=True)
    for who in (root_caller(account), caller):
        request = AccessRequest(who, _ACTION, "*", account, caller_values(who))
        if evaluate(request, policies).allowed:
            return
    raise MalformedPolicyError(
        "the new key policy will not allow you to update the key policy in the future. Let the account's root or "
        "yourself do kms:PutKeyPolicy, or set BypassPolicyLockoutSafetyCheck"
    )
