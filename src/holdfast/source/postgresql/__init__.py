"""PostgreSQL databases: `postgresql://host:port/database`, read by pg_dump and restored by pg_restore.

`source.py` reads one database, `target.py` restores one; both use `server.py` (what a server says of itself),
`tools.py` (which client programs fit) and `child.py` (running them, with the password out of everybody's sight).
"""
