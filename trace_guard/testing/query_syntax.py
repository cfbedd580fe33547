"""Reads Braintrust's three spellings of a query into one: SQL, BTQL with its clauses, and the SDK's JSON tree.

::

    SELECT id, metrics FROM project_logs('<id>', shape => 'spans')
      WHERE created >= now() - interval 1 day AND metrics.end IS NULL LIMIT 1000 OFFSET '<cursor>'

    select: * | from: project_logs('<id>') spans | filter: created < now() - interval 1 hour and is_root
      | sort: _pagination_key DESC | limit: 1000 | cursor: '<cursor>'

    {"select": [{"op": "star"}], "filter": {"op": "eq", "left": ..., "right": ...}, "limit": 1000, "cursor": null,
     "from": {"op": "function", "name": {"op": "ident", "name": ["dataset"]}, "args": [...]}}

The grammar is that of https://www.braintrust.dev/docs/reference/sql, parsed by ``sqlglot`` (extra ``testing``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ParsedQuery", "QueryRefused", "QueryUnavailable", "parse_query"]

SOURCES = ("project_logs", "experiment", "dataset", "project_prompts", "playground_logs")
_SHAPES = ("spans", "traces", "summary")
# A pipe between clauses: outside quotes, and not a half of the operator `||`.
_PIPE = re.compile(r"(?<!\|)\|(?!\|)(?=(?:[^']*'[^']*')*[^']*$)")
_CLAUSE = re.compile(r"\s*(\w+)\s*:\s*(.*?)\s*", re.DOTALL)
_SQL_CLAUSES = {
    "select": "SELECT", "measures": "SELECT", "from": "FROM", "filter": "WHERE", "dimensions": "GROUP BY",
    "final_filter": "HAVING", "sort": "ORDER BY", "limit": "LIMIT", "cursor": "OFFSET",
}
_SHAPE_AFTER = re.compile(r"(.*\))\s*(\w+)", re.DOTALL)
_NOT_ALLOWED = ("Join", "Subquery", "With", "SetOperation", "Window")


class QueryRefused(ValueError):
    """The query can't be answered; the message says why."""


class QueryUnavailable(RuntimeError):
    """``sqlglot`` is not installed."""


@dataclass(frozen=True)
class ParsedQuery:
    """A query whose source has been read.

    Attributes:
        tree: the ``SELECT`` as a tree of ``sqlglot``.
        source: ``project_logs``, ``experiment`` and so on.
        names: names or ids of the objects to read from.
        shape: ``spans``, ``traces`` or ``summary``.
        cursor: where the page begins, or None.
        text: the query as it came, for messages.
    """

    tree: Any
    source: str
    names: Sequence[str]
    shape: str
    cursor: str | None
    text: str


def parse_query(query: str | Mapping[str, Any], cursor: str | None = None) -> ParsedQuery:
    """Parse a query in any of the spellings.

    Args:
        cursor: the cursor of the request's body; one in the query itself takes precedence.

    Raises:
        QueryRefused: it is not in the language, or uses what the service does not allow (joins, subqueries).
        QueryUnavailable: ``sqlglot`` is not installed.
    """
    glot = sqlglot()
    text = query if isinstance(query, str) else str(dict(query))
    try:
        tree = _from_json(query) if isinstance(query, Mapping) else _parse(_as_sql(query))
    except (glot.errors.SqlglotError, KeyError, TypeError, IndexError) as error:
        said = re.sub(r"\x1b\[\d*m", "", str(error)) or type(error).__name__
        raise QueryRefused(f"not understood: {said}, in: {text}") from error
    if not isinstance(tree, glot.exp.Select):
        raise QueryRefused(f"only SELECT is answered, in: {text}")
    for name in _NOT_ALLOWED:
        if tree.find(getattr(glot.exp, name)) is not None:
            raise QueryRefused(f"joins, subqueries, unions and window functions are not supported, in: {text}")
    source, names, shape = _source(tree, text)
    offset = tree.args.get("offset")
    if offset is not None:
        cursor = str(offset.expression.this)
        tree.set("offset", None)
    return ParsedQuery(tree, source, names, shape, cursor, text)


def sqlglot() -> Any:
    """The module ``sqlglot``, imported when the first query arrives.

    Raises:
        QueryUnavailable: it is not installed.
    """
    try:
        import sqlglot
    except ImportError as error:
        raise QueryUnavailable('queries need sqlglot: pip install "trace-guard[testing]"') from error
    return sqlglot


@functools.cache
def _dialect() -> Any:
    """SQL with Braintrust's operators for lists and texts."""
    sqlglot()
    from sqlglot import exp, parser, tokens
    from sqlglot.dialects.dialect import Dialect

    # Kinds of token that stand between two operands and that the language has no other use for.
    kinds: Any = tokens.Tokenizer.KEYWORDS
    match, includes = kinds["RLIKE"], kinds["GLOB"]
    words = {"MATCH": match, "INCLUDES": includes, "CONTAINS": includes}

    def operator(function: str) -> Callable[[Any, Any], Any]:
        return lambda parsing, left: exp.Anonymous(this=function, expressions=[left, parsing._parse_bitwise()])

    class Braintrust(Dialect):
        class Tokenizer(tokens.Tokenizer):
            KEYWORDS = {**tokens.Tokenizer.KEYWORDS, **words}  # noqa: RUF012 - sqlglot's way to extend a dialect

        class Parser(parser.Parser):
            RANGE_PARSERS = {  # noqa: RUF012
                **parser.Parser.RANGE_PARSERS, match: operator("text_match"),
                includes: operator("list_includes"),
            }

    return Braintrust


