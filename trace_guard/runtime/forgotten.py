"""Reports spans that their code has left open, with the place where they were started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from ..contain import warn_once
from ..journal.open_spans import OpenSpan

__all__ = ["listening", "report"]

# Lists of listeners, such as a test, which get each span.
_listeners: list[list[OpenSpan]] = []


def report(spans: Iterable[OpenSpan]) -> None:
    """The guard closes these spans because their code has not. Warns once for each place in the process."""
    for span in spans:
        for listener in tuple(_listeners):
            listener.append(span)
        if span.place is not None:
            warn_once(
                f"forgotten:{span.place}", "span %r started at %s was left open; use `with` or end it in `finally`",
                span.name, span.place,
            )


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
