"""The verbs of an organization: functions over an open transaction that the caller commits.

Verbs that change an organization take it as `membership.management_of` or `membership.membership_of` gave it; they lock
it first, so that of two changes to one organization the second sees what the first did.
"""
