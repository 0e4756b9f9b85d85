"""Vaults, keys and roles laid down in many accounts by one operation."""