def _parse(text: str) -> Any:
    return sqlglot().parse_one(text, read=_dialect())


def _as_sql(text: str) -> str:
    """BTQL's clauses as SQL; SQL as it is."""
    text = text.strip().rstrip(";")
    parts = [_CLAUSE.fullmatch(part) for part in _PIPE.split(text)]
    if not all(parts):
        return text
    clauses: dict[str, str] = {}
    for part in parts:
        assert part is not None
        name, content = part.group(1).lower(), part.group(2)
        if name not in _SQL_CLAUSES:
            raise QueryRefused(f"{name!r} is not a clause, in: {text}")
        known = clauses.get(_SQL_CLAUSES[name])
        clauses[_SQL_CLAUSES[name]] = f"{known}, {content}" if known else content
    if grouped := clauses.get("GROUP BY"):
        clauses["SELECT"] = f"{grouped}, {clauses['SELECT']}" if "SELECT" in clauses else grouped
        clauses["GROUP BY"] = re.sub(r"\s+as\s+\w+", "", grouped, flags=re.IGNORECASE)
    shaped = _SHAPE_AFTER.fullmatch(clauses.get("FROM", ""))
    if shaped is not None:
        clauses["FROM"] = f"{shaped.group(1)[:-1]}, shape => '{shaped.group(2)}')"
    clauses.setdefault("SELECT", "*")
    return " ".join(
        f"{keyword} {clauses[keyword]}" for keyword in dict.fromkeys(_SQL_CLAUSES.values()) if keyword in clauses
    )


def _source(tree: Any, text: str) -> tuple[str, list[str], str]:
    exp = sqlglot().exp
    table = tree.args["from_"].this if tree.args.get("from_") else None
    function = table.this if isinstance(table, exp.Table) else None
    if not isinstance(function, exp.Anonymous) or str(function.this).lower() not in SOURCES:
        raise QueryRefused(f"FROM takes one of {', '.join(SOURCES)} with a name or an id, in: {text}")
    names, shape = [], "spans"
    for argument in function.expressions:
        if isinstance(argument, exp.Kwarg):
            shape = str(argument.expression.this).lower()
        else:
            names.append(str(argument.this))
    if not names or shape not in _SHAPES:
        raise QueryRefused(f"a source takes names or ids, and one of the shapes {', '.join(_SHAPES)}, in: {text}")
    return str(function.this).lower(), names, shape


_BINARY = {
    "eq": "EQ", "ne": "NEQ", "lt": "LT", "le": "LTE", "gt": "GT", "ge": "GTE", "like": "Like", "ilike": "ILike",
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "is": "Is",
}


def _from_json(query: Mapping[str, Any]) -> Any:
    """The tree of a query that the SDK has parsed itself."""
    exp = sqlglot().exp
    tree = exp.select(*(_node(item.get("expr", item)) for item in query.get("select") or [{"op": "star"}]))
    source = query["from"]
    arguments = [_node(argument) for argument in source["args"]]
    if source.get("shape"):
        arguments.append(exp.Kwarg(this=exp.var("shape"), expression=exp.Literal.string(source["shape"])))
    tree = tree.from_(exp.Table(this=exp.Anonymous(this=source["name"]["name"][0], expressions=arguments)))
    if query.get("filter"):
        tree = tree.where(_node(query["filter"]))
    for item in query.get("sort") or ():
        tree = tree.order_by(exp.Ordered(this=_node(item["expr"]), desc=item.get("dir") == "desc"))
    if query.get("limit") is not None:
        tree = tree.limit(int(query["limit"]))
    if query.get("cursor") is not None:
        tree.set("offset", exp.Offset(expression=exp.Literal.string(str(query["cursor"]))))
    return tree


def _node(value: Mapping[str, Any]) -> Any:
    exp = sqlglot().exp
    operator = value["op"]
    if operator == "star":
        return exp.Star()
    if operator == "literal":
        return exp.convert(value["value"])
    if operator == "ident":
        first, *others = (exp.to_identifier(str(name), quoted=True) for name in value["name"])
        return exp.Dot.build([exp.Column(this=first), *others]) if others else exp.Column(this=first)
    if operator == "function":
        return exp.Anonymous(this=value["name"]["name"][0], expressions=[_node(each) for each in value["args"]])
    if operator in ("and", "or"):
        children = value.get("children") or [value["left"], value["right"]]
        return (exp.and_ if operator == "and" else exp.or_)(*(_node(child) for child in children))
    if operator == "not":
        return exp.Not(this=_node(value["expr"]))
    if operator in ("isnull", "isnotnull"):
        null = exp.Is(this=_node(value["expr"]), expression=exp.Null())
        return null if operator == "isnull" else exp.Not(this=null)
    if operator == "in":
        accepted = value["right"].get("value")
        return exp.In(this=_node(value["left"]), expressions=[exp.convert(each) for each in accepted])
    if operator in ("match", "includes"):
        function = "text_match" if operator == "match" else "list_includes"
        return exp.Anonymous(this=function, expressions=[_node(value.get("left") or value["haystack"]),
                                                         _node(value.get("right") or value["needle"])])
    return getattr(exp, _BINARY[operator])(this=_node(value["left"]), expression=_node(value["right"]))
