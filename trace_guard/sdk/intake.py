"""Moves rows from the SDK to the gateway: at once where possible, else from the SDK's queue."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import braintrust.logger as bt

from ..contain import contain, logger
from ..deadline import Deadline
from ..system.clock import monotonic
from ..system.events import SafeEvent
from ..system.threads import QuietThread
from .direct import ended, made
from .gateway import Gateway
from .making_rows import making_rows
from .masking import changes_rows
from .rescue import Rescue

__all__ = ["Intake"]

# If the SDK's queue is more than 1/_SHARE_OF_QUEUE full, logging code waits at most _QUEUE_SECONDS for it. If the queue
# does not shrink in that time, logging code does not wait again for _QUEUE_PAUSE_SECONDS.
_SHARE_OF_QUEUE = 10
_QUEUE_SECONDS = 2.0
_QUEUE_PAUSE_SECONDS = 30.0
# A forked child may end without exit handlers, as those of multiprocessing do. Its logging code waits until a row is in
# the journal, which takes about a millisecond. The bounds are for a busy machine, and for rows that a user's masking
# function or customizer makes.
_CHILD_SECONDS = 5.0
_CHILD_MASKING_SECONDS = 0.2


class Intake:
    """The background logger of the SDK's global state, with its hooks.

    Args:
        is_installed: returns whether the gateway is in place.
        install: puts the gateway in place again.
        flushed: called after the user has called ``flush()``, when the rows are in the journal.
        exit_by: returns when an exit must stop waiting; None until the process exits.
    """

    def __init__(
        self, gateway: Gateway, is_installed: Callable[[], bool], install: Callable[[], object],
        flushed: Callable[[], object], exit_by: Callable[[], Deadline | None],
    ) -> None:
        self._gateway = gateway
        self._is_installed = is_installed
        self._install = install
        self._flushed = flushed
        self._exit_by = exit_by
        self._drainer = _Drainer(self)
        self._rescue = Rescue(
            gateway.take_rows, lambda span, internal: self._take_end(span, internal), gateway.host.invocation_of
        )
        self._plain_flush: Callable[..., None] | None = None
        self._patient_until = 0.0
        self._is_forked = False
        # How many calls are putting rows in the queue, and how many flushes are taking them out. A finalizer may log
        # while its thread holds the lock.
        self._putting = self._flushing = 0
        self._counts = threading.RLock()

    def drain(self, deadline: Deadline) -> bool:
        """Move the rows in the SDK's queue to the journal. Returns False if the deadline passes first."""
        return self._drainer.drain(deadline)

    @property
    def is_quiet(self) -> bool:
        """True if every row put in the queue is in the journal. False if other code has replaced the queue, as its rows
        are not counted."""
        return self._is_quiet(bt._state.global_bg_logger())

    def _is_quiet(self, background: Any) -> bool:
        # In the order in which a row passes through: it can't be behind a place that is looked at later.
        return "log" in background.__dict__ and not (self._putting or _size(background.queue) or self._flushing)

    @property
    def has_been_used(self) -> bool:
        """True once the queue has had a row in it."""
        return bool(getattr(bt._state.global_bg_logger(), "started", True))

    @property
    def pending(self) -> int:
        """How many rows are in memory only: in the queue, or taken from it and not in the journal yet."""
        background: Any = bt._state.global_bg_logger()
        return _size(background.queue) + self._rescue.in_hand

    def lost_of(self, root: str | None) -> int:
        """See :meth:`.Rescue.lost_of`."""
        return self._rescue.lost_of(root)

    def forget_losses(self, root: str) -> None:
        """See :meth:`.Rescue.forget`."""
        self._rescue.forget(root)

    def flush_queue(self) -> None:
        """The SDK's own flush, which the gateway turns into a write to the journal."""
        (self._plain_flush or bt._state.global_bg_logger().flush)()

    def hook(self, state: Any) -> None:
        """Hook into the background logger. Outside an invocation a user's ``flush()`` promises that rows have arrived,
        so it waits for the courier too. Inside one the invocation's end delivers."""
        background = state.global_bg_logger()
        if "flush" in background.__dict__:
            return
        self._rescue.hook(background)
        _make_safe(background.queue)
        self._count_rows(background)
        self._bypass_http(background)
        sdk_flush, after = background.flush, self._flushed

        def plain(*args: Any, **options: Any) -> None:
            with self._counts:
                self._flushing += 1
            try:
                with self._rescue.watching(background), making_rows():
                    sdk_flush(*args, **options)
            finally:
                with self._counts:
                    self._flushing -= 1

        self._plain_flush = plain

        def flush(*args: Any, **options: Any) -> None:
            exit_by = self._exit_by()
            if exit_by is not None:
                self.drain(exit_by)  # the SDK's own exit handler waits without a limit
                return
            plain(*args, **options)
            if threading.current_thread() is not getattr(background, "thread", None):
                with contain("deliver after flush()"):
                    after()

        background.flush = flush

    def _bypass_http(self, background: Any) -> None:
        """Give rows to the gateway as they are: a request costs more than the rest of a short invocation."""
        plain = getattr(background, "_submit_logs_request", None)
        compose = getattr(bt, "construct_logs3_data", None)
        if plain is None or compose is None:
            return

        def submit(items: Any, *options: Any, **named: Any) -> None:
            # Not even where user code has set another adapter meanwhile: placeholders are ours to replace.
            if self._is_short_cut(background):
                self._rescue.sent()
                with contain("take rows from the SDK"):
                    self._gateway.take_rows(compose(items).encode())
                    return
            self._rescue.sent()
            plain(items, *options, **named)

        background._submit_logs_request = submit

    def _count_rows(self, background: Any) -> None:
        plain = background.log

        def log(*rows: Any) -> None:
            with contain("write a row to the journal"):
                if not self._is_installed():
                    self._install()
                if self._take(background, rows):
                    return
            with contain("note which span a row is of"):
                for row in rows:
                    self._rescue.note_source(row)
            if not getattr(background, "started", True) and background.thread.ident is not None:
                background.started = True  # a time limit has interrupted the start, which can't be repeated
            with self._counts:
                self._putting += 1
            try:
                plain(*rows)
            finally:
                with self._counts:
                    self._putting -= 1
            with contain("take rows from the SDK's queue"):
                if self._drainer.thread is None:
                    self._drainer.start()  # at interpreter exit it is too late
                self._take_in_time(background)

        background.log = log

    def _take(self, background: Any, rows: tuple[Any, ...]) -> bool:
        """Put rows in the journal. Returns False if they must take the queue, behind the rows that are in it."""
        if len(rows) != 1 or not self._is_open(background):
            return False
        row = made(rows[0], self._rescue.source, background)
        if row is None:
            return False
        self._gateway.take_row(*row)
        return True

    def _take_end(self, span: Any, internal: dict[str, Any]) -> bool:
        """Put the row that only ends a span in the journal. Returns False if the SDK must make the row."""
        background = span.state.global_bg_logger()
        if not self._is_open(background):
            return False
        row = ended(span, internal, background)
        if row is None:
            return False
        self._gateway.take_row(*row)
        span._logged_end_time = internal["metrics"]["end"]
        return True

    def _is_open(self, background: Any) -> bool:
        """True if rows may go to the journal now, past the queue."""
        return self._is_quiet(background) and self._is_short_cut(background)

    def _is_short_cut(self, background: Any) -> bool:
        """True if rows need not become requests."""
        return not getattr(background, "all_publish_payloads_dir", None) or not self._is_installed()

    def _take_in_time(self, background: Any) -> None:
        """Wait for a moment if the queue fills up, as a full queue silently drops its oldest rows, and in a forked
        child, unless the end of an invocation will empty the queue."""
        waiting = background.queue
        is_full = 0 < waiting.maxsize < _size(waiting) * _SHARE_OF_QUEUE
        if not (is_full or self._is_forked) or monotonic() < self._patient_until:
            return
        if not is_full and self._gateway.host.is_serving_invocation():
            return
        if threading.current_thread() in (self._drainer.thread, getattr(background, "thread", None)):
            return  # a masking function, which is called to send rows, may log rows itself
        in_child = _CHILD_MASKING_SECONDS if changes_rows(background) else _CHILD_SECONDS
        if not self.drain(Deadline.after(_QUEUE_SECONDS if is_full else in_child)):
            self._patient_until = monotonic() + _QUEUE_PAUSE_SECONDS

    def unhook(self, state: Any) -> None:
        """Take the hooks out again."""
        background = state.global_bg_logger()
        for name in ("flush", "log", "_submit_logs_request"):
            background.__dict__.pop(name, None)
        self._rescue.unhook(background)
        self._plain_flush = None

    def after_fork(self) -> None:
        """In a forked child: the parent's helper threads do not exist, and locks that they held stay held."""
        self._counts = threading.RLock()
        self._drainer = _Drainer(self)
        self._rescue.after_fork()
        self._is_forked = True
        with contain("repair the SDK after a fork"):
            self._reset_after_fork()

    def _reset_after_fork(self) -> None:
        """Make the SDK's queue usable in the child, whose ``flush()`` would wait for ever for threads of the parent.

        The rows that wait in the queue are the parent's to send. The names are the same from 0.0.200 to 0.48.1.
        """
        bt.HTTP_REQUEST_THREAD_POOL = ThreadPoolExecutor(max_workers=os.cpu_count())
        background: Any = bt._state.global_bg_logger()
        background.flush_lock, background.start_thread_lock = threading.RLock(), threading.RLock()
        background.thread, background.started = threading.Thread(target=background._publisher, daemon=True), False
        queued = background.queue
        background.queue = type(queued)(maxsize=queued.maxsize)
        background.queue.enforce_queue_size_limit(queued._enforce_size_limit)
        _make_safe(background.queue)
        self._putting = self._flushing = 0


