"""Answers queries from a table in SQLite, within the limits of the service.

A page has 1000 rows at most, and a cursor if more follow. A query of project logs needs a filter on ``created``,
``id``, ``root_span_id``, ``_xact_id`` or ``_pagination_key``. The shape ``traces`` returns every span of the traces in
which a span matches, and ``LIMIT`` then counts traces; ``summary`` returns one row for each of these traces.
"""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..rows import Row, visible
from .query_fields import INDEXED, add_functions, path_of, translated
from .query_syntax import ParsedQuery, QueryRefused, sqlglot

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MOST_ROWS", "Page", "QueryTooLarge", "run_query"]

MOST_ROWS = 1000
_COLUMNS = "SELECT n, arrived, xact, doc"


class QueryTooLarge(Exception):
    """The service would need more than its time limit."""


@dataclass(frozen=True)
class Page:
    """Rows, and the cursor of the next page, or None after the last."""

    rows: list[Row]
    cursor: str | None


def run_query(
    query: ParsedQuery, connection: sqlite3.Connection, objects: Sequence[str], most_scanned: int | None = None
) -> Page:
    """Answer a query from the table ``spans``, whose columns :mod:`.query_fields` describes.

    Args:
        objects: the ids of the objects to read from.
        most_scanned: the most rows that the filters on indexed fields may leave.

    Raises:
        QueryRefused: SQLite does not have a function of the query, or a required filter is missing.
        QueryTooLarge: more rows than ``most_scanned`` would have to be read.
    """
    import sqlite3

    add_functions(connection)
    try:
        return _Run(query, connection, objects).page(most_scanned)
    except (sqlite3.Error, QueryRefused) as error:
        said = str(error)
        raise QueryRefused(said if query.text in said else f"not understood: {said}, in: {query.text}") from error


