"""What all guards of one destination share in a process: journal, courier, watchdog, identity."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.base import Backend
from ..backends.project_ids import Identity, Organisation
from ..contain import contain, logger, warn_once
from ..deadline import Deadline
from ..delivery.courier import Courier
from ..delivery.dead_letters import DeadLetters
from ..errors import BackendError, JournalError
from ..journal.base import NewRow
from ..journal.base import WritableJournal as Journal
from ..journal.directory import CACHE, JOURNALS, STORE_NAME, StateDir, examine, locate, prepare
from ..journal.files import is_small
from ..journal.format import Flag, Position
from ..journal.invocation_record import InvocationRecord
from ..journal.journal import FileJournal
from ..journal.memory import MemoryJournal
from ..journal.open_spans import OpenSpan, OpenSpans
from ..outcome import ClosedBy, Outcome
from ..redaction.outside_text import print_error
from ..redaction.urls import strip_userinfo
from ..rows import Row, closing_row, dump, is_log_row, is_span_row, link_row, started_at
from ..settings import DEFAULT_API_URL, Settings
from .watchdog import Watchdog

if TYPE_CHECKING:
    from ..journal.orphans import OrphanSearch

__all__ = ["Pipeline", "make_backend"]

_LOOK_UP_SECONDS = 10.0
_RECOVERY_SECONDS = 0.5
# How often a process that is at work looks whether one beside it has died: workers may share a directory for days.
_LOOK_AROUND_SECONDS = 2.0
# A look that takes long is made less often, so that it takes at most this share of the time.
_LOOK_AROUND_SHARE = 0.05
# At its end a process recovers what has died since it began, and for so long what is older.
_LAST_ROUNDS_SECONDS = 2.0
# Reading this much takes some milliseconds.
_QUICK_BYTES = 512 * 1024
_QUICK_JOURNALS = 32
# How long a process stays with its memory after the disk failed, before it tries the disk again.
_DISK_RETRY_SECONDS = 60.0
# Programs that serve several customers log in to and fro: a destination that has nothing left is kept for so long, as
# its connections are dear, and never more of them than this.
_RETIRED_SECONDS = 10.0
_RETIRED = 3


class _Retired:
    """What belongs to the destination of an earlier login, which may come back."""

    def __init__(
        self, settings: Settings, identity: Identity, backend: Backend, courier: Courier, journal: Journal | None
    ) -> None:
        self.settings = settings
        self.identity = identity
        self.backend = backend
        self.courier = courier
        self.journal = journal
        self.since = time.monotonic()

    @property
    def finished(self) -> bool:
        """True if nothing is left to be delivered, and none of its spans is open."""
        return self.courier.drain(Deadline.after(0.0)) and (self.journal is None or self.journal.finished)

    def close(self) -> None:
        """Let go of threads, connections and files; what is undelivered stays on disk, for a recovery."""
        self.courier.close()
        if self.journal is not None:
            self.journal.close()


class Pipeline:
    """Owns the mechanism; adapters and guards only ever ask it to append, to deliver and to arm.

    Args:
        settings: they decide the destination; guards with another project share the pipeline.
        backend: instead of the one that the settings name.

    Attributes:
        key: guards whose settings come down to the same key share the pipeline.
        unrecovered: true if other processes have left more behind than could be recovered so far.
        has_object_rows: true if rows of experiments or datasets have come since the last :meth:`flush`.
        running: how to end each invocation that is under way, by the id of its root.
    """

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        self.settings = settings
        self.spans = OpenSpans()
        self.watchdog = Watchdog(self._heartbeat)
        self._given_backend = backend
        self._lock = threading.RLock()
        self._journal: Journal | None = None
        self._disk_again_at = 0.0
        self._look_around_at = time.monotonic() + _LOOK_AROUND_SECONDS
        self._is_forked = False
        self._looking: threading.Thread | None = None
        self._recovering = threading.Lock()
        self._search: OrphanSearch | None = None
        self._state_dir: StateDir | None = None
        # As in the names of journals.
        self._began = str(time.time_ns() // 1_000_000)
        self._retired: list[_Retired] = []
        self._resolved: Callable[[], None] = lambda: None
        self._moved: Callable[[], None] = lambda: None
        self._next_login: tuple[str, str, str | None] | None = None
        self.key: object = None
        self.unrecovered = self._is_put_off = self.has_object_rows = False
        self.running: dict[str, Callable[[str, Deadline], object]] = {}
        self._connect()

    def _connect(self) -> None:
        """Everything that depends on the destination."""
        self._state_dir = self._prepared()
        self._search = None
        self.identity = Identity(self._identity_path())
        self.identity.on_change(lambda: self._resolved())
        self.backend = self._given_backend or make_backend(self.settings, self.identity)
        directory = self._state_dir.directory if self._state_dir else None
        self.courier = Courier(
            self.backend, DeadLetters(directory, self.settings.max_journal_bytes // 8), linger=self.settings.linger
        )

    def start(self, *, quick: bool = False) -> None:
        """Close what dead processes left open; ``quick``: if that is as quick as it is nearly always."""
        with contain("recover what other processes left behind"):
            state_dir = self._state_dir
            if quick and state_dir is not None and not is_small(
                state_dir.directory / JOURNALS, most_bytes=_QUICK_BYTES, most_journals=_QUICK_JOURNALS
            ):
                self.unrecovered = self._is_put_off = True
            else:
                self.recover(Deadline.after(_RECOVERY_SECONDS))
                self.unrecovered = self._is_more

    def recover_rest(self, deadline: Deadline) -> None:
        """Close and deliver what dead processes left behind, where it would have held up the start."""
        if self.unrecovered:
            self._is_put_off = False
            with contain("recover what other processes left behind"):
                self._recover_in_rounds(deadline)
            self.unrecovered = self._is_more

    def on_resolved(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the organisation or a project's id has been found out."""
        self._resolved = listener

    def on_moved(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when a login that had to wait for an invocation's end has taken effect."""
        self._moved = listener

    # Appending

    def begin(self, record: InvocationRecord, row: Row) -> tuple[Journal, Position]:
        """Write that an invocation begins, with its root's first row."""
        return self._append([NewRow.of(row)], record)

    def append(self, rows: Sequence[Row]) -> tuple[Journal, Position]:
        """Write rows of our own; the journal that has them, and the position behind them."""
        return self._append([NewRow.of(row) for row in rows])

    def ingest(self, rows: Iterable[tuple[Row, bytes]]) -> None:
        """Write rows that the SDK has handed over, and close those that come too late for their invocation."""
        rows = list(rows)
        if not self.has_object_rows:
            self.has_object_rows = any(not is_log_row(row) for row, _ in rows)
        # The end of a late span is in the same write as its start: the process may die in between.
        late = [_late_end(row) for row in reversed(self.spans.late_in([row for row, _ in rows]))]
        self._append([
            *(NewRow(row, encoded, Flag.NONE if is_span_row(row) else Flag.VERBATIM) for row, encoded in rows),
            *(NewRow.of(row) for row in late),
        ])
        links = self.spans.take_links()
        if links:
            self.append([link_row(span, record) for span, record in links])
        missed = self.spans.take_late()  # their invocation has ended during the write
        if missed:
            self.append([_late_end(span.identity) for span in missed])

    def _append(
        self, rows: Sequence[NewRow], record: InvocationRecord | None = None
    ) -> tuple[Journal, Position]:
        return self._write(lambda journal: journal.append(rows) if record is None else journal.begin(record, rows))

    def _write(self, write: Callable[[Journal], Position]) -> tuple[Journal, Position]:
        journal, end = self.journal(), None
        for instead_of in (self._instead_of, self._memory_instead_of, None):
            try:
                end = write(journal)
                break
            except (OSError, JournalError) as error:
                if instead_of is None:
                    raise
                journal = instead_of(journal, error)
        assert end is not None
        for courier in self.couriers():
            courier.rows_arrived(journal)  # which is another's by now if there was a login meanwhile
        return journal, end

    def couriers(self) -> list[Courier]:
        """That of its destination, and those of earlier logins that may still have something."""
        return [self.courier, *(one.courier for one in self._retired)]

    def journal(self) -> Journal:
        """This process's journal; made when it is first needed, and again after a fork."""
        journal = self._journal
        if journal is not None and (journal.durable or time.monotonic() < self._disk_again_at):
            return journal
        with self._lock:
            if self._journal is None or time.monotonic() >= self._disk_again_at:
                self._open_journal()
            assert self._journal is not None
            return self._journal

    def _open_journal(self, *, anew: bool = False) -> None:
        if self._journal is not None and self._journal.durable and not anew:
            return
        state_dir = self._state_dir or self._prepared()
        if state_dir is not None and not (state_dir.directory / JOURNALS).is_dir():
            state_dir = self._prepared()  # a cleaner of temporary files may have been here
        if state_dir is None:
            self._disk_again_at = time.monotonic() + _DISK_RETRY_SECONDS
            if self._journal is None or anew:
                self._use(MemoryJournal(self.spans))
            return
        self._state_dir = state_dir
        try:
            self._use(FileJournal.create(state_dir, self._header(), self.spans, sync=self.settings.sync))
        except (OSError, JournalError) as error:
            self._to_memory(f"no journal can be made in {state_dir.directory}: {error}")

    def _use(self, journal: Journal) -> None:
        self.courier.add(journal, instead_of=self._journal)
        self._journal = journal

    def _instead_of(self, journal: Journal, error: Exception) -> Journal:
        """Another journal after one that can't be written: on disk if only its files were cleared away."""
        with self._lock:
            if self._journal is not journal:
                return self.journal()  # it was given up after a login, or another thread was here first
        if isinstance(journal, FileJournal) and not journal.intact:
            with self._lock:
                if self._journal is journal:
                    self._open_journal(anew=True)
                    self._save_from(journal)
                assert self._journal is not None
                return self._journal
        return self._memory_instead_of(journal, error)

    def _save_from(self, journal: FileJournal) -> None:
        """Find out what of a journal that another program has changed can't be read back. Of spans that are open it
        may be their start: that is written again."""
        for _ in journal.read(journal.acked):
            pass
        if journal.lost is not None and self._journal is not None:
            self.courier.note_loss(journal)
            starts = [
                {**span.identity, "_is_merge": True, "span_attributes": {"name": span.name}}
                for span in self.spans.all_open()
            ]
            if starts:
                self._journal.append([NewRow.of(row) for row in starts])

    def _memory_instead_of(self, journal: Journal, error: Exception) -> Journal:
        return self._to_memory(f"the journal can't be written: {error}")

    def _to_memory(self, why: str) -> Journal:
        warn_once("memory", "%s. Tracing goes on in memory: what can't be delivered before the process ends is "
                  "lost; set TRACE_GUARD_DIR to a directory that can be written", why)
        with self._lock:
            self._disk_again_at = time.monotonic() + _DISK_RETRY_SECONDS
            if self._journal is None or self._journal.durable:
                # The one on disk stays with the courier: what it has is still to be delivered.
                self._use(MemoryJournal(self.spans))
            assert self._journal is not None
            return self._journal

    def _prepared(self) -> StateDir | None:
        try:
            return prepare(self.settings.dir, self.settings.max_journal_bytes)
        except JournalError as error:
            warn_once("memory", "%s. Tracing goes on in memory: what can't be delivered before the process ends "
                      "is lost", error)
            return None

    def _header(self) -> dict[str, Any]:
        settings = self.settings
        return {**settings.destination, "project": settings.project, "project_id": settings.project_id}

    # Closing and delivering

    def close_spans(
        self, spans: Iterable[OpenSpan], outcome: Outcome, closed_by: ClosedBy, reason: str, end: float
    ) -> list[Row]:
        """The rows that close spans which their own code left open. They get no ``error`` of their own."""
        return [
            closing_row(span.identity, end=max(end, span.start), outcome=outcome, closed_by=closed_by, reason=reason)
            for span in spans
        ]

    def recover(self, deadline: Deadline) -> int:
        """Close what is open in journals of dead processes, and give them to the courier; how many there were.

        No more are taken than the courier may have at a time. The next call goes on where this one stopped.
        """
        state_dir, patience = self._state_dir, min(deadline.remaining, threading.TIMEOUT_MAX)
        if state_dir is None or not self._recovering.acquire(timeout=patience):
            return 0
        try:
            with self._lock:
                courier, search = self.courier, self._search
                if search is None and os.listdir(state_dir.directory / JOURNALS):
                    search = self._search = self._new_search(state_dir)
            return 0 if search is None else self._adopt(search, courier, deadline)
        finally:
            self._recovering.release()

    def _new_search(self, state_dir: StateDir, since: str = "") -> OrphanSearch:
        from ..journal.orphans import OrphanSearch  # most cold starts find nothing, and do without

        return OrphanSearch(state_dir, self.settings.destination, since=since)

    def search_anew(self) -> None:
        """Begin the next recovery with what has died since this process began."""
        if self._state_dir is not None:
            self._search = self._new_search(self._state_dir, self._began)

    def _adopt(self, search: OrphanSearch, courier: Courier, deadline: Deadline) -> int:
        from ..journal.orphans import MOST_ADOPTED

        adopted = [(each, orphan) for each in self.couriers() for orphan in each.orphans()]
        if len(adopted) >= MOST_ADOPTED:
            # Where only attachments wait, others get their turn. Those are found again when all have had theirs.
            for each, orphan in adopted:
                if orphan.acked >= orphan.end:
                    each.let_go([orphan])
            adopted = [(each, orphan) for each in self.couriers() for orphan in each.orphans()]
        found = search.adopt(MOST_ADOPTED - len(adopted), deadline)
        for one in found:
            courier.add(one.journal, first=one.closing, orphan=True)
        return len(found)

    @property
    def _is_more(self) -> bool:
        """True if a recovery has not come to its end yet."""
        return self._search is not None and bool(self._search.unreached)

    def _recover_in_rounds(self, deadline: Deadline, seconds_for_old: float = threading.TIMEOUT_MAX) -> None:
        """Recover and deliver until nothing is left.

        Args:
            seconds_for_old: most seconds for what has not died since this process began.
        """
        patience = Deadline.after(seconds_for_old)
        while True:
            search = self._search
            until = deadline if search is not None and search.is_at_recent else min(deadline, patience)
            if not self.recover(until) or not self.courier.drain(until) or not self._is_more:
                return

    def flush(self, deadline: Deadline) -> bool:
        """Deliver all that is in the journals; True if nothing is left."""
        self._wait_for_look(deadline)
        had, self.has_object_rows = self.has_object_rows, False
        drained = self._drain(deadline)
        self.has_object_rows |= had and not drained
        return drained

    def _drain(self, deadline: Deadline) -> bool:
        drained = [courier.drain(deadline) for courier in self.couriers()]
        return all(drained)

    def _heartbeat(self) -> None:
        journal = self._journal
        if journal is not None and self.spans.live():
            journal.touch()
        if time.monotonic() >= self._look_around_at and not self._is_put_off:
            self._look_around_at = time.monotonic() + _LOOK_AROUND_SECONDS
            self._look_around_aside()

    def _look_around_aside(self) -> None:
        """On a thread of its own, as the watchdog's has alarms to give, and an invocation has work to do."""
        is_looking = self._looking is not None and self._looking.is_alive()
        if not is_looking and self._has_neighbours():
            looking = threading.Thread(target=self._look_around, name="trace-guard-recovery", daemon=True)
            with contain("look for what other processes left behind"):  # without a thread, another time
                looking.start()
                self._looking = looking

    def _wait_for_look(self, deadline: Deadline) -> None:
        """Whoever flushes may end the process, and what is being recovered is to go along."""
        looking = self._looking
        if looking is not None and looking is not threading.current_thread():
            looking.join(min(deadline.remaining, _RECOVERY_SECONDS))

    def _has_neighbours(self) -> bool:
        """True if there are journals that this process does not deliver from."""
        if self._state_dir is None:
            return False
        ours = {
            one.path.name for courier in self.couriers() for one in courier.journals() if isinstance(one, FileJournal)
        }
        with contextlib.suppress(OSError):
            return any(not name.startswith(".") and name not in ours
                       for name in os.listdir(self._state_dir.directory / JOURNALS))
        return False

    def _look_around(self) -> None:
        began = time.monotonic()
        with contain("recover what a process beside this one left behind"):
            self.recover(Deadline.after(_RECOVERY_SECONDS))
        now = time.monotonic()
        pause = 0.0 if self._is_more else _LOOK_AROUND_SECONDS
        self._look_around_at = now + max(pause, (now - began) / _LOOK_AROUND_SHARE)

    # Identity

    def look_up(self, name: str | None) -> None:
        """Start to find out the organisation and the project of that name, where that is not known yet.
        Nothing waits for it."""
        if not hasattr(self.backend, "organisation"):
            return
        if self.identity.organisation is not None and (name is None or self.identity.project_id(name)):
            return
        looking_up = threading.Thread(target=self.find_out, args=(name,), name="trace-guard-look-up", daemon=True)
        with contain("look the project up early"):  # without a thread, the first delivery does
            looking_up.start()

    def find_out(self, name: str | None) -> None:
        """Find out the organisation, and the project of that name, and wait for it."""
        backend, deadline = self.backend, Deadline.after(_LOOK_UP_SECONDS)
        try:
            if hasattr(backend, "organisation"):
                backend.organisation(deadline)
            if name is not None:
                backend.resolve_project(name, deadline)
        except BackendError as error:
            # The courier meets it again when it delivers, and reports it there.
            logger.debug("the look-up of the project failed: %s", error)

    def organisation(self) -> Organisation | None:
        return self.identity.organisation

    def project_id(self, name: str) -> str | None:
        if self.settings.project_id and name == self.settings.project:
            return self.settings.project_id
        if self.settings.backend_name != "braintrust":
            return name
        return self.identity.project_id(name)

    def project_name(self, project_id: str) -> str | None:
        if project_id == self.settings.project_id:
            return self.settings.project
        return self.identity.name_of(project_id)

    def api_url(self) -> str:
        found = self.identity.organisation
        return self.settings.api_url or (found.api_url if found else None) or DEFAULT_API_URL

    def key_given(self, api_key: str, app_url: str, org_name: str | None) -> None:
        """The SDK logs in with a key: with another one than before, what comes next has another destination."""
        settings = self.settings
        if settings.backend not in ("auto", "braintrust") or self._given_backend is not None:
            return
        login = (api_key, strip_userinfo(app_url), org_name)
        with self._lock:
            self._next_login = None
            if login == _login(self.settings):
                return
            if self.spans.live():
                # A trace stays where it began: split between two destinations it would be closed in neither.
                self._next_login = login
                return
            self._move(login)
        self._let_go(_RETIRED_SECONDS, _RETIRED)
        self.look_up(None)

    def _move(self, login: tuple[str, str, str | None]) -> None:
        """Retire what belongs to the destination, and have another one: of an earlier login, if there is that yet."""
        retired = _Retired(self.settings, self.identity, self.backend, self.courier, self._journal)
        self.courier.send_soon()
        known = next((one for one in self._retired if _login(one.settings) == login), None)
        if known is None:
            self.settings = self.settings.with_login(*login)
            self._journal = None
            self._connect()
            self._look_around_at = 0.0  # an earlier process may have left something behind that goes there
            self._retired.append(retired)
            return
        self._retired = [one for one in (*self._retired, retired) if one is not known]
        self.settings, self.identity, self.backend = known.settings, known.identity, known.backend
        self.courier, self._journal = known.courier, known.journal
        self._search = None
        if self._journal is not None and self.spans.all_open():
            self._open_journal(anew=True)  # one that knows of them

    def _let_go(self, seconds: float, most: int) -> None:
        """Close what earlier logins had: where nothing was left for so many seconds, and what there is too much of."""
        with self._lock:
            finished = [one for one in self._retired if one.finished]
            closing = [one for one in finished if time.monotonic() - one.since >= seconds]
            rest = [one for one in self._retired if one not in closing]
            # The oldest first of those that lose nothing, or no more than time, by it.
            rest.sort(key=lambda one: (one not in finished, one.journal is not None and not one.journal.durable))
            closing += rest[: max(0, len(rest) - most)]
            self._retired = [one for one in self._retired if one not in closing]
        for one in closing:
            with contain("let go of what an earlier login had"):
                if not (one.finished or one.journal is None or one.journal.durable):
                    warn_once("memory:login", "what could not be delivered with the key of an earlier login was in "
                              "memory only, and is lost")
                one.close()

    def announce(self) -> None:
        """Before an invocation: take up a login of the last one, and say once where traces are if they are not in
        Braintrust."""
        login = self._next_login
        if login is not None and not self.spans.live():
            self.key_given(*login)
            self._moved()
        if self._retired:
            self._let_go(_RETIRED_SECONDS, _RETIRED)
        if self._is_forked:
            # It was not here at the start, and may be too short-lived to look around: a sibling may have died.
            self._is_forked = False
            self._look_around_aside()
        if self.settings.backend_name == "local" and not self._given_backend and self._state_dir is not None:
            _say_once(
                f"trace-guard: BRAINTRUST_API_KEY is not set: traces are kept in "
                f"{self._state_dir.directory / STORE_NAME}; "
                "`trace-guard traces` shows them"
            )

    def _identity_path(self) -> Path | None:
        if self._state_dir is None or self.settings.backend_name != "braintrust":
            return None
        digest = sha256(dump(self.settings.destination)).hexdigest()[:16]
        return self._state_dir.directory / CACHE / f"identity-{digest}.json"

    # Living and dying

    def after_fork(self) -> None:
        """In a forked child: the parent goes on with its journal; ours is made when it is needed."""
        self._lock = threading.RLock()
        for courier in self.couriers():
            for journal in courier.journals():  # its own among them
                journal.abandon()
        self._journal = None
        self._retired = []
        self.running = {}
        self._is_forked = True
        self._looking = None
        self._recovering = threading.Lock()
        self._search = None
        self.spans = OpenSpans()
        self.identity.after_fork()
        self.watchdog.after_fork()
        self.courier.after_fork()
        after_fork = getattr(self.backend, "after_fork", None)
        if after_fork is not None:
            after_fork()

    def before_snapshot(self, deadline: Deadline) -> None:
        """The process is about to be copied: deliver what there is, and leave no connection open."""
        for courier in self.couriers():
            courier.drain(deadline, force=True)
        self._let_go(0.0, 0)
        self.backend.close()

    def after_restore(self) -> None:
        """This process is one of several copies: what was under way will not be answered, and the journal may be
        others' too."""
        self.courier.thawed()
        with self._lock:
            if self._journal is not None:
                self._open_journal(anew=True)

    def terminate(self, signal: str, deadline: Deadline, *, is_certain: bool = False) -> None:
        """A signal of this name ends the process: close every open span, and deliver what can be.

        Args:
            is_certain: nothing that goes on will come to an end of its own: so what is just being opened or closed is
                closed too, and what comes later stays on disk.
        """
        # Each waits until it is delivered: side by side they share their deliveries.
        ends = [functools.partial(end, signal, deadline) for end in list(self.running.values())]
        here, threads = ends[:1], []
        for end in ends[1:]:
            thread = threading.Thread(target=end, name="trace-guard-terminate", daemon=True)
            try:
                thread.start()
                threads.append(thread)
            except RuntimeError:  # no thread can be had
                here.append(end)
        for end in here:
            end()
        for thread in threads:
            thread.join(min(deadline.remaining, threading.TIMEOUT_MAX))
        if is_certain and self._journal is not None:
            self.courier.last_call(*self._write(lambda journal: journal.append_made(self._killed_rows)))
        elif unowned := self._terminated(self.spans.unowned()):
            self.append(unowned)
        self._drain(deadline)  # what others left behind can wait, the signal can't

    def _terminated(self, spans: Iterable[OpenSpan]) -> list[Row]:
        return self.close_spans(spans, Outcome.TERMINATED, ClosedBy.GUARD, "signal", time.time())

    def _killed_rows(self) -> list[NewRow]:
        """As :meth:`_last_rows`, where a signal is the end."""
        return [NewRow.of(row) for row in self._terminated(self.spans.all_open())]

    def close(self, deadline: Deadline) -> None:
        """Close the spans that are still open, deliver what can be, and give the journals up."""
        self._wait_for_look(deadline)
        has_neighbours = self._has_neighbours()
        if has_neighbours:
            # Children of a pool skip the handlers of their exit, and are over by now.
            self.search_anew()
            self._look_around()
        if self._journal is not None:
            self.courier.last_call(*self._write(lambda journal: journal.append_made(self._last_rows)))
        drained = self.courier.drain(deadline, force=True)
        for one in self._retired:
            one.courier.drain(deadline)
        if has_neighbours and drained and self._is_more:
            with contain("recover what other processes left behind"):
                self._recover_in_rounds(deadline, _LAST_ROUNDS_SECONDS)
        for one in [*self._retired, _Retired(self.settings, self.identity, self.backend, self.courier, self._journal)]:
            one.close()
        self._retired, self._journal = [], None

    def _last_rows(self) -> list[NewRow]:
        """The ends of all that is open. Threads may go on tracing: nothing of theirs comes in between."""
        unowned, now = self.spans.unowned(), time.time()
        # An invocation that is still under way, in a daemon thread or a forgotten generator, ends with the process.
        owned = [span for span in self.spans.all_open() if span not in unowned]
        closing = self.close_spans(owned, Outcome.ABANDONED, ClosedBy.GUARD, "exit", now)
        closing += self.close_spans(unowned, Outcome.OK, ClosedBy.GUARD, "exit", now)
        return [NewRow.of(row) for row in closing]


def _late_end(span: Row) -> Row:
    """The end of a span that has started after its invocation was over."""
    return closing_row(
        span, end=max(time.time(), started_at(span) or 0.0), outcome=Outcome.OK, closed_by=ClosedBy.GUARD, reason="late"
    )


def _login(settings: Settings) -> tuple[str | None, str, str | None]:
    return settings.api_key, settings.app_url.rstrip("/"), settings.org_name


def make_backend(settings: Settings, identity: Identity) -> Backend:
    """The backend that settings name."""
    if settings.backend_name == "braintrust":
        from ..backends.braintrust import BraintrustBackend

        return BraintrustBackend(settings, identity)
    if settings.backend_name == "memory":
        from ..backends.memory import MemoryBackend

        return MemoryBackend()
    from ..backends.local import LocalStore

    with contextlib.suppress(ImportError):  # the store itself says so when it is used
        import sqlite3  # noqa: F401 - not later, in the courier's thread: see trace_guard.backends.transport

    return LocalStore(locate(settings.dir) / STORE_NAME, functools.partial(examine, settings.dir))


_said: set[str] = set()


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        print_error(message, prefix="")
