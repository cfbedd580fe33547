"""Where a module traces, where it flushes, and whether trace-guard guards it."""

from __future__ import annotations

import ast

from .names import SPAN, STARTER, Function, Names, last_name

__all__ = ["flushes", "has_spans", "is_guarded", "opens_span"]

_GUARDS = ("Guard", "GuardMiddleware", "guard_app", "guard_handler", "guard_job", "watch")
_NO_SDK = ("stdout", "stderr", "sys", "file", "handle", "handler", "writer")
_WRAPPERS = ("auto_instrument", "traced", "wrap_anthropic", "wrap_litellm", "wrap_openai")
# A function that calls a function that calls a function.
_DEPTH = 3


def opens_span(node: ast.AST, names: Names, depth: int = 0) -> bool:
    """The node is a call that opens a span: directly, with a traced function, or in a function of the module."""
    if not isinstance(node, ast.Call):
        return False
    if names.is_start(node):
        return True
    if last_name(node) == "log" and isinstance(node.func, ast.Attribute) and names.kind(node.func.value) == STARTER:
        return True
    function = names.function_of(node)
    if function is None or depth > _DEPTH:
        return False
    if any(names.sdk_name(_called(decorator)) == "traced" for decorator in function.decorator_list):
        return True
    return any(opens_span(inner, names, depth + 1) for inner in ast.walk(function))


def has_spans(names: Names) -> bool:
    """The module opens spans, or has them opened by wrappers of the SDK."""
    return any(
        names.is_start(node) or (isinstance(node, (ast.Name, ast.Attribute)) and names.sdk_name(node) in _WRAPPERS)
        for node in ast.walk(names.module)
    )


def flushes(part: ast.AST, names: Names, depth: int = 0) -> bool:
    """Something within flushes the SDK, or calls a function that does."""
    return any(_is_flush(node, names, depth) for node in ast.walk(part))


def _is_flush(node: ast.AST, names: Names, depth: int) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == "flush":
        # Also where it is handed on: `atexit.register(logger.flush)`.
        return last_name(node.value) not in _NO_SDK or names.kind(node.value) in (SPAN, STARTER)
    if not isinstance(node, ast.Call):
        return False
    if "flush" in last_name(node) and last_name(node) != "flush":
        return True  # of a name such as `flush_traces`, from elsewhere
    if names.sdk_name(node.func) == "flush":
        return True
    function = names.function_of(node)
    return function is not None and depth <= _DEPTH and flushes(function, names, depth + 1)


def is_guarded(names: Names, function: Function | None = None) -> bool:
    """trace-guard guards the module, or at least this function of it."""
    if function is not None and any(last_name(decorator) in _GUARDS for decorator in function.decorator_list):
        return True
    decorators = {id(decorator) for one in names.functions for decorator in one.decorator_list}
    return any(
        last_name(node) in _GUARDS and (function is None or (isinstance(node, ast.Call) and id(node) not in decorators))
        for node in ast.walk(names.module) if isinstance(node, (ast.Call, ast.Name, ast.Attribute))
    )


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node
