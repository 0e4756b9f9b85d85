"""Values and rules of plans: what is backed up, when, where to and for how long."""
