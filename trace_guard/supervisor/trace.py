"""The trace around a command. Its root is on disk before the command runs, and spans that the command's processes
left open are closed once these processes are dead."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..contain import contain, warn_once
from ..deadline import Deadline
from ..errors import JournalError
from ..jobs.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from ..jobs.platform import Platform
from ..journal.directory import StateDir
from ..journal.invocation_record import InvocationRecord
from ..journal.locks import FileLock
from ..journal.orphans import Death, OrphanSearch, names_of_journals
from ..outcome import Outcome
from ..payload import Payload
from ..rows import Row, closing_row
from ..runtime.pipeline import Pipeline
from ..settings import Settings
from ..system.clock import monotonic
from ..system.threads import QuietThread
from .exit_status import ExitStatus
from .exported import ExportedSpan
from .lazy_backend import LazyBackend
from .process_exits import ProcessExits
from .redact_command import redact_command

__all__ = ["Trace"]

# The time limit of the recovery at the start, which may delay the command's exit. Later searches find the rest.
_RECOVERY_SECONDS = 0.5
# How long a journal must be abandoned before it is closed while the command runs.
_CERTAIN_SECONDS = 1.5
# The command's stderr is its own: only a really long wait is announced there.
_NOTICE_SECONDS = 3.0
_KIND = {Outcome.ERROR: "Error", Outcome.TERMINATED: "Terminated"}


class Trace:
    """The root span of a command, and the journals of the command's processes.

    Args:
        name: the name of the root span.
        command: the command line. It is logged without secrets, unless inputs are not captured.
        pid: the command's process id.

    Attributes:
        exported: the exported root span, for other processes.
        exit_timeout: the most seconds that the final delivery may take.

    Raises:
        Exception: settings, disk or network libraries failed. The command must then run without a trace.
    """

    def __init__(
        self, settings: Settings, name: str, command: Sequence[str], pid: int, platform: Platform
    ) -> None:
        self._began = time.time()
        lazy = LazyBackend(settings) if settings.backend_name == "braintrust" else None
        self._dead = _DeadProcesses(settings)
        self._pipeline = pipeline = Pipeline(settings, lazy, search=self._dead.search)
        if lazy is not None:
            lazy.ids = pipeline.ids
        if pipeline.state_dir is not None:
            self._dead.known = frozenset(names_of_journals(pipeline.state_dir))
        pipeline.announce()
        self.exit_timeout = settings.exit_timeout
        row_id, span_id, trace_id = str(uuid.uuid4()), os.urandom(8).hex(), os.urandom(16).hex()
        parent = self._parent(settings)
        span = parent.child(row_id, span_id, trace_id)
        self.exported = span.encode()
        self._deaths = self._dead.deaths = ProcessExits(pid, str(span.root_span_id), self._began)
        self._identity: Row = {
            "id": row_id, "span_id": span_id, "root_span_id": span.root_span_id,
            "span_parents": [parent.span_id] if parent.span_id else None, **span.owner,
        }
        facts: dict[str, Any] = {"process.pid": pid, **platform.metadata}
        if settings.capture_input:
            facts["process.command_args"] = redact_command(
                command, Payload(settings.redact), settings.max_payload_bytes
            )
        row = {
            **(parent.propagated or {}), "_is_merge": True, **self._identity, "metrics": {"start": self._began},
            "created": datetime.fromtimestamp(self._began, timezone.utc).isoformat(),
            "span_attributes": {"name": name, "type": "task"}, "metadata": facts,
        }
        record = InvocationRecord(row_id, span_id, str(span.root_span_id), self._began)
        pipeline.begin(record, row)

    def _parent(self, settings: Settings) -> ExportedSpan:
        if settings.parent:
            try:
                return ExportedSpan.decode(settings.parent)
            except ValueError as error:
                warn_once("parent", "%s: the command starts a separate trace", error)
        project = settings.project or ""
        return ExportedSpan.of_project(settings.project_id or self._pipeline.lookup.project_id(project), project)

    def start_background_work(self) -> None:
        """Start what the command need not wait for: heartbeats, the project look-up, and the recovery of what other
        processes left behind."""
        self._pipeline.watchdog.arm(Deadline.never(), lambda: None)
        Heartbeat(self._pipeline.watchdog, self._beat, HEARTBEAT_SECONDS).start()
        settings = self._pipeline.settings
        self._pipeline.lookup.start(None if settings.project_id else settings.project)
        QuietThread(target=self._recover_others, name="trace-guard-recovery", daemon=True).start()

    def _beat(self) -> None:
        """Append a heartbeat, so that a search for stale traces leaves this one alone."""
        if self._pipeline.spans.live():
            self._pipeline.append([
                {**self._identity, "_is_merge": True, "metadata": {"trace_guard": {"heartbeat": time.time()}}}
            ])

    def _recover_others(self) -> None:
        with contain("recover what other processes left behind"):
            self._pipeline.neighbours.recover(Deadline.after(_RECOVERY_SECONDS))

    def record_exit(self, pid: int, end: ExitStatus) -> None:
        """Record how a child of the supervisor ended."""
        self._deaths.record(pid, end)

    def finish(self, end: ExitStatus, outcome: Outcome, facts: Mapping[str, Any], deadline: Deadline) -> None:
        """Close the root and all spans that the command's processes left open, and deliver. What is not delivered by
        the deadline stays on disk for the next start.

        Args:
            facts: metadata for the root.
        """
        pipeline = self._pipeline
        with contain("close what the command left open"):
            self._dead.end = end
            pipeline.neighbours.search_anew()
            pipeline.neighbours.recover(deadline)
        error = f"{_KIND[outcome]}: {end.description}" if outcome in _KIND else None
        with contain("close the root span"):
            closing = closing_row(self._identity, end=max(end.at, self._began), outcome=outcome, error=error)
            closing["metadata"].update(facts)
            pipeline.spans.finish(self._identity["id"])
            pipeline.append([closing])
        with contain("deliver"):
            pipeline.close(deadline, notice_seconds=_NOTICE_SECONDS)


class _DeadProcesses:
    """Selects the journals of the command's dead processes, and tells how each process ended.

    A child of a shell is reaped by the shell, and only the shell's own exit status may tell how the child died. So its
    journal is left alone until the command has ended, or until it was found abandoned twice.

    Attributes:
        deaths: the exits that the supervisor has seen.
        end: how the command ended; None while it runs.
        known: the names of the journals that existed before the command.
    """

    deaths: ProcessExits

    def __init__(self, settings: Settings) -> None:
        self.end: ExitStatus | None = None
        self.known: frozenset[str] = frozenset()
        self._destination = settings.destination
        self._seen_dead: dict[str, float] = {}

    def search(self, state_dir: StateDir, since: str) -> OrphanSearch:
        """A search for journals of dead processes."""
        return OrphanSearch(state_dir, self._destination, witness=self._death, wanted=self._is_due, since=since)

    def _is_due(self, path: Path) -> bool:
        if self.end is not None or path.name in self.known:
            return True
        try:
            if path.name.startswith(".") or not self.deaths.is_settled(path) or _is_locked(path):
                return False
        except (OSError, JournalError):
            return False  # the journal is being created or removed
        now = monotonic()
        return now - self._seen_dead.setdefault(path.name, now) >= _CERTAIN_SECONDS

    def _death(self, path: Path) -> Death | None:
        return None if path.name in self.known else self.deaths.death_of(path, self.end)


def _is_locked(path: Path) -> bool:
    """True while the process of a journal lives."""
    lock = FileLock(path / "lock")
    try:
        return not lock.acquire()
    finally:
        lock.release()
