"""Connection, transactions, outbox and migrations."""
