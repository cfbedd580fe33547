"""Reads spans from Braintrust with SQL (``POST /btql``), and writes closing rows.

The service answers at most 1000 rows a page, takes about 20 queries a minute on small plans (429), 30 seconds a query
(504), and refuses keys briefly under load (401): https://www.braintrust.dev/docs/api-reference/query
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..backends.braintrust import BraintrustBackend
from ..deadline import Deadline
from ..errors import BackendRefused, BackendUnauthorized, BackendUnavailable, SettingsError
from ..rows import Row, dump
from .source import LogObject, Window, WindowTooLarge, created_at, iso

__all__ = ["BraintrustSource", "Stopped", "quoted"]

T = TypeVar("T")

_PAGE_ROWS = 1000
_FIELDS = (
    "id, span_id, root_span_id, span_parents, project_id, experiment_id, log_id, created, metrics, span_attributes, "
    "context, error, _xact_id, metadata.trace_guard AS trace_guard"
)
_REAPED = "metadata.trace_guard.closed_by = 'reaper'"
_CORRECTED = f"{_REAPED} AND metrics.end != metadata.trace_guard.reaped_end"
_ATTEMPT_SECONDS = 60.0
_MOST_WAIT = 900.0
"""The most seconds that a query waits in all because of 429."""
_FAILURES = 4
"""How often a call is repeated after a failure; only once before anything has succeeded, as then somebody waits for the
reason."""
_REFUSALS = 3
_LONGEST_PAUSE = 60.0


class Stopped(Exception):
    """The search was asked to stop."""


class BraintrustSource:
    """Project logs and experiments of one organisation.

    Args:
        projects: names or ids.
        experiments: names or ids.
        filter: a condition in SQL on the open spans to look for.
        stop: set to make every call raise :class:`Stopped` soon.
        on_wait: called with the seconds of a pause that the service asks for.
    """

    def __init__(
        self, backend: BraintrustBackend, *, projects: Sequence[str] = (), all_projects: bool = False,
        experiments: Sequence[str] = (), filter: str | None = None, stop: threading.Event | None = None,
        on_wait: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        self._backend = backend
        self._projects = projects
        self._all_projects = all_projects
        self._experiments = experiments
        self._filter = filter
        self._stop = stop or threading.Event()
        self._on_wait = on_wait
        self._has_succeeded = False
        self._corrected = _CORRECTED

    def objects(self) -> list[LogObject]:
        """The objects to search.

        Raises:
            SettingsError: there is no such project.
        """
        found: dict[str, LogObject] = {}
        names: Sequence[str | None] = [None] if self._all_projects else self._projects
        for name in names:
            matches = self._retried(functools.partial(self._backend.find_projects, name))
            if not matches and name is not None:
                raise SettingsError(f"there is no project {name!r} in the organisation of the key; --project takes a "
                                    "name or an id")
            found.update((id, LogObject("project_logs", id, known)) for id, known in matches)
        return [*found.values(), *(LogObject("experiment", name, name) for name in self._experiments)]

    def suspects(self, where: LogObject, window: Window) -> Iterator[list[Row]]:
        matches = f"metrics.end IS NULL AND ({self._filter})" if self._filter else "metrics.end IS NULL"
        created = f"created >= '{iso(window.start)}' AND created < '{iso(window.end)}'"

        def pages(corrected: str) -> Iterator[list[Row]]:
            return self._pages(where, _FIELDS, f"{created} AND (({matches}) OR ({corrected}))")

        corrected = self._corrected
        try:
            yield from pages(corrected)
        except BackendUnavailable as error:
            if error.status not in (400, 422) or corrected == _REAPED:
                raise
            # That a query may compare two fields is not documented. The caller compares them, too.
            found = pages(_REAPED)
            first = next(found, [])  # raises if the user's filter was refused
            self._corrected = _REAPED
            yield first
            yield from found

    def spans(self, where: LogObject, roots: Sequence[str]) -> Iterator[Row]:
        return self._of_traces(where, roots, _FIELDS, "")

    def logged(self, where: LogObject, roots: Sequence[str]) -> set[str]:
        condition = " AND metrics.end IS NULL AND output IS NOT NULL"
        return {str(row.get("span_id")) for row in self._of_traces(where, roots, "id, span_id", condition)}

    def first_matching(self, where: LogObject, roots: Sequence[str], window: Window) -> dict[str, str] | None:
        if self._filter is None:
            return None
        condition = f" AND metrics.end IS NULL AND created >= '{iso(window.start)}' AND ({self._filter})"
        first: dict[str, tuple[float, str]] = {}
        for row in self._of_traces(where, roots, "id, root_span_id, created, metrics", condition):
            root, key = str(row.get("root_span_id")), (created_at(row), str(row.get("id")))
            first[root] = min(key, first.get(root, key))
        return {root: id for root, (_, id) in first.items()}

    def query(self, text: str) -> tuple[list[Row], str | None]:
        """The rows of one page of a query in SQL, and the cursor of the next page."""
        page = self._retried(functools.partial(self._backend.query_page, text))
        rows, cursor = page.get("data"), page.get("cursor")
        found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        return found, cursor if isinstance(cursor, str) else None

    def send(self, rows: Sequence[Row], deadline: Deadline) -> None:
        batch: list[bytes] = []
        size = 0
        for row in rows:
            encoded = dump(row)
            if batch and size + len(encoded) > self._backend.max_bytes:
                self._send(batch)
                batch, size = [], 0
            batch.append(encoded)
            size += len(encoded) + 1
        if batch:
            self._send(batch)

    def close(self) -> None:
        self._backend.close()

    def _send(self, batch: list[bytes]) -> None:
        # Not stopped halfway: rows that are sent are reported as sent.
        self._retried(functools.partial(self._backend.send, batch), stoppable=False)

    def _of_traces(self, where: LogObject, roots: Sequence[str], fields: str, condition: str) -> Iterator[Row]:
        listed = ", ".join(quoted(root) for root in roots)
        try:
            for page in self._pages(where, fields, f"root_span_id IN ({listed}){condition}"):
                yield from page
        except WindowTooLarge:
            if len(roots) == 1:
                raise BackendUnavailable(f"the trace {roots[0]} is too large to be read in one query") from None
            # Rows may come twice: they are the same.
            middle = len(roots) // 2
            yield from self._of_traces(where, roots[:middle], fields, condition)
            yield from self._of_traces(where, roots[middle:], fields, condition)

    def _pages(self, where: LogObject, fields: str, condition: str) -> Iterator[list[Row]]:
        source = f"{where.kind}({quoted(where.id)}, shape => 'spans')"
        text = f"SELECT {fields} FROM {source} WHERE {condition} ORDER BY _pagination_key ASC LIMIT {_PAGE_ROWS}"
        following = ""
        while True:
            found, cursor = self.query(text + following)
            if found:
                yield found
            after = f" OFFSET {quoted(cursor)}" if cursor is not None else ""
            if not found or not after or after == following:
                return
            following = after

    def _retried(self, call: Callable[[Deadline], T], *, stoppable: bool = True) -> T:
        """What the call returns, after pauses where the service asks for them or fails for a moment.

        Raises:
            WindowTooLarge: the service has answered 504.
        """
        failures = refusals = 0
        waited = 0.0
        while True:
            if stoppable and self._stop.is_set():
                raise Stopped
            try:
                answer = call(Deadline.after(_ATTEMPT_SECONDS))
                self._has_succeeded = True
                return answer
            except BackendUnauthorized:
                refusals += 1
                if refusals > _REFUSALS:
                    raise
                pause = 0.25 * 2**refusals
            except BackendRefused as error:
                raise BackendUnavailable(f"the query or a row was refused: {error}", status=error.status) from error
            except BackendUnavailable as error:
                if error.status == 504:
                    raise WindowTooLarge(str(error)) from error
                if error.status is not None and error.status < 500 and error.status != 429:
                    raise
                failures += 1
                most = _FAILURES if self._has_succeeded else 1
                if (error.status == 429 and waited > _MOST_WAIT) or (error.status != 429 and failures > most):
                    raise
                pause = min(_LONGEST_PAUSE, error.retry_after if error.retry_after is not None else 0.5 * 2**failures)
                if error.status == 429:
                    self._on_wait(pause)
                    waited += pause
            if stoppable:
                self._stop.wait(pause)
            else:
                time.sleep(pause)


def quoted(text: Any) -> str:
    """A text as a literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"
