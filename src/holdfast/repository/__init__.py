"""The restic repository format, read and written in-process; knows nothing of vaults, accounts or jobs."""
