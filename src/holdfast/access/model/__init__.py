"""Values and rules of access: policy documents, callers, and the decision."""
