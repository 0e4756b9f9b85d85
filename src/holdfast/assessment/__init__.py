"""One pure function over policies, settings and resources; gives what runs, what is blocked and why."""
