"""A child span for each record of a batch."""

from __future__ import annotations

from typing import Any

from trace_guard.contain import contained
from trace_guard.invocation.records import Record, RecordGuard

from . import record_facts

__all__ = ["guard_record", "guard_records"]


def _described(record: Any) -> Record:
    plain = contained("read a record", lambda: record_facts.plain_record(record), {})
    return Record(contained("describe a record", lambda: record_facts.facts_of_record(plain), {}), plain or record)


_records = RecordGuard(_described)
guard_record = _records.guard_record
guard_records = _records.guard_records
