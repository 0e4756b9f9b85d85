"""The tree: root, units, accounts; gives the path from the root to an account."""
