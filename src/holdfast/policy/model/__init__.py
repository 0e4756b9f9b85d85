"""What policies say and how they combine: documents, inheritance, admission and validation; pure."""
