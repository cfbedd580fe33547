"""Which spans `--fix` can put into a ``with``: one start and one end in one block, and nothing that changes meaning."""

from __future__ import annotations

import ast

from .names import Names, last_name
from .spans import enders_of
from .tracing import opens_span

__all__ = ["end_to_join"]

# libcst's parser is recursive, in native code.
_DEPTH = 100
_CURRENT = ("set_current", "unset_current")


def end_to_join(call: ast.Call, names: Names) -> ast.stmt | None:
    """The statement ``span.end()`` that ends the block to indent below ``with ... as span:``, or None."""
    start, scope = names.parents[call], names.scope_of(call)
    if not isinstance(start, ast.Assign) or len(start.targets) != 1 or not isinstance(start.targets[0], ast.Name):
        return None
    if isinstance(scope, (ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
        return None
    name = start.targets[0].id
    ends = enders_of(name, scope)
    block = _block_of(start, names)
    if len(ends) != 1 or ends[0].args or ends[0].keywords or last_name(ends[0]) == "__exit__":
        return None
    end = names.parents[ends[0]]
    if not isinstance(end, ast.Expr) or end not in block or block.index(end) < block.index(start):
        return None
    body = block[block.index(start) + 1 : block.index(end)]
    if not body or not _stands_alone(start, block) or not _stands_alone(end, block):
        return None
    is_current = not any(
        keyword.arg == "set_current" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in call.keywords
    )
    if any(_forbids(node, name, is_current, names) for statement in body for node in ast.walk(statement)):
        return None
    return end if _depth(names.module) <= _DEPTH else None


def _block_of(statement: ast.stmt, names: Names) -> list[ast.stmt]:
    parent = names.parents[statement]
    for _, value in ast.iter_fields(parent):
        if isinstance(value, list) and statement in value:
            return value
    return []


def _stands_alone(statement: ast.stmt, block: list[ast.stmt]) -> bool:
    """No other statement is on its lines: none behind a semicolon, and no `if` before it."""
    own = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    others = [other for other in block if other is not statement]
    return not any(other.lineno in own or (other.end_lineno or other.lineno) in own for other in others)


def _forbids(node: ast.AST, name: str, is_current: bool, names: Names) -> bool:
    if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncFor, ast.AsyncWith, ast.Global, ast.Nonlocal)):
        return True
    if isinstance(node, ast.Try) and node.finalbody:
        return True
    if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
        return True
    if isinstance(node, ast.Call) and last_name(node) in _CURRENT:
        return True
    # Below `with` the span is the current one, and so the parent of spans that name none.
    return is_current and opens_span(node, names) and not _is_child(node, name)


def _is_child(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "start_span"
        and isinstance(node.func.value, ast.Name) and node.func.value.id == name
    )


def _depth(module: ast.Module) -> int:
    level: list[ast.AST] = [module]
    depth = 0
    while level and depth <= _DEPTH:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth
