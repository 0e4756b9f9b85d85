"""Encryption keys: the root key, the keys of accounts, and what is wrapped by them."""
