"""A function that logs a span during its init and is warmed up before its snapshot."""

import os

import braintrust
from snapshot_restore_py import register_after_restore, register_before_snapshot

from trace_guard import default_guard
from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    with braintrust.start_span("work"):
        journal = default_guard().pipeline.journal()
    return {"journal": journal.path.name, "pid": os.getpid()}


@register_before_snapshot
def warm_up():
    if os.environ.get("WARM_UP"):
        handler({"warm": "up"}, None)


@register_after_restore
def reconnect():
    if os.environ.get("FAIL_RESTORE"):
        raise OSError("the database is gone")


if os.environ.get("LOG_AT_INIT"):
    with braintrust.start_span("model loaded"):
        pass
