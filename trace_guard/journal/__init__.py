"""The append-only local file of rows: nothing reaches the backend that is not in here first."""
