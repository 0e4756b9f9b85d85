"""The view across accounts, events and metrics; gives who is protected and who is not."""
