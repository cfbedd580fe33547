"""Process-wide state: the SDK with the gateway in place, and the pipelines behind it."""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import contain as containment
from ..backends.base import Backend
from ..backends.project_ids import Organisation
from ..contain import contain, warn_once
from ..deadline import Deadline
from ..journal.row_facts import NewRow, RowFacts
from ..rows import Row
from ..settings import Settings
from ..system.clock import monotonic
from .current import LIVE, current, only_live
from .forks import begin_anew_if_forked, on_fork, will_fork_in_c
from .logins import Logins
from .lookup import LOOK_UP_SECONDS, Lookup
from .pipeline import Pipeline
from .watchdog import Watchdog

if TYPE_CHECKING:
    from ..delivery.courier import Courier
    from ..journal.base import Journal
    from ..sdk.host import Owner
    from ..sdk.sdk import Sdk
    from .attachments import AttachmentIntake

__all__ = ["PROCESS"]

# Moving the SDK's queue to the journal takes a fraction of a millisecond; a fork, or a signal's effect, does not wait
# longer than this.
_FORK_SECONDS = 0.5
# The time in which threads write the rows of the invocations that they close.
_CLOSING_SECONDS = 0.5
_CHILD_EXIT_SECONDS = 1.0
# Another state's flush() waits this long for its rows to be delivered, as it would without the guard. They are on disk.
_OTHERS_SECONDS = 10.0


