"""The traces of a project in Braintrust, found by SQL."""

from __future__ import annotations

import itertools
import math
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..backends.summaries import TraceSummary, end_of, name_of, root_id_of, start_of, summarize
from ..repair.query import BraintrustSource, quoted
from ..repair.source import LogObject, iso
from ..rows import Row
from .filters import TraceFilter
from .source import ListedTrace, TracePage

__all__ = ["RemoteSource"]

_PAGE_SIZE = 50
# The service asks for a bound on `created`.
_MOST_SECONDS = 30 * 86400.0
_FIELDS = (
    "id, span_id, root_span_id, span_parents, project_id, created, metrics, span_attributes, error, "
    "metadata.trace_guard AS trace_guard"
)
# Small plans have about 20 queries a minute.
_LOOK_SECONDS = 10.0


class RemoteSource:
    """Reads the project logs of one project.

    Args:
        source: has the credentials.
        where: the project.
        app_url, org_name: of Braintrust's application, for links to a trace.
    """

    def __init__(self, source: BraintrustSource, where: LogObject, app_url: str, org_name: str | None) -> None:
        self._source = source
        self._where = where
        self._app_url = app_url.rstrip("/")
        self._org_name = org_name

    @property
    def title(self) -> str:
        return f"{self._app_url}, project {self._where.name}"

    def page(self, wanted: TraceFilter) -> TracePage:
        # Traces whose root is open come first.
        if wanted.state == "open":
            listed = self._roots(wanted, "metrics.end IS NULL")
        else:
            listed = self._roots(wanted, "metrics.end IS NOT NULL")
            if wanted.page == 1 and wanted.state == "":
                listed = [*self._roots(wanted, "metrics.end IS NULL"), *listed]
        return TracePage(self._summaries(listed), None, len(listed) >= _PAGE_SIZE)

    def projects(self) -> Sequence[str]:
        return [self._where.name]

    def rows(self, root_span_id: str) -> list[Row]:
        text = f"SELECT * FROM {self._from()} WHERE root_span_id = {quoted(root_span_id)} ORDER BY _pagination_key ASC"
        return [row for page in self._pages(f"{text} LIMIT 1000") for row in page]

    def version(self, root_span_id: str | None) -> str:
        return str(math.floor(time.time() / _LOOK_SECONDS))

    def attachment(self, key: str) -> Path | None:
        return None

    def address(self, row: Row) -> str | None:
        if not self._org_name:
            return None
        asked = {"object_type": "project_logs", "object_id": self._where.id, "id": str(row.get("id"))}
        return f"{self._app_url}/app/{urllib.parse.quote(self._org_name)}/object?{urllib.parse.urlencode(asked)}"

    def _roots(self, wanted: TraceFilter, state: str) -> list[Row]:
        """The root spans of one page."""
        since = wanted.earliest() or time.time() - _MOST_SECONDS
        conditions = [f"created >= '{iso(since)}'", "is_root", state]
        if wanted.state == "error":
            conditions.append("error IS NOT NULL")
        elif wanted.state == "closed":
            conditions.append("metadata.trace_guard.closed_by IS NOT NULL")
        if wanted.name:
            conditions.append(f"span_attributes.name ILIKE {_like(wanted.name)}")
        if wanted.q:
            places = ("span_attributes.name", "error", "input", "output")
            conditions.append(f"({' OR '.join(f'{place} ILIKE {_like(wanted.q)}' for place in places)})")
        text = (
            f"SELECT {_FIELDS} FROM {self._from()} WHERE {' AND '.join(conditions)} ORDER BY _pagination_key DESC "
            f"LIMIT {_PAGE_SIZE}"
        )
        return next(itertools.islice(self._pages(text), wanted.page - 1, None), [])

    def _summaries(self, roots: Sequence[Row]) -> list[ListedTrace]:
        wanted = list(dict.fromkeys(str(root_id_of(row)) for row in roots))
        if not wanted:
            return []
        spans = [_with_metadata(row) for row in self._source.spans(self._where, wanted)]
        found: dict[str, TraceSummary] = {
            trace.root_span_id: trace for trace in summarize(spans, {self._where.id: self._where.name})
        }
        listed = []
        for root in wanted:
            own = [row for row in spans if root_id_of(row) == root]
            open_rows = [row for row in own if end_of(row) is None]
            running = max(open_rows, key=lambda row: start_of(row) or 0.0, default=None)
            if root in found:
                forced = sum(bool((row.get("trace_guard") or {}).get("closed_by")) for row in own)
                listed.append(ListedTrace(found[root], name_of(running) if running else None, forced))
        return listed

    def _from(self) -> str:
        return f"{self._where.kind}({quoted(self._where.id)}, shape => 'spans')"

    def _pages(self, text: str) -> Iterator[list[Row]]:
        following = ""
        while True:
            rows, cursor = self._source.query(text + following)
            if rows:
                yield rows
            after = f" OFFSET {quoted(cursor)}" if cursor is not None else ""
            if not rows or not after or after == following:
                return
            following = after


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return quoted(f"%{escaped}%")


def _with_metadata(row: Row) -> Row:
    return {**row, "metadata": {"trace_guard": row.get("trace_guard")}}
