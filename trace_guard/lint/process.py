"""TG004 to TG006: flushes that do not happen, spans at import, and exits that skip everything."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from .names import Function, Names, walk_own
from .rules import Problem
from .tracing import flushes, has_spans, is_guarded, opens_span

__all__ = ["exit_problems", "flush_problems", "import_problems"]

_GUNICORN_FILES = ("gunicorn.conf.py", "gunicorn_conf.py", "gunicorn_config.py")


def flush_problems(names: Names) -> Iterator[Problem]:
    """TG004: a logger that is to flush by itself, in a module that has spans and never flushes."""
    found = [
        node for node in ast.walk(names.module)
        if isinstance(node, ast.Call) and names.sdk_name(node.func) == "init_logger" and _flushes_itself(node)
    ]
    if found and has_spans(names) and not flushes(names.module, names) and not is_guarded(names):
        yield from (Problem(node, "TG004", "nothing in this module flushes its spans") for node in found)


def _flushes_itself(call: ast.Call) -> bool:
    return any(
        keyword.arg == "async_flush" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in call.keywords
    )


def import_problems(names: Names) -> Iterator[Problem]:
    """TG005: spans that are logged while a server that forks later imports the module."""
    server = _server_of(names)
    if server is None or is_guarded(names):
        return
    for node in _at_import(names.module.body):
        if opens_span(node, names) and isinstance(node, ast.expr):
            yield Problem(node, "TG005", f"{server} imports this module and forks afterwards")


def _server_of(names: Names) -> str | None:
    if PurePath(names.file).name in _GUNICORN_FILES or "gunicorn" in names.roots:
        return "gunicorn"
    if {"uwsgi", "uwsgidecorators"} & names.roots:
        return "uWSGI"
    if "functions_framework" in names.roots:
        return "functions-framework"
    made = (names.dotted(node.func) for node in walk_own(names.module) if isinstance(node, ast.Call))
    return "Celery" if any(name in ("celery.Celery", "celery.app.Celery") for name in made) else None


def _at_import(statements: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """The nodes that run at import, without those of a script's own block."""
    for statement in statements:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test):
            continue
        yield from walk_own(statement)


def exit_problems(names: Names) -> Iterator[Problem]:
    """TG006: `os._exit()` behind spans, or in a signal handler of a module with spans."""
    if is_guarded(names):
        return
    for node in ast.walk(names.module):
        if isinstance(node, ast.Call) and names.dotted(node.func) == "os._exit":
            scope = names.scope_of(node)
            within = sorted(
                (one for one in walk_own(scope) if isinstance(one, ast.Call) and one.lineno <= node.lineno),
                key=lambda one: (one.lineno, one.col_offset),
            )
            if _owes_flush(within, names):
                yield Problem(node, "TG006", "spans were opened before, and nothing flushes them")
            elif _is_signal_handler(scope, names) and has_spans(names) and not flushes(scope, names):
                yield Problem(node, "TG006", "this signal handler ends the process while spans may be open")


def _owes_flush(calls: Iterable[ast.Call], names: Names) -> bool:
    owed = False
    for call in calls:
        if names.dotted(call.func) == "os.fork" or flushes(call, names):
            owed = False  # the child of a fork has its own spans
        elif opens_span(call, names):
            owed = True
    return owed


def _is_signal_handler(scope: ast.AST, names: Names) -> bool:
    if not isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    return any(
        isinstance(node, ast.Call) and names.dotted(node.func) == "signal.signal" and len(node.args) == 2
        and isinstance(node.args[1], ast.Name) and _same(names, node.args[1], scope)
        for node in ast.walk(names.module)
    )


def _same(names: Names, name: ast.Name, function: Function) -> bool:
    return names.function_named(name.id, names.scope_of(name)) is function