class ProcessState:
    """Process-wide state: the patched SDK and one pipeline per destination.

    Attributes:
        logins: the pipelines, by the credentials that rows come with.
        watchdog: one for all pipelines.
        exit_by: when the exit must stop waiting; None until the process exits.
    """

    def __init__(self) -> None:
        self.watchdog = Watchdog(self._heartbeat)
        self.logins = Logins(lambda settings, backend: self._make(settings, backend))
        self._lock = threading.RLock()
        self._sdk: Sdk | None = None
        self._hooked = False
        self._watch_seconds: float | None = None
        self._attachments: AttachmentIntake | None = None
        self.exit_by: Deadline | None = None
        self._patience = math.inf
        self._waited_for = Deadline.after(0.0)
        self._end = Deadline.never()
        self._closing: list[threading.Thread] = []

    @property
    def sdk(self) -> Sdk:
        """The SDK, imported when it is first needed."""
        if self._sdk is None:
            with self._lock:
                if self._sdk is None:
                    from ..sdk.sdk import Sdk

                    self._sdk = Sdk(self)
                    # Ours comes before the SDK's own, whose flush has no bound.
                    atexit.unregister(self._at_exit)
                    atexit.register(self._at_exit)
        return self._sdk

    def pipeline(self, settings: Settings, backend: Backend | None = None, *, quick: bool = False) -> Pipeline:
        """A guard's pipeline: an existing one if it has the same destination and delivery settings.

        Args:
            quick: postpone slow work.
        """
        with self._lock:
            self._hook()
            pipeline, is_new = self.logins.of_guard(settings, backend)
        pipeline.timeout.use(self._span_timeout(settings))
        if is_new:
            with contain("start"):  # it is in use from here on, so the caller must receive it
                pipeline.neighbours.start(quick=quick)
        return pipeline

    def _make(self, settings: Settings, backend: Backend | None) -> Pipeline:
        pipeline = Pipeline(settings, backend, watchdog=self.watchdog, find_key=self._find_key)
        pipeline.timeout.use(self._span_timeout(settings))
        pipeline.timeout.drain = lambda: self._drain(Deadline.after(_CLOSING_SECONDS))
        pipeline.ids.on_change(lambda: self._learned(pipeline))
        return pipeline

    def watch(self, seconds: float) -> None:
        """Close spans without activity for this time, where no other time is set."""
        self._watch_seconds = seconds
        for pipeline in self.logins.pipelines():
            pipeline.timeout.use(self._span_timeout(pipeline.settings))

    def _span_timeout(self, settings: Settings) -> float | None:
        return self._watch_seconds if settings.span_timeout is None else settings.span_timeout

    def _find_key(self) -> None:
        """Log in with a key that has come since the SDK was logged in without one."""
        if self._sdk is not None and self._sdk.installed:
            self._sdk.look_for_key()

    def _learned(self, pipeline: Pipeline) -> None:
        """An id or the organisation of a destination is now known."""
        if self._sdk is not None:
            self._sdk.loggers.resolved(pipeline.lookup, is_login=pipeline is self.logins.current)

    def _heartbeat(self) -> None:
        for pipeline in self.logins.pipelines():
            pipeline.heartbeat()

    def thawed(self) -> None:
        """The process was frozen: requests that were under way may never be answered."""
        for pipeline in self.logins.pipelines():
            pipeline.courier.thawed()

    def close(self, pipeline: Pipeline, deadline: Deadline) -> None:
        """Drain the SDK and close a guard's pipeline. With the last one, also close the login pipelines and remove
        the gateway."""
        with self._lock:
            pipelines = self.logins.pipelines()
            if pipeline not in pipelines:
                return
        self.wait_for_closing(_half(deadline))
        self._drain(_half(deadline))
        is_last = self.logins.guards == [pipeline]
        for one in pipelines if is_last else [pipeline]:
            with contain("close"):
                one.close(deadline)
        with self._lock:
            self.logins.remove(pipeline)
            if self.logins.home is None:
                self._watch_seconds = None
            if self.logins.home is None and self._sdk is not None:
                with contain("take the gateway out"):
                    self._sdk.uninstall()
                self._sdk = None

    def _drain(self, deadline: Deadline) -> None:
        with contain("empty the SDK's queue"):
            if self._sdk is not None and self._sdk.installed:
                self._sdk.drain(deadline)

    def terminate(self, signal: str, deadline: Deadline, *, is_certain: bool = False) -> None:
        """A signal of this name ends the process: close everything open, and deliver as much as possible.

        Args:
            is_certain: as in :meth:`Pipeline.terminate`.
        """
        if is_certain:
            self._drain(deadline.capped(_FORK_SECONDS))
        for pipeline in self.logins.pipelines():
            with contain("close what a signal ends"):
                pipeline.terminate(signal, deadline, is_certain=is_certain)

    def ends_by(self, deadline: Deadline) -> None:
        """Note when the process will be killed: its exit is to be done before."""
        self._end = deadline

    @property
    def end(self) -> Deadline:
        """When the process will be killed, as far as that is known."""
        return self._end

    def has_waited(self, seconds: float) -> None:
        """Subtract the time already spent on a failed delivery from the exit timeout, if the exit comes at once."""
        self._waited_for = Deadline.after(seconds)

    @property
    def waited(self) -> float:
        """Seconds to subtract from the exit timeout."""
        return self._waited_for.remaining

    def join_at_exit(self, thread: threading.Thread) -> None:
        """Let a thread that closes an invocation write its rows before the process exits."""
        self._closing = [*(other for other in self._closing if other.is_alive()), thread]

    def wait_for_closing(self, deadline: Deadline) -> None:
        """Wait for the rows of invocations that threads are closing."""
        written_by = deadline.capped(_CLOSING_SECONDS)
        for thread in self._closing:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(written_by.remaining)

    def exits_within(self, seconds: float) -> None:
        """Wait for at most this long at exit: the platform bills for the time, or a caller waits."""
        self._patience = seconds

    def release_idle(self) -> None:
        """Release threads, connections and journals where nothing is open or undelivered: a signal may end the process
        without exit handlers, and an empty journal would stay behind."""
        for pipeline in self.logins.pipelines():
            with contain("release what is not needed any more"):
                if pipeline.is_idle:
                    pipeline.let_go()

    def flush(self, deadline: Deadline) -> None:
        """Deliver everything that is there."""
        self.wait_for_closing(deadline)
        self._drain(deadline)
        for pipeline in self.logins.pipelines():
            with contain("flush"):
                pipeline.flush(deadline)

    def deliver_others(self, own: Pipeline, since: float, deadline: Deadline) -> bool:
        """Deliver what was written for other logins and states since a moment on the monotonic clock. Returns False if
        the deadline passes first."""
        others = [one for one in self.logins.without_guard() if one is not own and one.written_at >= since]
        drained = [one.flush(deadline) for one in others]
        return all(drained)

    def _hook(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork)
        on_fork(self._after_fork)

    def _at_exit(self) -> None:
        begin_anew_if_forked()  # a worker that has never opened an invocation
        # The gateway stays: what later exit handlers still log goes to a journal, for the next start.
        patience = self._patience if self._end == Deadline.never() else math.inf
        pipelines, began = self.logins.pipelines(), monotonic()
        self.exit_by = self._end if not pipelines else Deadline(began)
        self.wait_for_closing(Deadline.never())
        for pipeline in pipelines:
            # One bound for all pipelines, and for the SDK's own flush, which comes next.
            seconds = min(pipeline.settings.exit_timeout - self.waited, patience)
            deadline = min(Deadline(began + max(0.0, seconds)), self._end)
            self.exit_by = max(self.exit_by, deadline)
            if not _is_exit_flush_disabled():
                self._drain(_half(deadline))
            with contain("close"):
                pipeline.close(deadline)

    def _before_fork(self) -> None:
        # The child has none of the parent's threads, so a lock that one of them holds would stay held for ever.
        with contain("empty the SDK's queue before a fork"):
            if self._sdk is not None and self._sdk.installed and self._sdk.has_been_used:
                self._sdk.drain(Deadline.after(_FORK_SECONDS))

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._closing = []
        self._end = Deadline.never()
        # The parent waits for it, and can recover what it leaves behind.
        self._patience = min(self._patience, _CHILD_EXIT_SECONDS)
        containment.forget()
        with contain("begin anew after a fork"):
            self.logins.after_fork()
            for pipeline in self.logins.pipelines():
                pipeline.after_fork()
            if self._sdk is not None:
                self._sdk.after_fork()

    # The gateway's host interface

    def settings(self) -> Settings | None:
        home = self.logins.home
        return home.settings if home is not None else None

    def ingest(self, rows: Sequence[NewRow], *, has_references: bool = False) -> None:
        begin_anew_if_forked()
        shares: dict[Pipeline, list[NewRow]] = {}
        for new in rows:
            owner = self.logins.owner(new)
            if owner is not None:
                shares.setdefault(owner, []).append(new)
        for owner, share in shares.items():
            owner.ingest(share)
            if has_references:
                self.attachments.refer(share, owner)

    def in_invocation(self) -> bool:
        return only_live() is not None

    def is_serving_invocation(self) -> bool:
        return any(pipeline.spans.live() for pipeline in self.logins.pipelines())

    def ingest_of(
        self, owner: Owner, rows: Sequence[NewRow], *, has_references: bool = False, waits: bool = True
    ) -> None:
        pipeline = self.logins.of_request(owner.api_key, owner.api_url)
        if pipeline is None:
            return
        journal, end = pipeline.ingest(rows)
        if has_references:
            self.attachments.refer(rows, pipeline, owner.org_id)
        if waits:
            pipeline.courier.deliver(journal, end, Deadline.after(_OTHERS_SECONDS))

    def follows_logins(self) -> bool:
        return self.logins.follows

    def logged_in(self, api_key: str, app_url: str, org_name: str | None) -> None:
        self.logins.log_in(api_key, app_url, org_name)

    def invocation_of(self, row: Row) -> str | None:
        facts = RowFacts(row)
        owner = self.logins.owner(facts)
        return None if owner is None else owner.spans.owner_of(facts)

    def learn_organisation(self, organisation: Organisation) -> None:
        current = self.logins.current
        if current is not None:
            current.ids.learn_organisation(organisation)

    def flushed(self) -> None:
        if self.exit_by is not None:
            return  # an exit has waited as long as it may, when the SDK's own flush comes
        if current() is None:
            self.wait_for_closing(Deadline.after(_CLOSING_SECONDS))
        for pipeline in self.logins.pipelines():
            # An invocation's end delivers its project logs. Code that writes to experiments and datasets reads back.
            if pipeline.has_object_rows or not (pipeline.spans.live() or current()):
                pipeline.flush(self._patience_of(pipeline))

    def reads(self) -> None:
        for pipeline in self.logins.pipelines():
            pipeline.flush(self._patience_of(pipeline))

    def patience(self) -> Deadline:
        return _within_invocations(LOOK_UP_SECONDS)

    @staticmethod
    def _patience_of(pipeline: Pipeline) -> Deadline:
        return _within_invocations(pipeline.settings.exit_timeout)

    def span_started(self, span: Any) -> None:
        _check_uwsgi()
        invocation = only_live()
        if invocation is not None:
            invocation.adopt(span)

    def project_id(self, name: str) -> str | None:
        lookup = self.lookup
        return lookup.project_id(name) if lookup is not None else None

    @property
    def lookup(self) -> Lookup | None:
        current = self.logins.current
        return current.lookup if current is not None else None

    def passes_through(self) -> bool:
        current = self.logins.current
        return current is not None and current.settings.backend_name == "braintrust"

    @property
    def attachments(self) -> AttachmentIntake:
        if self._attachments is None:
            from .attachments import AttachmentIntake

            with self._lock:
                self._attachments = self._attachments or AttachmentIntake(
                    lambda: self.logins.current, self._places_of_attachments
                )
        return self._attachments

    def _places_of_attachments(self) -> Iterable[tuple[Journal, Courier]]:
        for pipeline in self.logins.pipelines():
            yield pipeline.journal(), pipeline.courier
            yield from ((journal, pipeline.courier) for journal in pipeline.courier.journals())


def _within_invocations(seconds: float) -> Deadline:
    """Until when code may wait for the network: at most to the first deadline of the invocations that it may belong
    to."""
    invocation = only_live()
    live = (invocation,) if invocation is not None else tuple(one for one in tuple(LIVE) if one.is_live)
    deadlines: list[Deadline] = [Deadline.after(seconds), *(one.latest for one in live)]
    return min(deadlines)


def _check_uwsgi() -> None:
    if will_fork_in_c():
        warn_once("uwsgi", "spans are logged while uWSGI imports the application, before it forks its workers: the "
                  "threads that deliver them may stop the workers for ever. Start uWSGI with --lazy-apps or with "
                  "--py-call-uwsgi-fork-hooks")


def _half(deadline: Deadline) -> Deadline:
    """Half of the time, for emptying the SDK's queue: the rest is for sending the journal's rows."""
    return deadline.capped(deadline.remaining / 2)


def _is_exit_flush_disabled() -> bool:
    """True if the user has disabled the SDK's flush at exit, so that its queue is left unchanged."""
    return os.environ.get("BRAINTRUST_DISABLE_ATEXIT_FLUSH", "").strip().lower() in ("1", "true", "yes", "on")


PROCESS = ProcessState()
"""This process."""
