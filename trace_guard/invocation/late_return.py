"""Corrects a forced close after the code returned before its deadline.

Each span that was force-closed gets one merge row with its real end, and null for each mark of the forced close. A null
overwrites: the SDK's ``merge_dicts``, which simulates the server's merge, works this way.
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
        spans: the force-closed spans below the root.
        root: the force-closed root.
        root_end: the row with the root's real end.
        outcome, end: of the invocation; used for spans that the code still left open.
    """
    rows: list[Row] = []
    for forced in spans:
        own_end = merge({}, forced.own_end)
        if not has_ended(own_end):
            own_end = merge(own_end, closing_row(
                forced.span.identity, end=max(end, forced.span.start), outcome=outcome, closed_by=ClosedBy.GUARD,
                reason="left_open", place=forced.span.place,
            ))
        rows.append(correction(forced.span.identity, own_end))
    own_end = merge(merge({}, root.own_end), root_end)
    rows.append({**correction(root_end, own_end), "error": own_end.get("error")})
    return rows
