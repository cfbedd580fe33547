"""Translates the fields and times of a query into SQLite's terms.

A store offers a table ``spans`` with the columns ``n`` (order of arrival), ``object``, ``root_span_id``, ``created``
and ``arrived`` (seconds since the epoch), ``xact`` (the last write's transaction), ``is_span``, ``ended``
(``metrics.end``) and ``doc`` (the row as JSON). What has a column is found without reading documents.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from .query_syntax import QueryRefused, sqlglot
from .row_store import created_at

__all__ = ["INDEXED", "add_functions", "path_of", "translated"]

INDEXED = frozenset({"created", "id", "root_span_id", "_pagination_key", "_xact_id"})
_SECONDS = {
    "SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400, "WEEK": 7 * 86400, "MONTH": 30 * 86400, "YEAR": 365 * 86400,
}
_COMPUTED = {
    "created": "created",
    "root_span_id": "root_span_id",
    "_pagination_key": "printf('p%020d', n)",
    "_xact_id": "printf('%d', xact)",
    "metrics.end": "ended",
    "is_root": "(COALESCE(json_array_length(doc, '$.span_parents'), 0) = 0)",
}


def path_of(node: Any) -> list[str] | None:
    """The names of a field, such as ``metadata.user.id``; None if the node is none."""
    exp = sqlglot().exp
    if isinstance(node, exp.Column):
        return [part.name for part in node.parts]
    if isinstance(node, exp.Dot):
        before = path_of(node.this)
        return None if before is None else [*before, node.expression.name]
    return None


def translated(node: Any, *, times: bool = True) -> Any:
    """The node with fields, times and operators in SQLite's terms.

    Args:
        times: ``created`` is a number of seconds, for comparisons; else the text as it was logged.
    """
    exp = sqlglot().exp
    node = node.copy()
    if times:
        for comparison in list(node.find_all(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)):
            if any(path_of(operand) == ["created"] for operand in comparison.iter_expressions()):
                for literal in list(comparison.find_all(exp.Literal)):
                    if literal.is_string and not isinstance(literal.parent, exp.Interval):
                        literal.replace(exp.Literal.number(_epoch(literal.this)))
    return node.transform(lambda each: _translated(each, times))


def _translated(node: Any, times: bool) -> Any:
    exp = sqlglot().exp
    if isinstance(node, exp.Bracket) and (path := path_of(node.this)) is not None:
        return _extract(path, "".join(f"[{index.this}]" for index in node.expressions))
    path = path_of(node)
    if path is not None:
        if len(path) == 1 and isinstance(node, exp.Column) and node.this.quoted and path[0] not in _COMPUTED \
                and isinstance(node.parent, (exp.Binary, exp.In)) and node.arg_key == "expression":
            return exp.Literal.string(path[0])  # the service takes "text" for a text, too
        name = ".".join(path)
        if name in _COMPUTED and (times or name != "created"):
            return sqlglot().parse_one(_COMPUTED[name], read="sqlite")
        return _extract(path)
    if isinstance(node, exp.Interval):
        amount, _, unit = str(node.this.this).partition(" ")
        unit = (unit or (node.unit.name if node.unit else "")).upper().rstrip("S")
        if unit not in _SECONDS or not re.fullmatch(r"\d+(\.\d+)?", amount):
            raise QueryRefused(f"an interval has one of the units {', '.join(_SECONDS).lower()}: {node.sql()}")
        return exp.Literal.number(float(amount) * _SECONDS[unit])
    if isinstance(node, (exp.CurrentTimestamp, exp.CurrentDatetime)) or _is_now(node):
        return exp.Literal.number(time.time())
    if isinstance(node, exp.CurrentDate):
        return exp.Literal.number(time.time() // 86400 * 86400)
    if isinstance(node, (exp.Cast, exp.TryCast)) and node.to.is_type("timestamp", "timestamptz", "date", "datetime"):
        inner = node.this
        return exp.Literal.number(_epoch(inner.this)) if isinstance(inner, exp.Literal) and inner.is_string else inner
    if isinstance(node, exp.Like):
        return exp.Anonymous(this="text_like", expressions=[_translated_tree(node.this, times),
                                                            _translated_tree(node.expression, times)])
    return node


def _translated_tree(node: Any, times: bool) -> Any:
    return node.copy().transform(lambda each: _translated(each, times))


def _is_now(node: Any) -> bool:
    return isinstance(node, sqlglot().exp.Anonymous) and str(node.this).lower() == "now"


def _extract(path: list[str], suffix: str = "") -> Any:
    exp = sqlglot().exp
    names = "".join("." + json.dumps(name, ensure_ascii=False) for name in path)
    return exp.Anonymous(this="json_extract", expressions=[exp.column("doc"), exp.Literal.string(f"${names}{suffix}")])


def _epoch(text: str) -> float:
    moment = created_at(text)
    if moment is None:
        raise QueryRefused(f"{text!r} is not a time in ISO format")
    return moment


def add_functions(connection: Any) -> None:
    """Give a connection of SQLite the operators that it lacks."""
    connection.create_function("text_like", 2, _like, deterministic=True)
    connection.create_function("text_match", 2, _match, deterministic=True)
    connection.create_function("list_includes", 2, _includes, deterministic=True)


def _like(value: Any, pattern: Any) -> bool | None:
    if value is None or pattern is None:
        return None
    expression = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in str(pattern))
    return re.fullmatch(expression, str(value), re.DOTALL) is not None


def _match(value: Any, words: Any) -> bool | None:
    if value is None or words is None:
        return None
    found = set(re.findall(r"\w+", str(value).lower()))
    return all(word in found for word in re.findall(r"\w+", str(words).lower()))


def _includes(value: Any, wanted: Any) -> bool | None:
    if value is None:
        return None
    try:
        items = json.loads(value)
    except (TypeError, ValueError):
        items = value
    return wanted in items if isinstance(items, list) else wanted == items
