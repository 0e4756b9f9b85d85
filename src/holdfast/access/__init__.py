"""Who may do what: users, roles, sessions, policies and their evaluation."""
