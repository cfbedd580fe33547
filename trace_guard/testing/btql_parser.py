"""Parses queries in the language that :mod:`trace_guard.testing.btql` describes."""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..rows import Row

__all__ = ["Query", "QueryRefused", "parse_query"]

MOST_ROWS = 1000
_INDEXED = {"created", "id", "root_span_id", "_pagination_key"}
_SOURCES = {"project_logs": "project_id", "experiment": "experiment_id"}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|-?\d+(?:\.\d+)?|[A-Za-z_][\w.]*|=>|<=|>=|!=|<>|[=<>(),*|:-])")
_UNITS = ("second", "minute", "hour", "day", "week")

Condition: TypeAlias = Callable[[Row], bool]


class QueryRefused(ValueError):
    """The query can't be answered; the message says which part was not understood."""


@dataclass
class Query:
    """A parsed query: rows whose field ``owner`` is ``id`` and that meet every condition."""

    owner: str = ""
    id: str = ""
    columns: Sequence[str] = ("*",)
    conditions: Sequence[Condition] = ()
    newest_first: bool = False
    limit: int = MOST_ROWS
    offset: int = 0

    def pick(self, row: Row) -> Row:
        return dict(row) if "*" in self.columns else {name: row.get(name) for name in self.columns}


def parse_query(text: str) -> Query:
    """Parse a query in either spelling.

    Raises:
        QueryRefused: the query is not in the supported language, or has no filter on an indexed field.
    """
    return _Parser(text).parse()


class _Parser:
    """Reads tokens from left to right. Each method reads one part of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._indexed = False
        self._query = Query()

    def parse(self) -> Query:
        clauses = {
            "select": self._select,
            "from": self._from,
            "where": self._where,
            "filter": self._where,
            "sort": self._sort,
            "limit": self._limit,
            "offset": self._cursor,
            "cursor": self._cursor,
        }
        while self._at < len(self._tokens):
            name = self._next().lower()
            if name not in clauses:
                raise self._refused(f"{name!r} is not a clause")
            self._skip(":")
            clauses[name]()
            self._skip("|")
        if not self._query.owner:
            raise self._refused("there is no FROM")
        if not self._indexed:
            raise self._refused(f"a filter on one of {', '.join(sorted(_INDEXED))} is required")
        return self._query

    def _select(self) -> None:
        self._query.columns = self._list()

    def _from(self) -> None:
        source = self._next().lower()
        if source not in _SOURCES:
            raise self._refused(f"can't read from {source!r}")
        self._expect("(")
        self._query.owner, self._query.id = _SOURCES[source], str(self._value())
        if self._skip(","):
            self._expect("shape")
            self._expect("=>")
            self._shape(str(self._value()))
        self._expect(")")
        if (self._peek() or "").isidentifier() and self._peek(1) in ("|", None):
            self._shape(self._next())

    def _shape(self, name: str) -> None:
        if name.lower() != "spans":
            raise self._refused(f"the shape {name!r} is not imitated, only 'spans'")

    def _where(self) -> None:
        conditions = [self._condition()]
        while self._skip("and"):
            conditions.append(self._condition())
        self._query.conditions = conditions

    def _condition(self) -> Condition:
        name = self._next()
        if not re.match(r"[A-Za-z_]", name):
            raise self._refused(f"{name!r} is not a field")
        self._indexed = self._indexed or name in _INDEXED
        if self._skip("is"):
            null = not self._skip("not")
            self._expect("null")
            return lambda row: (_field(row, name) is None) == null
        if self._skip("in"):
            self._expect("(")
            accepted = [self._value()]
            while self._skip(","):
                accepted.append(self._value())
            self._expect(")")
            return lambda row: _field(row, name) in accepted
        sign = "!=" if self._peek() == "<>" else self._peek()
        if sign not in _COMPARISONS:
            return lambda row: bool(_field(row, name))
        self._next()
        return _comparison(name, _COMPARISONS[sign], self._value())

    def _sort(self) -> None:
        if self._next() not in ("_pagination_key", "created"):
            raise self._refused("rows are sorted by _pagination_key or created only")
        self._query.newest_first = self._skip("desc")
        self._skip("asc")

    def _limit(self) -> None:
        self._query.limit = min(int(self._value()), MOST_ROWS)

    def _cursor(self) -> None:
        value = str(self._value())
        if not value.isdigit():
            raise self._refused(f"{value!r} is not a cursor that was handed out")
        self._query.offset = int(value)

    def _list(self) -> list[str]:
        names = [self._next()]
        while self._skip(","):
            names.append(self._next())
        if dotted := [name for name in names if "." in name]:
            raise self._refused(f"only whole fields can be selected, not {dotted[0]}")
        return names

    def _value(self) -> Any:
        """A string, a number, true, false, or ``now() [- interval N unit]``, which is a UTC time."""
        token = self._next()
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if re.fullmatch(r"-?\d+(\.\d+)?", token):
            return float(token) if "." in token else int(token)
        if token.lower() in ("true", "false"):
            return token.lower() == "true"
        if token.lower() != "now":
            raise self._refused(f"{token!r} is not a value")
        self._expect("(")
        self._expect(")")
        now = datetime.datetime.now(datetime.timezone.utc)
        if not self._skip("-"):
            return now
        self._expect("interval")
        count, unit = str(self._value()), ""
        if " " in count:  # PostgreSQL writes interval '1 day', Braintrust interval 1 day.
            count, unit = count.split(" ", 1)
        unit = (unit or self._next()).lower().rstrip("s")
        if unit not in _UNITS:
            raise self._refused(f"an interval has one of the units {', '.join(_UNITS)}, not {unit!r}")
        return now - datetime.timedelta(**{f"{unit}s": float(count)})

    def _peek(self, further: int = 0) -> str | None:
        at = self._at + further
        return self._tokens[at] if at < len(self._tokens) else None

    def _next(self) -> str:
        token = self._peek()
        if token is None:
            raise self._refused("it ends too early")
        self._at += 1
        return token

    def _skip(self, token: str) -> bool:
        found = (self._peek() or "").lower() == token
        self._at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            raise self._refused(f"expected {token!r}, found {self._peek()!r}")

    def _refused(self, why: str) -> QueryRefused:
        return QueryRefused(f"{why}, in: {self._text}")


def _tokens(text: str) -> Iterator[str]:
    at = 0
    text = text.rstrip().rstrip(";")
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise QueryRefused(f"not understood: {text[at : at + 40]!r}")
        yield found.group().strip()
        at = found.end()


def _field(row: Mapping[str, Any], name: str) -> Any:
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _comparison(name: str, compare: Callable[[Any, Any], bool], wanted: Any) -> Condition:
    convert: Callable[[Any], Any] = _time if name == "created" else lambda value: value

    def condition(row: Row) -> bool:
        value = _field(row, name)
        try:
            return value is not None and bool(compare(convert(value), convert(wanted)))
        except TypeError:
            return False

    return condition


def _time(value: Any) -> datetime.datetime:
    moment = (
        value
        if isinstance(value, datetime.datetime)
        else datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    )
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)
