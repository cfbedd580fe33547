"""Batch jobs: one root span per run of a job, and a span for each of its steps.

In: the main function of a job, its items, the signals of the process, and the environment variables of the platform.
Out: an invocation whose root shows the platform, the step counts, a heartbeat and the outcome. This room keeps P1 for
jobs (closed on return, error, exit and signal), P2 for their steps, and P4 for jobs (delivery ends before the
platform's SIGKILL, and the exit status does not change).
"""
