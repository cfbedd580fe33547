"""Sends batches. Rows that the backend never accepts become dead letters and don't block others."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ..backends.base import Backend, TriesOnce
from ..contain import is_shortage, logger, report, warn_once
from ..deadline import Deadline
from ..errors import BackendError, BackendRefused, BackendUnauthorized, BackendUnavailable
from ..rows import dump, identity, is_span_row, lifecycle
from .batch import Batch
from .dead_letters import DeadLetters
from .isolation import Isolation

__all__ = ["Sender"]

_REMEMBERED = 10_000


class Sender:
    """Sends batches, and remembers the last ten thousand refused rows and their traces.

    Args:
        backend: where rows go.
        dead_letters: keeps refused rows.
        attempt_seconds: what one attempt may take while the cause of a failure is searched for.
    """

    def __init__(self, backend: Backend, dead_letters: DeadLetters, *, attempt_seconds: float) -> None:
        self.backend = backend
        self._dead_letters = dead_letters
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._settled: OrderedDict[bytes, None] = OrderedDict()
        self._isolation = Isolation(self, attempt_seconds)

    def refusal(self, roots: Iterable[str]) -> str | None:
        """Why a row of one of these traces was refused, or None."""
        return next((self._refused[root] for root in roots if root in self._refused), None)

    def send(self, batch: Batch, deadline: Deadline) -> BackendError | None:
        """Send a batch. Returns the error, or None if each row has arrived or become a dead letter."""
        try:
            projects = self._projects(batch, deadline)
            rows = batch.encode(projects)
            for row, encoded, fault in batch.take_broken():
                self._refuse(row, encoded, None, f"trace-guard can't handle the row: {fault!r}")
            # A search that ran out of time is repeated, without the bad rows that it has found.
            if self._settled:
                rows = [row for row in rows if sha256(row).digest() not in self._settled]
            if rows:
                self._isolation.send(rows, deadline)
        except BackendUnauthorized as error:
            warn_once("unauthorized", "%s. Rows are kept, and sent again later: `trace-guard status` "
                      "tells how many", error)
            return error
        except BackendError as error:
            return error
        except Exception as fault:  # noqa: BLE001 - our own fault must not end the courier's thread
            report("send rows", fault)
            return BackendError(f"rows could not be sent: {fault!r}")
        return None

    def _projects(self, batch: Batch, deadline: Deadline) -> dict[str, str]:
        """The ids of the projects that the batch has only the names of. If the backend refuses a project, its rows are
        removed from the batch and become dead letters."""
        projects = {}
        for name in batch.project_names():
            try:
                projects[name] = self.backend.resolve_project(name, deadline)
            except BackendRefused as refusal:
                for row in batch.remove(name):
                    self._refuse(row.parse(), row.encoded, refusal.status, str(refusal))
        return projects

    def send_rows(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Send these rows in one request, which is repeated as usual."""
        self._bisecting(self.backend.send, rows, deadline)

    def try_once(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Send these rows in one request, which is not repeated."""
        backend = self.backend
        self._bisecting(backend.try_once if isinstance(backend, TriesOnce) else backend.send, rows, deadline)

    def _bisecting(
        self, send: Callable[[Sequence[bytes], Deadline], None], rows: Sequence[bytes], deadline: Deadline
    ) -> None:
        """Send rows. If the backend refuses them, bisect until the bad rows are found, and deliver the others.

        Raises:
            BackendError: for any other failure, also for one of our own code.
        """
        try:
            send(rows, deadline)
        except BackendRefused as refusal:
            if len(rows) == 1:
                self._send_without_payload(rows[0], refusal, deadline)
                return
            middle = len(rows) // 2
            for half in (rows[:middle], rows[middle:]):
                self._bisecting(send, half, deadline)
        except BackendError:
            raise
        except Exception as fault:
            report("send rows", fault)
            suspect = not is_shortage(fault)
            raise BackendUnavailable(f"rows could not be sent: {fault!r}", suspect_rows=suspect) from fault

    def _send_without_payload(self, encoded: bytes, refusal: BackendRefused, deadline: Deadline) -> None:
        """A single row was refused, probably for what the user logged. Send its start and end without that, so that the
        trace does not stay open."""
        row = json.loads(encoded)
        error = str(refusal)
        if is_span_row(row):
            kept = lifecycle(row)
            without_error = {name: value for name, value in kept.items() if name != "error"}
            for attempt in (kept, without_error) if kept.get("error") is not None else (kept,):
                try:
                    self.backend.send([dump(attempt)], deadline)
                    error = f"{refusal} (sent without its payload)"
                    break
                except BackendRefused as second:
                    error = str(second)
        self._refuse(row, encoded, refusal.status, error)

    def give_up(self, encoded: bytes, why: BackendUnavailable, deadline: Deadline) -> None:
        """This row makes the backend fail. Keep it as a dead letter, and send less of it, so that its span ends."""
        row = json.loads(encoded)
        error = f"{why}; it fails over this row alone"
        if is_span_row(row):
            plain = lifecycle(row)
            for kept in (plain, {**identity(row), "_is_merge": True, "metrics": plain["metrics"]}):
                try:
                    self._isolation.try_once([dump(kept)], deadline)
                    error += " (sent without its payload)"
                    break
                except BackendError as second:
                    logger.debug("nor could the row be sent without its payload: %s", second)
        self._refuse(row, encoded, why.status, error)

    def _refuse(self, row: Mapping[str, Any], encoded: bytes, status: int | None, error: str) -> None:
        self._dead_letters.keep(encoded, status, error)
        self._settled[sha256(encoded).digest()] = None
        self._refused[str(row.get("root_span_id"))] = error
        while len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)
        while len(self._refused) > _REMEMBERED:
            self._refused.popitem(last=False)
