"""Ids and ARNs, the two clocks, errors, sealing under the root key."""
