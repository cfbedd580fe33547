"""Everything that rows pass through on their way to one destination."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.base import Backend
from ..backends.make import make_backend
from ..backends.project_ids import ProjectIds
from ..contain import contain, contained
from ..deadline import Deadline
from ..delivery.courier import Courier
from ..delivery.dead_letters import DeadLetters
from ..delivery.waits import Notice
from ..journal.base import WritableJournal
from ..journal.directory import StateDir
from ..journal.format import UNDECIDED, Position
from ..journal.invocation_record import InvocationRecord
from ..journal.open_spans import OpenSpan, OpenSpans
from ..journal.row_facts import NewRow
from ..outcome import ClosedBy, Outcome
from ..rows import Row, closing_row, correction, is_log_row, link_row, opened_at, started_at
from ..settings import Settings, fits_header, is_instance_temporary
from ..system.clock import monotonic
from ..system.threads import QuietThread
from .announcements import announce_local_store
from .current_journal import CurrentJournal, prepare_directory
from .forgotten import report
from .last_delivery import NOTICE_SECONDS, deliver_last, say_waiting
from .lookup import Lookup, cache_path
from .neighbours import Neighbours, Search
from .span_timeout import SpanTimeout
from .watchdog import Watchdog

if TYPE_CHECKING:
    from ..journal.orphans import OrphanSearch

__all__ = ["Pipeline"]

# How long the rows of a running invocation wait for a key.
_HOLD_SECONDS = 3.0


class Pipeline:
    """Owns the open spans, journal, courier and backend of one destination, which never changes: a login selects
    another pipeline. Without a key the destination is decided once, by the first login or else by the first delivery.

    Args:
        settings: decide the destination. Guards with another project share the pipeline.
        find_key: logs in with a key that has come since, if there is one. Called before the first delivery if the
            settings have no key. By default such settings mean the local store from the start.
        backend: replaces the one that the settings name.
        watchdog: the process's watchdog. By default the pipeline has its own.
        search: begins a search for journals of dead processes. By default it finds all for this destination.

    Attributes:
        is_shared: False if the backend was passed in, as no other process can deliver to it.
        is_undecided: True if a login may still decide the destination.
        has_object_rows: True if rows of experiments or datasets have arrived since the last :meth:`flush`.
        written_at: when the SDK's last rows were written, on the monotonic clock.
        neighbours: recovers the journals of dead processes.
        timeout: closes spans without activity.
        lookup: knows the organisation and project ids.
        is_serving: rows that belong to no running invocation leave at once, as the process may soon have no CPU.
        running: ends each running invocation, by the id of its root.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend | None = None,
        *,
        watchdog: Watchdog | None = None,
        search: Search | None = None,
        find_key: Callable[[], object] | None = None,
    ) -> None:
        self.settings = settings
        self._find_key = find_key
        self.is_undecided = find_key is not None and backend is None and settings.lacks_key
        self._deciding = threading.RLock()
        self._held_since: float | None = None
        self.spans = OpenSpans()
        self.watchdog = watchdog or Watchdog(self.heartbeat)
        self.is_shared = backend is None
        self.has_object_rows = False
        self.is_serving = False
        self.written_at = 0.0
        self.running: dict[str, Callable[[str, Deadline], object]] = {}
        self._deferred: deque[NewRow] = deque()
        state_dir = prepare_directory(settings)
        directory = state_dir.directory if state_dir else None
        self.ids = ProjectIds(cache_path(settings, state_dir))
        self.backend = backend or make_backend(settings, self.ids)
        self.courier = Courier(
            self.backend,
            DeadLetters(directory, settings.max_journal_bytes // 8, lambda: self.settings.destination),
            linger=settings.linger, decide=self.decide if self.is_undecided else None,
        )
        self.lookup = Lookup(settings, self.ids, self.backend)
        self.lookup.is_decided = not self.is_undecided
        self._journal = CurrentJournal(settings, self._destination, self.spans, self.courier, state_dir)
        self.neighbours = Neighbours(self._journal, self.courier, search or self._new_search)
        self.timeout = SpanTimeout(settings.span_timeout, lambda: self.spans, self._journal.append_made, self.watchdog)
        self._is_forked = False

    def _new_search(self, state_dir: StateDir, since: str) -> OrphanSearch:
        from ..journal.orphans import OrphanSearch  # most cold starts find nothing and don't need it

        return OrphanSearch(state_dir, self.settings.destination, since=since)

    @property
    def state_dir(self) -> StateDir | None:
        """The directory of the journal, caches and local store; None if it is not writable."""
        return self._journal.state_dir

    # The destination

    @property
    def _destination(self) -> Mapping[str, Any]:
        """What the headers of journals name as the destination."""
        settings = self.settings
        if not self.is_undecided or settings.backend_name != "local":
            return settings.destination
        return {**settings.with_login(UNDECIDED, settings.app_url, settings.org_name).destination,
                "backend": UNDECIDED, "key_fingerprint": None}

    def log_in(self, settings: Settings) -> bool:
        """Take the destination of these settings, which have the key of a login. Returns False if it is decided."""
        with self._deciding:
            if not self.is_undecided:
                return False
            self.is_undecided = False
            self.settings = settings
            self.ids.open(cache_path(settings, self.state_dir))
            self.backend = make_backend(settings, self.ids)
            self.lookup.use(settings, self.backend)
            self.lookup.is_decided = True
            self._journal.readdress(settings, settings.destination)
            # Another process may have decided on the local store, and left rows for it.
            self.neighbours.readdress(settings.destination)
            self.courier.use(self.backend)
        self.lookup.start(None)
        return True

    def decide(self, *, may_log_in: bool = True) -> None:
        """Decide the destination before the first delivery: that of a key that has come since, else the local store.

        Args:
            may_log_in: False at the end of a process, where the SDK may not be able to. The environment's key is then
                used.
        """
        with contain("look for a key"):
            if self.is_undecided and may_log_in and self._find_key is not None:
                self._find_key()
            key = os.environ.get("BRAINTRUST_API_KEY", "").strip()
            if self.is_undecided and key and fits_header(key):
                self.log_in(self.settings.with_login(key, self.settings.app_url, self.settings.org_name))
        with self._deciding:
            if self.courier.is_held:
                self.is_undecided = self.settings.backend_name != "local"  # Braintrust without a key waits for one
                self.lookup.is_decided = not self.is_undecided
                with contain("name the destination in the journal"):
                    self._journal.readdress(self.settings, self._destination)
                self.courier.use(self.backend)
                self._announce()

    # Appending

    def begin(self, record: InvocationRecord, root: Row) -> tuple[WritableJournal, Position]:
        """Write the start of an invocation, with its root's first row."""
        written = self._journal.append([NewRow.of(root)], record)
        self.timeout.written()
        return written

    def append(self, rows: Sequence[Row]) -> tuple[WritableJournal, Position]:
        """Write the guard's own rows. Returns the journal that holds them and the position behind them."""
        written = self._append([NewRow.of(row) for row in rows])
        return self._follow_up() or written

    def ingest(self, rows: Sequence[NewRow]) -> tuple[WritableJournal, Position]:
        """Write rows from the SDK, and close spans that start after their invocation has ended."""
        self.written_at = monotonic()
        if not self.has_object_rows:
            for new in rows:
                self.has_object_rows |= not is_log_row(new.row)
        # Write the end of a late span together with its start, as the process may die in between.
        late = self.spans.late_in(rows)
        if late:
            rows = [*rows, *(NewRow.of(_late_end(row, opened_at(row))) for row in reversed(late))]
        written = self._append(rows)
        written = self._follow_up() or written
        if self.is_serving and not all(self.spans.is_of_live(new) for new in rows):
            self.courier.send_soon()
        return written

    def adopt(self, span: Any, root: str) -> None:
        """See :meth:`.OpenSpans.adopt`. The span's first row may be written already, without its link."""
        self.spans.adopt(span, root)
        self._follow_up()

    def defer(self, row: Row) -> None:
        """Write a row of the guard's own together with the next row, whoever's it is. A death before that loses it."""
        self._deferred.append(NewRow.of(row))

    def _append(self, rows: Sequence[NewRow]) -> tuple[WritableJournal, Position]:
        if self._deferred:
            rows = [*self._take_deferred(), *rows]
        written = self._journal.append(rows)
        self.timeout.written()
        return written

    def _take_deferred(self) -> Iterator[NewRow]:
        with contextlib.suppress(IndexError):  # another thread may take them too
            while True:
                yield self._deferred.popleft()

    def _follow_up(self) -> tuple[WritableJournal, Position] | None:
        """Write what the last rows call for: links between traces, the real ends of spans that were closed before
        their own code ended them, and the ends of spans whose invocation ended during the write."""
        if not self.spans.has_followups:
            return None
        links, own_ends, late = self.spans.take_followups()
        rows = [link_row(span, record) for span, record in links]
        rows += [correction(span, end) for span, end in own_ends]
        rows += [_late_end(span.identity, span.place) for span in late]
        return self._append([NewRow.of(row) for row in rows]) if rows else None

    def journal(self) -> WritableJournal:
        """This process's journal, created on first use and again after a fork."""
        return self._journal.get()

    # Closing and delivering

    def close_spans(
        self, spans: Iterable[OpenSpan], outcome: Outcome, closed_by: ClosedBy, reason: str, end: float
    ) -> list[Row]:
        """The rows that close spans which their code left open. They get no ``error``."""
        return [
            closing_row(
                span.identity, end=max(end, span.start), outcome=outcome, closed_by=closed_by, reason=reason,
                place=span.place,
            )
            for span in spans
        ]

    def flush(self, deadline: Deadline) -> bool:
        """Deliver everything in the journals. Returns True if nothing is left."""
        self.decide_if_needed()
        self.neighbours.wait_for_look(deadline)
        with contain("recover what forked children left behind"):
            self.neighbours.adopt_children(deadline)
        had, self.has_object_rows = self.has_object_rows, False
        drained = self.courier.drain(deadline) and contained(
            "deliver what forked children left behind", lambda: self.neighbours.deliver_children(deadline), True
        )
        self.has_object_rows |= had and not drained
        return drained

    @property
    def notice(self) -> Notice:
        """Announces a long wait for this destination."""
        return Notice(NOTICE_SECONDS, functools.partial(say_waiting, self.courier, self.settings))

    def _end_hold(self) -> None:
        """Deliver the rows of a long invocation to the local store, where somebody may look at them. An instance that
        is thrown away waits for a key instead."""
        if self.courier.is_delivered or is_instance_temporary(os.environ):
            return
        if self._held_since is None:
            self._held_since = monotonic()
        elif monotonic() - self._held_since >= _HOLD_SECONDS:
            self.decide()

    def decide_if_needed(self, *, may_log_in: bool = True) -> None:
        """Decide the destination now if it is not known and there is something to deliver; see :meth:`decide`."""
        if self.courier.is_held and not self.courier.is_delivered:
            self.decide(may_log_in=may_log_in)

    @property
    def is_idle(self) -> bool:
        """True if nothing is undelivered and no span is open."""
        journal = self._journal.known
        return self.courier.drain(Deadline.after(0.0)) and (journal is None or journal.finished)

    @property
    def is_durable(self) -> bool:
        """True unless closing the pipeline would lose rows that are only in memory."""
        journal = self._journal.known
        return journal is None or journal.durable

    def heartbeat(self) -> None:
        """Refresh the journal's time while invocations run, and look for dead processes. Called every second."""
        journal = self._journal.known
        if journal is not None and self.spans.live():
            journal.touch()
        if self.courier.is_held:
            self._end_hold()
        self.neighbours.look_around()

    def announce(self) -> None:
        """Before an invocation: print once where traces are stored if that is known and not Braintrust."""
        if self._is_forked:
            # A forked child has not looked at a start, and may not live until the first regular look. A sibling may
            # have died.
            self._is_forked = False
            self.neighbours.look_around_at_once()
        if not self.is_undecided:
            self._announce()

    def _announce(self) -> None:
        if self.settings.backend_name == "local" and self.is_shared and self.state_dir is not None:
            announce_local_store(self.state_dir.directory)

    # Living and dying

    def after_fork(self) -> None:
        """In a forked child: the parent keeps its journal. The child creates its own on first use."""
        for journal in self.courier.journals():  # including its own
            journal.abandon()
        self.spans = OpenSpans()
        self.running = {}
        self._deferred.clear()
        self._is_forked = True
        self._deciding = threading.RLock()
        self._journal.after_fork(self.spans)
        self.neighbours.after_fork()
        self.ids.after_fork()
        self.watchdog.after_fork()
        self.timeout.after_fork()
        self.courier.after_fork()
        after_fork = getattr(self.backend, "after_fork", None)
        if after_fork is not None:
            after_fork()

    def before_snapshot(self, deadline: Deadline) -> None:
        """The process is about to be copied: deliver everything, and leave no connection open."""
        self.courier.drain(deadline, force=True)
        self.backend.close()

    def after_restore(self) -> None:
        """This process is one of several copies: requests in flight will not be answered, and other copies may use the
        same journal."""
        self.courier.thawed()
        self._journal.reopen()

    def terminate(self, signal: str, deadline: Deadline, *, is_certain: bool = False) -> None:
        """A signal of this name ends the process: close every open span, and deliver as much as possible.

        Args:
            is_certain: no running code will finish. Spans that are being opened or closed are closed too, and later
                rows stay on disk.
        """
        if self.courier.is_held and (self.running or not self.courier.is_delivered):
            # Before the deliveries below, because the code that a signal interrupts may hold locks of the SDK.
            self.decide(may_log_in=False)
        # Each call waits for its delivery. In parallel they share deliveries.
        ends = [functools.partial(end, signal, deadline) for end in list(self.running.values())]
        here, threads = ends[:1], []
        for end in ends[1:]:
            thread = QuietThread(target=end, name="trace-guard-terminate", daemon=True)
            try:
                thread.start()
                threads.append(thread)
            except RuntimeError:  # no thread can be started
                here.append(end)
        for end in here:
            end()
        for thread in threads:
            thread.join(min(deadline.remaining, threading.TIMEOUT_MAX))
        if is_certain and self._journal.known is not None:
            self._write_last(self._killed_rows)
        elif unowned := self._terminated(self.spans.unowned()):
            self.append(unowned)
        self.courier.drain(deadline)  # recovery of other journals can wait, the signal can't

    def close(self, deadline: Deadline, *, notice_seconds: float = NOTICE_SECONDS) -> None:
        """Close the spans that are still open, deliver as much as possible, and give up the journals.

        Args:
            notice_seconds: a wait that is longer is announced on stderr.
        """
        with contain("recover what other processes left behind"):
            has_neighbours = self.neighbours.last_look(deadline)
        if self._journal.known is not None:
            forgotten: list[OpenSpan] = []
            self._write_last(lambda: self._last_rows(forgotten))
            report(forgotten)
        self.decide_if_needed(may_log_in=False)
        if deliver_last(
            self.courier, self.settings, self._directory, deadline, notice_seconds
        ) and has_neighbours:
            self.neighbours.last_rounds(deadline)
        self.let_go()

    @property
    def _directory(self) -> Path | None:
        return None if self.state_dir is None else self.state_dir.directory

    def let_go(self) -> None:
        """Release threads, connections and files until the next row. Undelivered rows stay on disk for a recovery."""
        self.timeout.stop()
        self.courier.close()
        self._journal.close()

    def _write_last(self, rows: Callable[[], list[NewRow]]) -> None:
        """Create and write rows while no other write is possible, and deliver nothing that is written after them."""
        with self.courier.paused():  # a row that is written later may begin a span whose end comes too late
            self.courier.last_call(*self._journal.append_made(rows))

    def _terminated(self, spans: Iterable[OpenSpan]) -> list[Row]:
        return self.close_spans(spans, Outcome.TERMINATED, ClosedBy.GUARD, "signal", time.time())

    def _killed_rows(self) -> list[NewRow]:
        """Like :meth:`_last_rows`, for a process that a signal ends."""
        return [NewRow.of(row) for row in self._terminated(self.spans.all_open())]

    def _last_rows(self, forgotten: list[OpenSpan]) -> list[NewRow]:
        """The rows that end everything open. Other threads may go on tracing; none of their rows comes in between.

        Args:
            forgotten: gets the spans outside invocations.
        """
        unowned, now = self.spans.unowned(), time.time()
        # An invocation that still runs, in a daemon thread or a forgotten generator, ends with the process.
        owned = [span for span in self.spans.all_open() if span not in unowned]
        closing = self.close_spans(owned, Outcome.ABANDONED, ClosedBy.GUARD, "exit", now)
        forgotten[:] = unowned
        closing += self.close_spans(unowned, Outcome.OK, ClosedBy.GUARD, "exit", now)
        return [NewRow.of(row) for row in closing]


def _late_end(span: Row, place: str | None) -> Row:
    """The row that ends a span which started after its invocation ended."""
    return closing_row(
        span, end=max(time.time(), started_at(span) or 0.0), outcome=Outcome.OK, closed_by=ClosedBy.GUARD,
        reason="late", place=place,
    )
