"""Vaults, their policies, locks, keys and storage; gives an open repository to those who may."""
