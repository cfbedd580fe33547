"""Batch jobs in process: a root span for the whole of a job, a span for each of its steps."""
