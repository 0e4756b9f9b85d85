"""Connectors to files, databases, buckets and volumes; gives a consistent stream of entries."""
