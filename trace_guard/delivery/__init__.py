"""Rows go out: the courier takes them from the journal to the backend, at least once and in order for each span."""
