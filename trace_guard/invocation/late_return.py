"""Corrects a forced close after the code has returned in time after all.

Every span that was closed by force gets one merge row: its real end, and null for the marks of the forced close. A
null overwrites in the SDK's own ``merge_dicts``, which simulates the server's merge.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..journal.open_spans import ForcedSpan
from ..outcome import ClosedBy, Outcome
from ..rows import Row, closing_row, correction, has_ended, merge

__all__ = ["corrections"]


def corrections(
    spans: Iterable[ForcedSpan], root: ForcedSpan, root_end: Row, outcome: Outcome, end: float
) -> list[Row]:
    """The rows that correct a forced close, innermost first, the root last.

    Args:
        spans: what was closed by force below the root.
        root: the root, with what its own code has said since.
        root_end: the row that really closes the root.
        outcome, end: of the invocation, for spans that the code has left open even so.
    """
    rows: list[Row] = []
    for forced in spans:
        said = merge({}, forced.said)
        if not has_ended(said):
            said = merge(said, closing_row(
                forced.span.identity, end=max(end, forced.span.start), outcome=outcome, closed_by=ClosedBy.GUARD,
                reason="left_open",
            ))
        rows.append(correction(forced.span.identity, said))
    said = merge(merge({}, root.said), root_end)
    rows.append({**correction(root_end, said), "error": said.get("error")})
    return rows
