"""TG007: spans that are ended in a thread that nobody waits for."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .names import SPAN, Function, Names, last_name, walk_own
from .rules import Problem
from .spans import enders_of

__all__ = ["thread_problems"]

_WAITS = ("as_completed", "join", "gather", "result", "shutdown", "wait", "wait_for", "run_in_executor")


def thread_problems(names: Names) -> Iterator[Problem]:
    """A problem for each start of a thread that is to end a span of the function that starts it."""
    for node in ast.walk(names.module):
        if isinstance(node, ast.Call):
            target, arguments = _work_of(node, names)
            if target is not None and not _has_owner(node, names):
                for name in _ended_by(target, arguments, node, names):
                    yield Problem(node, "TG007", f"the thread is to end the span {name!r}, and nothing waits for it")


def _work_of(call: ast.Call, names: Names) -> tuple[Function | None, list[ast.expr]]:
    """The function of this module that a call starts a thread for, and its arguments."""
    if names.dotted(call.func) in ("threading.Thread", "threading.Timer"):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        at = 1 if last_name(call) == "Timer" else 5
        target = given.get("target") or given.get("function") or (call.args[1] if len(call.args) > 1 else None)
        passed = given.get("args") or (call.args[at + 1] if len(call.args) > at + 1 else None)
        arguments = list(passed.elts) if isinstance(passed, (ast.Tuple, ast.List)) else []
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "submit" and call.args:
        target, arguments = call.args[0], list(call.args[1:])
    else:
        return None, []
    if not isinstance(target, ast.Name):
        return None, []
    return names.function_named(target.id, names.scope_of(call)), arguments


def _has_owner(call: ast.Call, names: Names) -> bool:
    """Something waits for the thread, or holds it so that it can."""
    scope, parent = names.scope_of(call), names.parents[call]
    if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Name):
        held = parent.targets[0].id
        users = [
            names.parents[node] for node in walk_own(scope)
            if isinstance(node, ast.Name) and node.id == held and isinstance(node.ctx, ast.Load)
        ]
        if not all(isinstance(user, ast.Attribute) for user in users):
            return True
    elif not isinstance(parent, (ast.Expr, ast.Attribute)):
        return True
    if isinstance(call.func, ast.Attribute) and any(
        isinstance(node, ast.withitem) and node.optional_vars is not None
        and ast.dump(node.optional_vars).replace("Store", "Load") == ast.dump(call.func.value)
        for node in walk_own(scope)
    ):
        return True  # the end of `with` waits for the executor
    return any(isinstance(node, ast.Call) and last_name(node) in _WAITS for node in walk_own(scope))


def _ended_by(target: Function, arguments: list[ast.expr], call: ast.Call, names: Names) -> Iterator[str]:
    scope = names.scope_of(call)
    own = {
        node.id for node in walk_own(scope) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        and isinstance(names.parents[node], ast.Assign) and names.kind(_value(names.parents[node])) == SPAN
    }
    ended_here = {
        node.func.value.id for node in walk_own(scope)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and last_name(node) in ("end", "close")
        and isinstance(node.func.value, ast.Name)
    }
    parameters = [*target.args.posonlyargs, *target.args.args]
    for parameter, argument in zip(parameters, arguments, strict=False):
        if isinstance(argument, ast.Name) and argument.id in own - ended_here and enders_of(parameter.arg, target):
            yield argument.id
    for name in sorted(own - ended_here - {parameter.arg for parameter in parameters}):
        if names.scope_of(target) is scope and enders_of(name, target):
            yield name


def _value(node: ast.AST) -> ast.expr | None:
    return node.value if isinstance(node, ast.Assign) else None
