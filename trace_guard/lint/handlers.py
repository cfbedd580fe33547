"""TG003: serverless handlers that do not flush in ``finally``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .flow import NONE, Open, State, follow
from .names import Function, Names, last_name, walk_own
from .rules import Problem
from .tracing import flushes, has_spans, is_guarded, opens_span

__all__ = ["handler_problems"]

_EVENTS = ("event", "_event", "evt", "raw_event")
_CONTEXTS = ("context", "_context", "ctx", "_ctx", "lambda_context", "_")
# Decorators of functions-framework, Azure and Powertools, by their last name. They neither flush nor open spans.
_PLAIN = frozenset((
    "capture_lambda_handler", "cloud_event", "event_parser", "event_source", "function_name", "http",
    "idempotent", "inject_lambda_context", "log_metrics", "route", "typed", "validator",
))


def handler_problems(names: Names) -> Iterator[Problem]:
    """A problem for each handler whose spans are not flushed, or not after an exception."""
    handlers = [function for function in names.functions if _is_handler(function, names)]
    if not handlers or not has_spans(names):
        return
    for handler in handlers:
        if not is_guarded(names, handler) and all(_is_known(one, names) for one in handler.decorator_list):
            yield from _of_handler(handler, names)


def _of_handler(handler: Function, names: Names) -> Iterator[Problem]:
    if not flushes(handler, names):
        yield Problem(handler, "TG003", f"the handler {handler.name!r} does not flush")
        return
    if any(names.sdk_name(_called(decorator)) == "traced" for decorator in handler.decorator_list):
        yield Problem(handler, "TG003", f"the span of `@traced` around {handler.name!r} ends after the flush")
        return
    left, _ = follow(handler.body, _FlushDuty(handler, names), frozenset({NONE}))
    tokens = frozenset[str | Open]().union(*left)
    owed = sorted((token for token in tokens if isinstance(token, Open)), key=_line)
    if owed:
        first = next((token for token in owed if token.jump is not None), Open())
        by = {"": "not every path reaches", "exception": f"an exception on line {_line(first)} skips"}
        how = by.get(first.how, f"the `{first.how}` on line {_line(first)} skips")
        yield Problem(handler, "TG003", f"{how} the flush in the handler {handler.name!r}")


def _line(token: Open) -> int:
    return token.jump.lineno if token.jump is not None else 0


def _is_handler(function: Function, names: Names) -> bool:
    if function not in names.module.body:
        return False
    parameters = [*function.args.posonlyargs, *function.args.args]
    given = [parameter.arg for parameter in parameters]
    if len(given) == 2 and given[0] in _EVENTS and given[1] in _CONTEXTS and "handle" in function.name:
        return True
    if any((names.dotted(_called(one)) or "").startswith("functions_framework.") for one in function.decorator_list):
        return True
    if any(_is_azure(decorator, names) for decorator in function.decorator_list):
        return True
    return function.name == "main" and any(
        (names.dotted(parameter.annotation) or "").startswith("azure.functions.")
        for parameter in parameters if parameter.annotation is not None
    )


def _is_azure(decorator: ast.expr, names: Names) -> bool:
    called = _called(decorator)
    if not isinstance(called, ast.Attribute) or not (called.attr == "route" or called.attr.endswith("_trigger")):
        return False
    made = names.value_of(called.value)
    return isinstance(made, ast.Call) and (names.dotted(made.func) or "").startswith("azure.functions.")


def _is_known(decorator: ast.expr, names: Names) -> bool:
    """The decorator does not flush. What comes from an unknown module can."""
    called = _called(decorator)
    if names.sdk_name(called) == "traced" or last_name(called) in _PLAIN:
        return True
    if last_name(called).endswith(("_trigger", "_input", "_output")):
        return True
    function = names.function_named(called.id, names.module) if isinstance(called, ast.Name) else None
    return function is not None and not flushes(function, names)


class _FlushDuty:
    """What a handler has traced has to be flushed."""

    def __init__(self, handler: Function, names: Names) -> None:
        self._names = names
        self._protected = any(
            isinstance(node, ast.Try) and self.ends_within(node.finalbody) for node in walk_own(handler)
        )

    def starts(self, statement: ast.stmt) -> State | None:
        return None

    def begins(self, part: ast.AST) -> bool:
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        return any(opens_span(node, self._names) for node in (part, *walk_own(part)))

    def settles(self, part: ast.AST) -> bool:
        return flushes(part, self._names)

    def forgets(self, statement: ast.stmt) -> bool:
        return False

    def raises(self, part: ast.AST) -> bool:
        if self._protected or isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        return any(isinstance(node, (ast.Await, ast.Call)) for node in (part, *walk_own(part)))

    def decides(self, test: ast.expr) -> tuple[bool, bool]:
        return True, True

    def ends_within(self, statements: list[ast.stmt]) -> bool:
        return any(flushes(statement, self._names) for statement in statements)


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node