class _Run:
    """One query on one connection."""

    def __init__(self, query: ParsedQuery, connection: sqlite3.Connection, objects: Sequence[str]) -> None:
        self._query = query
        self._tree = query.tree
        self._connection = connection
        self._objects = list(objects)
        marks = ", ".join("?" * len(self._objects))
        self._from = f"spans WHERE object IN ({marks})"
        if query.source in ("project_logs", "experiment", "playground_logs"):
            self._from += " AND is_span"

    def page(self, most_scanned: int | None) -> Page:
        where = self._tree.args.get("where")
        conditions = list(where.this.flatten()) if where and isinstance(where.this, sqlglot().exp.And) else (
            [where.this] if where else []
        )
        # Ahead of the filter: SQLite then reads few documents.
        conditions.sort(key=lambda condition: not self._is_indexed(condition))
        indexed = [_sql(translated(each)) for each in conditions if self._is_indexed(each)]
        if self._query.source == "project_logs" and not indexed:
            raise QueryRefused(f"a filter on one of {', '.join(sorted(INDEXED))} is required, in: {self._query.text}")
        self._check_size(indexed, most_scanned)
        matching = "".join(f" AND ({_sql(translated(condition))})" for condition in conditions)
        if self._query.shape != "spans" and not self._is_aggregated():
            return self._traces(matching)
        if self._query.shape != "spans":
            matching = f" AND root_span_id IN (SELECT root_span_id FROM {self._from}{matching})"
            return self._computed(matching, self._objects * 2)
        return self._computed(matching, self._objects) if self._picks() is None else self._spans(matching)

    def _is_indexed(self, condition: Any) -> bool:
        exp = sqlglot().exp
        paths = [path_of(node) for node in condition.find_all(exp.Column, exp.Dot)]
        return bool(paths) and all(path is not None and path[0] in INDEXED and len(path) == 1 for path in paths)

    def _check_size(self, indexed: Sequence[str], most_scanned: int | None) -> None:
        if most_scanned is None:
            return
        conditions = "".join(f" AND ({each})" for each in indexed)
        marks = ", ".join("?" * len(self._objects))
        counted = f"SELECT 1 FROM spans WHERE object IN ({marks}){conditions} LIMIT {most_scanned + 1}"
        (found,) = self._connection.execute(f"SELECT count(*) FROM ({counted})", self._objects).fetchone()
        if found > most_scanned:
            raise QueryTooLarge(f"the query timed out: it reads more than {most_scanned} rows")

    # Pages of rows

    def _spans(self, matching: str) -> Page:
        order = self._order()
        limit = self._limit()
        if order is None:
            return self._by_offset(matching, limit)
        key, descending = order
        after, parameters = "", list[Any](self._objects)
        sign, direction = ("<", "DESC") if descending else (">", "ASC")
        position = self._position("")
        if position:
            if key == "created":
                after = f" AND (created, n) {sign} ((SELECT created FROM spans WHERE n = ?), ?)"
                parameters += [position, position]
            else:
                after = f" AND n {sign} ?"
                parameters.append(position)
        keys = f"created {direction}, n {direction}" if key == "created" else f"n {direction}"
        found = self._connection.execute(
            f"{_COLUMNS} FROM {self._from}{after}{matching} ORDER BY {keys} LIMIT {limit + 1}", parameters
        ).fetchall()
        return self._page(found, limit, str(found[limit - 1][0]) if len(found) > limit else None)

    def _by_offset(self, matching: str, limit: int) -> Page:
        order = ", ".join(_sql(translated(each)) for each in self._tree.args["order"].expressions)
        start = self._position("o")
        found = self._connection.execute(
            f"{_COLUMNS} FROM {self._from}{matching} ORDER BY {order}, n LIMIT {limit + 1} OFFSET {start}",
            self._objects,
        ).fetchall()
        return self._page(found, limit, f"o{start + limit}" if len(found) > limit else None)

    def _page(self, found: Sequence[tuple[Any, ...]], limit: int, cursor: str | None) -> Page:
        pick = self._picks() or (lambda row: row)
        return Page([pick(with_computed(*each)) for each in found[:limit]], cursor)

    def _traces(self, matching: str) -> Page:
        limit, start = self._limit(), self._position("")
        roots = self._connection.execute(
            f"SELECT root_span_id, MIN(n) AS first FROM {self._from}{matching} "
            f"GROUP BY root_span_id HAVING first > ? ORDER BY first LIMIT {limit + 1}", [*self._objects, start],
        ).fetchall()
        cursor = str(roots[limit - 1][1]) if len(roots) > limit else None
        pick = self._picks()
        if pick is None:
            raise QueryRefused(f"the shape {self._query.shape!r} selects fields, in: {self._query.text}")
        rows: list[Row] = []
        for root, _ in roots[:limit]:
            spans = [with_computed(*each) for each in self._connection.execute(
                f"{_COLUMNS} FROM {self._from} AND root_span_id = ? ORDER BY n", [*self._objects, root]
            )]
            rows += spans if self._query.shape == "traces" else [_summary(spans)]
        return Page([pick(row) for row in rows], cursor)

    def _computed(self, matching: str, parameters: Sequence[str]) -> Page:
        """The answer to a query with functions or aggregates, which SQLite computes."""
        exp = sqlglot().exp
        columns = [(node.alias_or_name or node.sql(), node.unalias()) for node in self._tree.expressions]
        selected = ", ".join(_sql(translated(node, times=False)) for _, node in columns)
        text = f"SELECT {selected} FROM {self._from}{matching}"
        aliases = dict(columns)

        def unaliased(node: Any) -> Any:
            is_alias = isinstance(node, exp.Column) and not node.table and node.name in aliases
            return aliases[node.name].copy() if is_alias else node

        for clause, keyword in (("group", "GROUP BY"), ("having", "HAVING"), ("order", "ORDER BY")):
            part = self._tree.args.get(clause)
            if part is not None:
                expressions = [part.this] if clause == "having" else part.expressions
                written = [
                    _sql(translated(each.transform(unaliased), times=clause != "group")) for each in expressions
                ]
                text += f" {keyword} {', '.join(written)}"
        limit, start = self._limit(), self._position("o")
        found = self._connection.execute(f"{text} LIMIT {limit + 1} OFFSET {start}", list(parameters)).fetchall()
        rows = [dict(zip((name for name, _ in columns), values, strict=True)) for values in found[:limit]]
        return Page(rows, f"o{start + limit}" if len(found) > limit else None)

    # Parts of the query

    def _is_aggregated(self) -> bool:
        return self._tree.args.get("group") is not None or self._tree.find(sqlglot().exp.AggFunc) is not None

    def _picks(self) -> Callable[[Row], Row] | None:
        """What takes the selected fields from a row; None if something has to be computed."""
        exp = sqlglot().exp
        wanted: list[tuple[str, list[str]]] = []
        every = False
        for node in self._tree.expressions:
            path = path_of(node.unalias())
            if isinstance(node, exp.Star):
                every = True
            elif path is None:
                return None
            else:
                wanted.append((node.alias or path[-1], path))
        if self._tree.args.get("group") is not None:
            return None
        return lambda row: {**(row if every else {}), **{name: _value(row, path) for name, path in wanted}}

    def _order(self) -> tuple[str, bool] | None:
        """The field and direction that pages follow; None for any other order."""
        order = self._tree.args.get("order")
        if order is None:
            return "_pagination_key", False
        path = path_of(order.expressions[0].this)
        if len(order.expressions) > 1 or path not in (["_pagination_key"], ["created"], ["_xact_id"]):
            return None
        return path[0], bool(order.expressions[0].args.get("desc"))

    def _limit(self) -> int:
        limit = self._tree.args.get("limit")
        wanted = str(limit.expression.this) if limit is not None else str(MOST_ROWS)
        if not wanted.isdecimal():
            raise QueryRefused(f"a limit is a number, in: {self._query.text}")
        return min(int(wanted), MOST_ROWS)

    def _position(self, prefix: str) -> int:
        """Where the page begins, from the cursor; 0 without one."""
        cursor = self._query.cursor or "0"
        number = cursor.removeprefix(prefix) if cursor != "0" else "0"
        if not number.isdecimal():
            raise QueryRefused(f"{cursor!r} is not a cursor that was handed out, in: {self._query.text}")
        return int(number)


def with_computed(n: int, arrived: float, xact: int, doc: str) -> Row:
    """A stored row with the fields that the service adds."""
    row = visible(json.loads(doc))
    created = datetime.datetime.fromtimestamp(arrived, datetime.timezone.utc).isoformat()
    return {
        "created": created, **row, "is_root": not row.get("span_parents"), "_pagination_key": f"p{n:020d}",
        "_xact_id": str(xact),
    }


def _summary(spans: Sequence[Row]) -> Row:
    """The root of a trace, with the numbers of all its spans."""
    root = next((span for span in spans if span["is_root"]), spans[0])
    scores, totals = defaultdict[str, list[float]](list), defaultdict[str, float](float)
    for span in spans:
        for name, value in (span.get("scores") or {}).items():
            if isinstance(value, (int, float)):
                scores[name].append(value)
        for name, value in (span.get("metrics") or {}).items():
            if isinstance(value, (int, float)) and name not in ("start", "end"):
                totals[name] += value
    averages = {name: sum(values) / len(values) for name, values in scores.items()}
    own = {name: value for name, value in (root.get("metrics") or {}).items() if name in ("start", "end")}
    return {**root, "scores": averages, "metrics": {**totals, **own}}


def _value(row: Row, path: Sequence[str]) -> Any:
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _sql(node: Any) -> str:
    return str(node.sql(dialect="sqlite"))
