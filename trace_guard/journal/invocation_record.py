"""What the journal says about an invocation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..rows import Row, number

__all__ = ["InvocationRecord"]


class InvocationRecord(NamedTuple):
    """What the journal says about an invocation. Times are in seconds since the epoch.

    Attributes:
        root: the row id of its root span.
        span_id: the span id of its root.
        started: when it began.
        deadline: when the platform ends it, or None.
        reserve: if the process dies within this many seconds before the deadline, it counts as timed out.
    """

    root: str
    span_id: str
    root_span_id: str
    started: float
    deadline: float | None = None
    reserve: float = 0.0

    def to_row(self) -> Row:
        return self._asdict()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> InvocationRecord | None:
        """The inverse of :meth:`to_row`; None if the row is not a record."""
        root, span_id, root_span_id = (row.get(name) for name in ("root", "span_id", "root_span_id"))
        started, deadline, reserve = (number(row.get(name)) for name in ("started", "deadline", "reserve"))
        if not (isinstance(root, str) and isinstance(span_id, str) and isinstance(root_span_id, str)):
            return None
        return None if started is None else cls(root, span_id, root_span_id, started, deadline, reserve or 0.0)
