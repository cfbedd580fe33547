"""Reports spans that their code has left open, with the place where they were started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from ..contain import contain, warn_once
from ..journal.open_spans import OpenSpan

__all__ = ["listening", "report", "sentence"]

# Lists of listeners, such as a test, which get each span.
_listeners: list[list[OpenSpan]] = []


def report(spans: Iterable[OpenSpan]) -> None:
    """The guard has closed these spans because their code has not. Warns once for each place in the process."""
    with contain("report the spans that were left open"):
        for span in spans:
            for listener in tuple(_listeners):
                listener.append(span)
            if span.place is not None:
                warn_once(f"forgotten:{span.place}", "%s", sentence(span))


def sentence(span: OpenSpan) -> str:
    """Says which span was left open, where it was started, and what to do."""
    where = f" started at {span.line}" if span.line is not None else ""
    return f"span {span.name!r}{where} was left open; use `with` or end it in `finally`"


@contextlib.contextmanager
def listening() -> Iterator[list[OpenSpan]]:
    """Collects the spans that are reported in the block."""
    reported: list[OpenSpan] = []
    _listeners.append(reported)
    try:
        yield reported
    finally:
        # By identity, as equal lists are not the same listener.
        _listeners[:] = [listener for listener in _listeners if listener is not reported]