def _make_safe(waiting: Any) -> None:
    """Give the queue an event that an exception from a signal handler can't leave locked."""
    event = getattr(waiting, "_has_items_event", None)
    if isinstance(event, threading.Event) and not isinstance(event, SafeEvent):
        waiting._has_items_event = SafeEvent()
        if _size(waiting):
            waiting._has_items_event.set()
        event.set()  # a thread that waits on it finds the new one next time


def _size(waiting: Any) -> int:
    size = waiting.size if hasattr(waiting, "size") else waiting.qsize
    return int(size())


class _Drainer:
    """Runs the SDK's flush on a separate thread, since it has no timeout: callers can stop waiting."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._requests: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def drain(self, deadline: Deadline) -> bool:
        done = SafeEvent()
        if not self.start():
            self._flush(done)  # the interpreter is shutting down, and with it the SDK's own threads
            return True
        self._requests.put(done)
        return done.wait(min(deadline.remaining, threading.TIMEOUT_MAX))

    def start(self) -> bool:
        with self._lock:
            if self.thread is None or not self.thread.is_alive():
                thread = QuietThread(target=self._run, name="trace-guard-drain", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self.thread = thread
            return True

    def _run(self) -> None:
        while True:
            waiting = [self._requests.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.append(self._requests.get_nowait())
            self._flush(*waiting)

    def _flush(self, *waiting: threading.Event) -> None:
        try:
            self._intake.flush_queue()
        except Exception as error:  # noqa: BLE001 - attachments that can't be uploaded end up here
            logger.debug("the SDK's flush raised: %s", error)
        finally:
            for done in waiting:
                done.set()
