"""Backup, copy and restore jobs: states, epochs, movers; gives an outcome."""
