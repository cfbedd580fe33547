"""Finds stuck traces and closes them.

Windows of time are searched in parallel threads. A page of suspects names traces; these are read whole, and those in
which something has happened lately are dropped. What is left is yielded, or checked again and closed, in one thread.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..backends.make import make_backend
from ..backends.project_ids import ProjectIds
from ..deadline import Deadline
from ..errors import BackendUnavailable, SettingsError
from ..rows import Row, has_ended
from ..settings import Settings, default_project
from ..system.clock import monotonic
from ..system.threads import QuietThread
from .audit import Audit
from .closing import clearing_row, closing_rows, has_real_end
from .open_traces import StuckTrace, Trace, group
from .query import BraintrustSource, Stopped
from .shard import Shard, first_second, windows
from .source import LogObject, Source, Window, WindowTooLarge

__all__ = ["Reaped", "Reaper"]

_TRACES_AT_ONCE = 100
_QUEUE = 256
_SETTLE_SECONDS = 5.0
"""Rows of a running process arrive a moment after they were logged: the courier waits up to a second for company. A
trace is closed only if it was quiet for at least this long."""
_SMALLEST_WINDOW = 1.0
# The halves of a window that was too large have its first traces again. The set that recognises them is bounded.
_MOST_SEEN = 100_000
_SEND_SECONDS = 60.0
_DAY = 86400.0


@dataclass
class Reaped:
    """What a run has done, in traces and spans.

    Attributes:
        left_alone: traces in which something happened between the search and the close.
        cleared: spans whose own end had arrived after the reaper had closed them.
        interrupted: the run was stopped before the end.
    """

    found: int = 0
    closed: int = 0
    closed_spans: int = 0
    left_alone: int = 0
    cleared: int = 0
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Late:
    """A span whose own end has arrived after the reaper closed it."""

    row: Row
    where: LogObject


class Reaper:
    """Finds traces that are open and quiet, in Braintrust or in the local store, and closes them.

    ::

        reaper = Reaper(projects=["support-bot"], older_than=3600)
        for trace in reaper.find():
            print(trace.name, trace.cause.sentence, [span.place for span in trace.open_spans])
        print(reaper.close())

    Args:
        settings: key, URLs and backend; by default from the environment.
        projects: names or ids. By default the project of the settings; in a local store, all.
        all_projects: search every project of the organisation.
        experiments: names or ids.
        older_than: the seconds for which nothing must have happened anywhere in a trace.
        since: how far back to search, in seconds; spans that were created earlier are not found.
        filter: a condition in SQL on open spans, such as ``metadata.team = 'search'``.
        limit: the most traces to find.
        shard: ``I/N``: search only this share, from ``0/N`` to ``N-1/N``.
        parallel: how many windows of time are searched at once.
        error: the ``error`` of each closed span; by default none.
        audit: a file to which one line of JSON is appended for each closed trace.

    Raises:
        SettingsError: a value is not accepted, or there is no key.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        projects: Sequence[str] = (),
        all_projects: bool = False,
        experiments: Sequence[str] = (),
        older_than: float = 3600.0,
        since: float = 30 * _DAY,
        filter: str | None = None,
        limit: int | None = None,
        shard: str | None = None,
        parallel: int = 2,
        error: str | None = None,
        audit: str | os.PathLike[str] | None = None,
    ) -> None:
        if not 0 <= older_than < since:
            raise SettingsError(f"older_than is a number of seconds below since ({since:g}), not {older_than:g}")
        self._older_than = older_than
        self._since = since
        self._limit = limit
        self._shard = Shard.parse(shard) if shard else None
        self._parallel = max(1, parallel)
        self._error = error
        self._audit = Audit(audit) if audit is not None else None
        self._stop = threading.Event()
        self.on_progress: Callable[[int, int], object] = lambda done, windows: None
        """Called with the number of windows that have been searched, and of all windows."""
        self.on_wait: Callable[[float], object] = lambda seconds: None
        """Called with the seconds of a pause that the service asks for."""
        self._source = self._make_source(
            settings or Settings.from_env(), projects, all_projects=all_projects, experiments=experiments, filter=filter
        )

    def stop(self) -> None:
        """End the search soon, and for good. What is being closed is closed completely. Any thread, or a signal
        handler, may call this."""
        self._stop.set()

    def find(self) -> Iterator[StuckTrace]:
        """The stuck traces, without changing anything.

        Raises:
            SettingsError: there is no such project.
            BackendError: the backend can't be read; the message says what to do.
        """
        found = 0
        for one in self._search():
            if isinstance(one, StuckTrace):
                yield one
                found += 1
                if found == self._limit:
                    return

    def closing_rows(self) -> Iterator[tuple[StuckTrace, list[Row]]]:
        """The stuck traces with the rows that would close them, for ``bt sync push``."""
        for trace in self.find():
            yield trace, closing_rows(trace, self._error)

    def close(self, on_trace: Callable[[StuckTrace], object] = lambda trace: None) -> Reaped:
        """Close the stuck traces, and clear the reaper's marks from spans whose own end has arrived.

        Each trace is read again immediately before it is closed, and left alone if anything has happened in it.

        Args:
            on_trace: called with each trace that has been closed.

        Raises:
            SettingsError: there is no such project, or the audit file can't be written.
            BackendError: the backend can't be read or written; the message says what to do.
        """
        done = Reaped()
        self._finish_audit()
        batch: list[tuple[float, StuckTrace]] = []
        late: list[_Late] = []
        try:
            for one in self._search():
                if isinstance(one, _Late):
                    late.append(one)
                elif one is not None:
                    done.found += 1
                    batch.append((monotonic(), one))
                if len(batch) >= _TRACES_AT_ONCE or (batch and one is None):
                    batch = self._close_batch(batch, done, on_trace)
                if len(late) >= _TRACES_AT_ONCE or (late and one is None):
                    late = self._clear(late, done)
                if done.found == self._limit:
                    break
        finally:
            # Also after an error in one window: what has been found is stuck nonetheless.
            if batch and not self._stop.is_set():
                self._close_batch(batch, done, on_trace)
            if late and not self._stop.is_set():
                self._clear(late, done)
        done.interrupted = self._stop.is_set()
        return done

    def close_found(self, traces: Sequence[StuckTrace]) -> Reaped:
        """Close some of the traces that :meth:`find` has found. Each is checked again, as in :meth:`close`.

        Raises:
            BackendError: the backend can't be read or written; the message says what to do.
        """
        done = Reaped(found=len(traces))
        self._close_batch([(monotonic(), trace) for trace in traces], done, lambda trace: None)
        return done

    def disconnect(self) -> None:
        """Close connections."""
        self._source.close()

    # Searching

    def _search(self) -> Iterator[StuckTrace | _Late | None]:
        """What the windows have; None when nothing is at hand and the caller may work off what it has."""
        try:
            objects = self._source.objects()
        except Stopped:
            return
        now = time.time()
        since, until = now - self._since, now - self._older_than
        tasks = windows(objects, first_second(since, self._shard), until, self._shard)
        total = sum(1 for _ in windows(objects, first_second(since, self._shard), until, self._shard))
        whole = Window(first_second(since, self._shard), until)
        results: queue.Queue[object] = queue.Queue(_QUEUE)
        ended = threading.Event()
        lock = threading.Lock()

        def work() -> None:
            try:
                while not self._stop.is_set() and not ended.is_set():
                    with lock:
                        task = next(tasks, None)
                    if task is None:
                        return
                    for one in self._in_window(*task, whole):
                        if not _put(results, one, ended):
                            return
                    _put(results, task, ended)
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                _put(results, error, ended)
            finally:
                _put(results, None, ended)

        workers = [
            QuietThread(target=work, name=f"trace-guard reaper {number}", daemon=True)
            for number in range(min(self._parallel, max(1, total)))
        ]
        for worker in workers:
            worker.start()
        running, searched = len(workers), 0
        self.on_progress(0, total)
        try:
            while running:
                try:
                    one = results.get(timeout=0.05)
                except queue.Empty:
                    if self._stop.is_set():
                        return
                    yield None
                    continue
                if one is None:
                    running -= 1
                elif isinstance(one, BaseException):
                    raise one
                elif isinstance(one, tuple):
                    searched += 1
                    self.on_progress(searched, total)
                else:
                    assert isinstance(one, (StuckTrace, _Late))
                    yield one
        finally:
            ended.set()
            for worker in workers:
                worker.join(0.0 if self._stop.is_set() else 1.0)

    def _in_window(self, where: LogObject, window: Window, whole: Window) -> Iterator[StuckTrace | _Late]:
        seen: set[str] = set()
        waiting = [window]
        while waiting:
            current = waiting.pop()
            try:
                for page in self._source.suspects(where, current):
                    for one in self._on_page(where, page, whole):
                        if isinstance(one, StuckTrace):
                            if one.root_span_id in seen:
                                continue
                            if len(seen) < _MOST_SEEN:
                                seen.add(one.root_span_id)
                        yield one
            except WindowTooLarge as error:
                if current.end - current.start < 2 * _SMALLEST_WINDOW:
                    raise BackendUnavailable(
                        f"the service can't search even one second of {where.name}: {error}", status=504
                    ) from error
                waiting += reversed(current.halves())

    def _on_page(self, where: LogObject, page: Sequence[Row], whole: Window) -> Iterator[StuckTrace | _Late]:
        suspects: dict[str, set[str]] = {}
        for row in page:
            if has_real_end(row):
                yield _Late(row, where)
            elif not has_ended(row):
                suspects.setdefault(str(row.get("root_span_id") or row.get("span_id")), set()).add(str(row.get("id")))
        roots = list(suspects)
        for start in range(0, len(roots), _TRACES_AT_ONCE):
            some = roots[start : start + _TRACES_AT_ONCE]
            first = self._source.first_matching(where, some, whole)
            traces = list(group(self._source.spans(where, some)))
            # A trace with open spans in several pages or windows is counted by the first of them.
            mine = [
                trace for trace in traces
                if (trace.first_open(whole.start) if first is None else first.get(trace.root_span_id))
                in suspects.get(trace.root_span_id, ())
            ]
            yield from self._quiet(where, mine)

    def _quiet(self, where: LogObject, traces: Sequence[Trace]) -> Iterator[StuckTrace]:
        """Those of the traces in which nothing has happened lately."""
        quiet = [trace for trace in traces if time.time() - trace.last_activity >= self._older_than]
        lonely = [trace.root_span_id for trace in quiet if trace.lonely()]
        logged = self._source.logged(where, lonely) if lonely else set()
        for trace in quiet:
            stuck = trace.stuck(where, logged)
            if stuck is not None:
                yield stuck

    # Closing

    def _close_batch(
        self, batch: Sequence[tuple[float, StuckTrace]], done: Reaped, on_trace: Callable[[StuckTrace], object]
    ) -> list[tuple[float, StuckTrace]]:
        """Check the traces again, and close those that are still quiet. Returns an empty list, for the next ones."""
        settle = _SETTLE_SECONDS - self._older_than
        if settle > 0:
            newest = max(found for found, _ in batch)
            if self._stop.wait(max(0.0, newest + settle - monotonic())):
                return []
        by_object: dict[LogObject, list[StuckTrace]] = {}
        for _, trace in batch:
            by_object.setdefault(trace.where, []).append(trace)
        for where, traces in by_object.items():
            try:
                still = self._still_stuck(where, traces)
            except Stopped:
                return []
            done.left_alone += len(traces) - len(still)
            self._send_closing(still, done, on_trace)
        return []

    def _still_stuck(self, where: LogObject, traces: Sequence[StuckTrace]) -> list[StuckTrace]:
        before = {trace.root_span_id: trace for trace in traces}
        again = group(self._source.spans(where, list(before)))
        unchanged = [
            trace for trace in again
            if trace.root_span_id in before and trace.last_activity <= before[trace.root_span_id].last_activity
        ]
        return list(self._quiet(where, unchanged))

    def _send_closing(
        self, traces: Sequence[StuckTrace], done: Reaped, on_trace: Callable[[StuckTrace], object]
    ) -> None:
        if not traces:
            return
        if self._audit is not None:
            self._audit.begin([self._audit_line(trace) for trace in traces])
        rows = [row for trace in traces for row in closing_rows(trace, self._error)]
        self._source.send(rows, Deadline.after(_SEND_SECONDS))
        if self._audit is not None:
            self._audit.commit()
        done.closed += len(traces)
        done.closed_spans += len(rows)
        for trace in traces:
            on_trace(trace)

    def _clear(self, late: Iterable[_Late], done: Reaped) -> list[_Late]:
        """Clear the reaper's marks. Returns an empty list, for the next ones."""
        rows = list({(one.where, one.row["id"]): clearing_row(one.row, one.where) for one in late}.values())
        self._source.send(rows, Deadline.after(_SEND_SECONDS))
        done.cleared += len(rows)
        return []

    def _audit_line(self, trace: StuckTrace) -> Row:
        return {"closed_at": time.time(), **trace.to_json(), "error": self._error}

    def _finish_audit(self) -> None:
        """Write the lines of an earlier run that was killed between closing traces and saying so."""
        if self._audit is None:
            return

        def is_closed(line: Row) -> bool:
            where = LogObject(str(line.get("kind")), str(line.get("object_id")), str(line.get("project")))
            ends = {span["id"]: span["end"] for span in line.get("open_spans") or ()}
            stored = {row.get("id"): row for row in self._source.spans(where, [str(line.get("root_span_id"))])}
            return bool(ends) and all(
                ((stored.get(id) or {}).get("trace_guard") or {}).get("reaped_end") == end for id, end in ends.items()
            )

        self._audit.settle(is_closed)

    def _make_source(
        self, settings: Settings, projects: Sequence[str], *, all_projects: bool, experiments: Sequence[str],
        filter: str | None,
    ) -> Source:
        if settings.backend == "local":
            from ..backends.local import LocalStore
            from .local_source import LocalSource

            if experiments or filter:
                raise SettingsError("a local store has no experiments by name, and no filter in SQL")
            store = make_backend(settings, ProjectIds())
            assert isinstance(store, LocalStore)
            return LocalSource(store, () if all_projects else projects)
        if not settings.api_key:
            raise SettingsError(
                "there is no key: set BRAINTRUST_API_KEY to search Braintrust, or use --backend local to search the "
                "local store"
            )
        if not (projects or all_projects or experiments):
            own = settings.project_id or settings.project
            if own is None or (not settings.project_id and own == default_project({})):
                raise SettingsError("name what to search: --project NAME, --all-projects or --experiment NAME")
            projects = [own]
        from ..backends.braintrust import BraintrustBackend

        backend = make_backend(dataclasses.replace(settings, backend="braintrust"), ProjectIds())
        assert isinstance(backend, BraintrustBackend)
        return BraintrustSource(
            backend, projects=projects, all_projects=all_projects, experiments=experiments, filter=filter,
            stop=self._stop, on_wait=lambda seconds: self.on_wait(seconds),
        )


def _put(results: queue.Queue[object], one: object, ended: threading.Event) -> bool:
    """Hand a result over; False if nobody takes it any more."""
    while not ended.is_set():
        try:
            results.put(one, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
