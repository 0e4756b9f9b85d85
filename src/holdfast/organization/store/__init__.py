"""The SQL of an organization."""
