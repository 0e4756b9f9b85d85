"""Values and rules of an organization, without input or output."""
