"""Fails a test that leaves spans open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..deadline import Deadline
from ..journal.open_spans import OpenSpan
from ..runtime.forgotten import listening, sentence
from ..runtime.state import PROCESS

__all__ = ["fail_on_open_spans"]

_DRAIN_SECONDS = 5.0


@contextlib.contextmanager
def fail_on_open_spans() -> Iterator[None]:
    """Fail if code of the block leaves a span open: ``with fail_on_open_spans(): handler(event, context)``.

    A guard must be in force, as in guarded functions. Spans of running invocations, and those that were open before,
    do not count. An exception from the block is raised as it is.

    Raises:
        AssertionError: names each span that was left open, and the place where it was started.
    """
    before = {span.row_id for span in _open_spans()}
    with listening() as reported:
        yield
        spans = {span.row_id: span for span in [*reported, *_open_spans()] if span.row_id not in before}
    if spans:
        raise AssertionError("\n".join(sentence(span) for span in spans.values()))


def _open_spans() -> list[OpenSpan]:
    """The open spans outside running invocations."""
    pipelines = PROCESS.logins.pipelines()
    if pipelines and PROCESS.sdk.installed:
        PROCESS.sdk.drain(Deadline.after(_DRAIN_SECONDS))
    return [span for pipeline in pipelines for span in pipeline.spans.unowned()]
