"""The one thing of which a process has one: the SDK with the gateway in place, and the pipelines behind it."""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import contain as containment
from ..backends.base import Backend
from ..backends.project_ids import Organisation
from ..contain import contain
from ..deadline import Deadline
from ..rows import Row
from ..settings import DEFAULT_API_URL, Settings
from .current import LIVE, current, only_live
from .pipeline import Pipeline

if TYPE_CHECKING:
    from ..delivery.courier import Courier
    from ..journal.base import Journal
    from ..sdk.sdk import Sdk
    from .attachments import AttachmentDesk, Place

__all__ = ["PROCESS"]

# Moving the SDK's queue to the journal takes a fraction of a millisecond; a fork, or a signal's effect, does not wait
# longer than this.
_FORK_SECONDS = 0.5
_CHILD_EXIT_SECONDS = 1.0


class ProcessState:
    """Hands what the SDK says to the right pipeline. Most processes have one pipeline: then that is it.

    Attributes:
        exit_by: up to when the exit may wait; None until the process exits.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pipelines: list[Pipeline] = []
        self._sdk: Sdk | None = None
        self._hooked = False
        self._desk: AttachmentDesk | None = None
        self.exit_by: Deadline | None = None
        self._patience = math.inf
        self._waited_for = Deadline.after(0.0)
        self._end = Deadline.never()

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
        """The pipeline for these settings: an existing one if it goes to the same place by the same way.

        Args:
            quick: put off what would take long.
        """
        with self._lock:
            self._hook()
            key = _key(settings)
            for pipeline in self._pipelines:
                if backend is None and pipeline.key == key:
                    return pipeline
            pipeline = Pipeline(settings, backend)
            pipeline.key = key if backend is None else None
            pipeline.on_resolved(lambda: self.sdk.loggers.resolved(pipeline.identity))
            pipeline.on_moved(lambda: self.sdk.loggers.login_changed())
            self._pipelines.append(pipeline)
        with contain("start"):  # it is in use from here on: whoever asked for it must get it
            pipeline.start(quick=quick)
        return pipeline

    def close(self, pipeline: Pipeline, deadline: Deadline) -> None:
        """Drain the SDK, close a pipeline, and take the gateway out with the last one."""
        with self._lock:
            if pipeline not in self._pipelines:
                return
        self._settle(pipeline, deadline)
        with self._lock:
            self._pipelines.remove(pipeline)
            if not self._pipelines and self._sdk is not None:
                with contain("take the gateway out"):
                    self._sdk.uninstall()
                self._sdk = None

    def terminate(self, signal: str, deadline: Deadline, *, is_certain: bool = False) -> None:
        """A signal of this name ends the process: close what is open, and deliver what can be.

        Args:
            is_certain: as in :meth:`Pipeline.terminate`.
        """
        if is_certain:
            with contain("empty the SDK's queue"):
                if self._sdk is not None and self._sdk.installed:
                    self._sdk.drain(deadline.capped(_FORK_SECONDS))
        for pipeline in list(self._pipelines):
            with contain("close what a signal ends"):
                pipeline.terminate(signal, deadline, is_certain=is_certain)

    def ends_by(self, deadline: Deadline) -> None:
        """The process will be killed then: what its exit waits for is to be done before."""
        self._end = deadline

    @property
    def end(self) -> Deadline:
        """When the process will be killed, as far as that is known."""
        return self._end

    def has_waited(self, seconds: float) -> None:
        """So long a delivery was waited for in vain: an exit that comes at once need not wait as long once more."""
        self._waited_for = Deadline.after(seconds)

    @property
    def waited(self) -> float:
        """Seconds that an exit has less, as they were waited in vain just now."""
        return self._waited_for.remaining

    def exits_within(self, seconds: float) -> None:
        """An exit is not to wait for longer than this, as somebody waits for it who has no use for what it does."""
        self._patience = seconds

    def flush(self, deadline: Deadline) -> None:
        """Deliver everything that is there."""
        for pipeline in list(self._pipelines):
            with contain("flush"):
                if self._sdk is not None and self._sdk.installed:
                    self._sdk.drain(deadline)
                pipeline.flush(deadline)

    def _hook(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork, after_in_child=self._after_fork)

    def _settle(self, pipeline: Pipeline, deadline: Deadline, *, drains: bool = True) -> None:
        with contain("empty the SDK's queue"):
            if drains and self._sdk is not None and self._sdk.installed:
                # At most half of the time, so that what is in the journal can still be sent.
                self._sdk.drain(deadline.capped(deadline.remaining / 2))
        with contain("close"):
            pipeline.close(deadline)

    def _at_exit(self) -> None:
        # The gateway stays: what later exit handlers still log goes to a journal, for the next start.
        began = time.monotonic()
        patience = self._patience if self._end == Deadline.never() else math.inf
        self.exit_by = self._end if not self._pipelines else Deadline(began)
        for pipeline in list(self._pipelines):
            # One bound for all pipelines, and for the SDK's own flush, which comes next.
            seconds = min(pipeline.settings.exit_timeout - self.waited, patience)
            deadline = min(Deadline(began + max(0.0, seconds)), self._end)
            self.exit_by = max(self.exit_by, deadline)
            self._settle(pipeline, deadline, drains=not _is_exit_flush_disabled())

    def _before_fork(self) -> None:
        # Nothing of the SDK's is under way when it is copied: a child has none of the threads that would let go of
        # the locks that they hold.
        with contain("empty the SDK's queue before a fork"):
            if self._sdk is not None and self._sdk.installed and self._sdk.has_been_used:
                self._sdk.drain(Deadline.after(_FORK_SECONDS))

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._end = Deadline.never()
        # The parent waits for it, and can recover what it leaves behind.
        self._patience = min(self._patience, _CHILD_EXIT_SECONDS)
        containment.forget()
        with contain("begin anew after a fork"):
            for pipeline in self._pipelines:
                pipeline.after_fork()
            if self._sdk is not None:
                self._sdk.after_fork()

    # What the gateway asks (GatewayHost). The pipeline made last is the one that look-ups are for.

    def settings(self) -> Settings | None:
        pipeline = self.latest()
        return pipeline.settings if pipeline is not None else None

    def latest(self) -> Pipeline | None:
        """The one that look-ups are for."""
        return self._pipelines[-1] if self._pipelines else None

    def _owner(self, row: Row) -> Pipeline | None:
        return next((one for one in self._pipelines if one.spans.knows(row)), self.latest())

    def ingest(self, rows: list[tuple[Row, bytes]]) -> None:
        if len(self._pipelines) == 1:
            self._pipelines[0].ingest(rows)
            return
        shares: dict[int, list[tuple[Row, bytes]]] = {}
        for row, encoded in rows:
            owner = self._owner(row)
            if owner is not None:
                shares.setdefault(self._pipelines.index(owner), []).append((row, encoded))
        for index, share in shares.items():
            self._pipelines[index].ingest(share)

    def key_given(self, api_key: str, app_url: str, org_name: str | None) -> None:
        pipeline = self.latest()
        if pipeline is not None:
            pipeline.key_given(api_key, app_url, org_name)

    def organisation_given(self, organisation: Organisation) -> None:
        pipeline = self.latest()
        if pipeline is not None:
            pipeline.identity.learn_organisation(organisation)

    def flushed(self) -> None:
        if self.exit_by is not None:
            return  # an exit has waited as long as it may, when the SDK's own flush comes
        for pipeline in list(self._pipelines):
            # Of an invocation's project logs its end delivers. Code that writes to experiments and datasets reads back.
            if pipeline.has_object_rows or not (pipeline.spans.live() or current()):
                pipeline.flush(self._patience_of(pipeline))

    def reads(self) -> None:
        """The SDK is about to read rows: those that it has written are to be there."""
        for pipeline in list(self._pipelines):
            pipeline.flush(self._patience_of(pipeline))

    @staticmethod
    def _patience_of(pipeline: Pipeline) -> Deadline:
        """How long code may wait for a delivery: up to the first deadline of the invocations that it may belong to."""
        invocation = only_live()
        live = (invocation,) if invocation is not None else tuple(one for one in tuple(LIVE) if one.is_live)
        deadlines: list[Deadline] = [Deadline.after(pipeline.settings.exit_timeout), *(one.latest for one in live)]
        return min(deadlines)

    def organisation(self) -> Organisation | None:
        pipeline = self.latest()
        return pipeline.organisation() if pipeline else None

    def project_id(self, name: str) -> str | None:
        pipeline = self.latest()
        return pipeline.project_id(name) if pipeline else None

    def project_name(self, project_id: str) -> str | None:
        pipeline = self.latest()
        return pipeline.project_name(project_id) if pipeline else None

    def span_started(self, span: Any) -> None:
        invocation = only_live()
        if invocation is not None:
            invocation.adopt(span)

    def find_out(self, name: str | None) -> None:
        pipeline = self.latest()
        if pipeline is not None:
            pipeline.find_out(name)

    def api_url(self) -> str:
        pipeline = self.latest()
        return pipeline.api_url() if pipeline else DEFAULT_API_URL

    def passes_through(self) -> bool:
        pipeline = self.latest()
        return pipeline is not None and pipeline.settings.backend_name == "braintrust"

    @property
    def attachments(self) -> AttachmentDesk:
        if self._desk is None:
            from .attachments import AttachmentDesk

            with self._lock:
                self._desk = self._desk or AttachmentDesk(self._place_of_attachment, self._places_of_attachments)
        return self._desk

    def _place_of_attachment(self, row: Row | None) -> Place | None:
        pipeline = self.latest() if row is None else self._owner(row)
        if pipeline is None or not pipeline.courier.takes_attachments:
            return None
        return pipeline.journal(), pipeline.courier

    def _places_of_attachments(self) -> Iterable[tuple[Journal, Courier]]:
        for pipeline in list(self._pipelines):
            yield pipeline.journal(), pipeline.courier
            for courier in pipeline.couriers():
                yield from ((journal, courier) for journal in courier.journals())


def _is_exit_flush_disabled() -> bool:
    """True if the user has switched off what the SDK does at the exit, so that its queue is left as it is."""
    return os.environ.get("BRAINTRUST_DISABLE_ATEXIT_FLUSH", "").strip().lower() in ("1", "true", "yes", "on")


def _key(settings: Settings) -> Any:
    return (settings.dir, *sorted(settings.destination.items()), settings.max_journal_bytes, settings.sync,
            settings.linger)


PROCESS = ProcessState()
"""This process."""
