"""Saves the start and end of spans whose rows the SDK can't make; the logged values of such rows are lost.

The SDK makes the rows of its queue batch by batch. A masking function that raises or returns what is no JSON, a value
that can't be encoded or a parent that can't be resolved makes it drop the whole batch, after seconds of retries. Here
each row of such a batch is made on its own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import braintrust.logger as bt
from braintrust.bt_json import bt_dumps

from ..contain import contain, contained, logger
from ..rows import Row, dump, lifecycle
from .spans import identity_of

__all__ = ["Rescue"]

_SOURCE = "_trace_guard_source"


class _Batch:
    """The rows that one flush has taken from the queue.

    Attributes:
        is_sent: the SDK has handed over rows of the batch, so it has made all of them.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.is_sent = not items


class Rescue:
    """Watches the flushes of a background logger.

    Args:
        take_rows: takes the body of a request with rows.
        take_end: takes the end of a span that logs nothing else; False if the SDK must make the row.
        invocation_of: returns the id of the root of the invocation that a row belongs to, if it is known.
    """

    def __init__(
        self, take_rows: Callable[[bytes], object], take_end: Callable[[Any, dict[str, Any]], bool],
        invocation_of: Callable[[Row], str | None],
    ) -> None:
        # How many rows were lost, in whole or in part, by the id of their invocation's root, if it is known.
        self._lost: Counter[str | None] = Counter()
        self._invocation_of = invocation_of
        self._take_rows = take_rows
        self._take_end = take_end
        self._batch: _Batch | None = None
        self._of_thread = threading.local()
        self._plain_log: Any = None
        self._saving = threading.RLock()

    @property
    def in_hand(self) -> int:
        """How many rows a flush has taken from the queue that are not in the journal yet."""
        batch = self._batch
        return 0 if batch is None else len(batch.items)

    def lost_of(self, root: str | None) -> int:
        """How many rows of an invocation were lost; with None, rows whose invocation is not known."""
        return self._lost[root]

    def forget(self, root: str) -> None:
        """The losses of an invocation are reported."""
        self._lost.pop(root, None)

    def hook(self, background: Any) -> None:
        """Hook into the creation of rows, and into spans, which know which row holds their start or end."""
        plain = background._unwrap_lazy_values

        def make(items: Sequence[Any]) -> Any:
            self._batch = self._of_thread.batch = _Batch(items)
            tries, background.num_tries = background.num_tries, 1  # each retry would sleep for seconds
            try:
                return plain(items)
            finally:
                background.num_tries = tries

        background._unwrap_lazy_values = make
        self._plain_make = plain
        if self._plain_log is None:
            self._plain_log = bt.SpanImpl.log_internal
            setattr(bt.SpanImpl, "log_internal", self._noting_sources(self._plain_log))  # noqa: B010 - a method

    def unhook(self, background: Any) -> None:
        background.__dict__.pop("_unwrap_lazy_values", None)
        if self._plain_log is not None:
            setattr(bt.SpanImpl, "log_internal", self._plain_log)  # noqa: B010 - a method
            self._plain_log = None

    def after_fork(self) -> None:
        """In a forked child: the parent writes the rows that were taken from the queue."""
        self._batch = None
        self._saving = threading.RLock()

    @property
    def source(self) -> tuple[Any, Any, Any] | None:
        """The span that is logging in this thread, the values that it logs and those that the SDK adds."""
        return getattr(self._of_thread, "source", None)

    def note_source(self, item: Any) -> None:
        """Remember the span of a queued row."""
        source = self.source
        if source is not None:
            item.__dict__[_SOURCE] = source[0], source[2]

    @contextlib.contextmanager
    def watching(self, background: Any) -> Any:
        """Around a flush: save what the SDK gives up. The next flush waits until that is done: it must not find an
        empty queue, and call all rows written, while some are still being saved."""
        with self._saving:
            self._of_thread.batch = None
            try:
                yield
            finally:
                self._save(background)

    def _save(self, background: Any) -> None:
        batch, self._of_thread.batch = self._of_thread.batch, None
        if batch is None:
            return
        try:
            if not batch.is_sent:
                for item in batch.items:
                    with contain("save a row that the SDK can't make"):
                        self._save_one(background, item)
        finally:
            if self._batch is batch:
                self._batch = None

    def sent(self) -> None:
        """Rows of the flush under way are handed over."""
        batch = self._batch
        if batch is not None:
            batch.is_sent = True

    def _save_one(self, background: Any, item: Any) -> None:
        rows: list[bytes] = []
        tries, background.num_tries = background.num_tries, 1
        try:
            made, attachments = self._plain_make([item])
            rows = [bt_dumps(row).encode() for row in _flat(made)]
            for attachment in attachments:
                attachment.upload()
        except BaseException as error:  # noqa: BLE001 - masking functions may even raise SystemExit
            logger.debug("a row can't be made: %s", type(error).__name__)
        finally:
            background.num_tries = tries
        is_lost = not rows
        if is_lost:
            rows = [dump(row) for row in _skeleton(item)]
        if rows:
            self._take_rows(b'{"rows":[' + b",".join(rows) + b"]}")
        if is_lost:  # a span that starts with the row is known only now
            self._lost[contained("find whose row is lost", lambda: self._owner_of(item), None)] += 1

    def _owner_of(self, item: Any) -> str | None:
        span, _ = getattr(item, _SOURCE, (None, None))
        return None if span is None else self._invocation_of(identity_of(span))

    def _noting_sources(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        of_thread = self._of_thread

        @functools.wraps(plain)
        def log_internal(span: Any, event: Any = None, internal_data: Any = None) -> Any:
            if internal_data and event is None:
                with contain("write the end of a span to the journal"):
                    if self._take_end(span, internal_data):
                        return None
            of_thread.source = (span, event, internal_data)
            try:
                return plain(span, event, internal_data)
            finally:
                of_thread.source = None

        return log_internal


def _flat(made: Sequence[Any]) -> list[Any]:
    """The rows that were made, which new releases divide into waves."""
    return [row for part in made for row in (part if isinstance(part, list) else [part])]


def _skeleton(item: Any) -> list[Row]:
    """The row without what it logs, if it starts or ends a span."""
    span, internal = getattr(item, _SOURCE, (None, None))
    if not (internal and internal.get("metrics")):
        return []
    plain = {name: internal[name] for name in ("metrics", "span_attributes", "created") if name in internal}
    return [lifecycle({**identity_of(span), **json.loads(dump(plain))})]
