"""The part of Braintrust's query language that finds spans by what they are.

Two spellings of one query are understood, as documented at https://www.braintrust.dev/docs/reference/btql ::

    SELECT id, span_id, metrics FROM project_logs('<id>', shape => 'spans')
      WHERE created >= now() - interval 1 day AND metrics.end IS NULL LIMIT 1000 OFFSET '<cursor>'

    select: * | from: project_logs('<id>') spans | filter: created < now() - interval 1 hour and is_root
      | sort: _pagination_key DESC | limit: 1000 | cursor: '<cursor>'

Conditions are joined by AND: a comparison (``= != < <= > >=``), ``IS [NOT] NULL``, ``IN (...)``, or a bare
field that has to be true. Everything else is refused, never ignored. As on the service, a page holds 1000
rows at most, and a filter on ``created``, ``id``, ``root_span_id`` or ``_pagination_key`` is required.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from ..rows import Row
from .btql_parser import QueryRefused, parse_query
from .row_store import StoredRow

__all__ = ["Page", "QueryRefused", "run_query"]


@dataclass(frozen=True)
class Page:
    """Rows, and the cursor of the next page, or None after the last."""

    rows: list[Row]
    cursor: str | None


def run_query(text: str, stored: Sequence[StoredRow]) -> Page:
    """Answer a query from the rows of a store.

    Raises:
        QueryRefused: the query is not in the supported language, or has no filter on an indexed field.
    """
    query = parse_query(text)
    rows = [_with_computed(number, each) for number, each in enumerate(stored, 1)]
    found = [row for row in rows if row.get(query.owner) == query.id and row.get("span_id")]
    found = [row for row in found if all(condition(row) for condition in query.conditions)]
    found.sort(key=lambda row: str(row["_pagination_key"]), reverse=query.newest_first)
    page = found[query.offset : query.offset + query.limit]
    end = query.offset + len(page)
    return Page([query.pick(row) for row in page], str(end) if end < len(found) else None)


def _with_computed(number: int, stored: StoredRow) -> Row:
    arrived = datetime.datetime.fromtimestamp(stored.arrived, datetime.timezone.utc).isoformat()
    return {
        "created": arrived,
        **stored.row,
        "is_root": not stored.row.get("span_parents"),
        "_pagination_key": f"p{number:020d}",
    }
