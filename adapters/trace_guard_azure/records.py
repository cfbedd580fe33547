"""A child span for each message of a batch."""

from __future__ import annotations

from typing import Any

from trace_guard.contain import contained
from trace_guard.invocation.propagation import parentage
from trace_guard.invocation.reading import known
from trace_guard.invocation.records import Record, RecordGuard

from .declaration import NOTHING_DECLARED
from .triggers import trigger_of

__all__ = ["guard_record", "guard_records"]

# The most bytes of a message that are read for its input. The invocation's guard cuts the input to its own limit.
_MOST_BYTES = 1 << 16


def _described(message: Any) -> Record:
    trigger = contained("determine a message's kind", lambda: trigger_of(NOTHING_DECLARED, message), None)
    if trigger is None:
        return Record({}, message)
    facts = known(contained("describe a message", lambda: trigger.facts_of_message(message), {}))
    carrier = contained("read a message's trace context", lambda: trigger.carrier_of_message(message), {})
    if carrier:
        # The root of the batch stays the parent. With an empty carrier beside the message's, no carrier becomes the
        # parent and the message's becomes a link.
        facts["links"] = parentage((carrier, {}))[1]["links"]
    return Record(facts, contained("read a message", lambda: trigger.input_of_message(message, _MOST_BYTES), message))


_messages = RecordGuard(_described, "message")
guard_record = _messages.guard_record
guard_records = _messages.guard_records
