"""TG001 and TG002: spans that nothing ends, or that are not ended on every path."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .flow import NONE, Open, Outcome, State, follow
from .names import Function, Names, last_name, walk_own
from .rules import Problem

__all__ = ["enders_of", "span_problems"]

_ENDS = ("end", "close", "__exit__")
_HARMLESS = frozenset((
    "bool", "dict", "float", "getattr", "hasattr", "id", "int", "isinstance", "len", "list", "print", "repr", "str",
    "type",
))
"""Functions that neither keep their arguments nor raise in practice."""
_PARENTS = ("parent", "parent_span", "root_span")
_RESUMES = ("contextmanager", "asynccontextmanager", "fixture")
_Body = ast.Module | Function | ast.ClassDef | ast.Lambda


def span_problems(names: Names) -> Iterator[Problem]:
    """A problem for each span of the module that its code can leave open."""
    for node in ast.walk(names.module):
        if isinstance(node, ast.Call) and names.is_start(node):
            yield from _of_span(node, names)


def _of_span(call: ast.Call, names: Names) -> Iterator[Problem]:
    value: ast.expr = call
    while True:
        parent = names.parents[value]
        if isinstance(parent, ast.Attribute):
            user = names.parents[parent]
            called = isinstance(user, ast.Call) and user.func is parent
            if called and parent.attr == "__enter__":
                assert isinstance(user, ast.expr)
                value = user
                continue
            if called and parent.attr in _ENDS:
                return
            yield Problem(call, "TG001", "nothing holds this span, so nothing can end it")
            return
        if not isinstance(parent, (ast.IfExp, ast.BoolOp)) or value is getattr(parent, "test", None):
            break
        value = parent
    if isinstance(parent, ast.Expr):
        yield Problem(call, "TG001", "nothing holds this span, so nothing can end it")
    name = _name_of(value, parent)
    scope = names.scope_of(call)
    if name is None or isinstance(scope, (ast.Lambda, ast.ClassDef)) or _is_shared(name, scope):
        return
    yield from _of_name(name, call, value, scope, names)


def _name_of(value: ast.expr, parent: ast.AST) -> str | None:
    """The only name that holds the span; None if something else holds it too."""
    if isinstance(parent, ast.Assign) and len(parent.targets) == 1 and isinstance(parent.targets[0], ast.Name):
        return parent.targets[0].id
    if isinstance(parent, (ast.AnnAssign, ast.NamedExpr)) and isinstance(parent.target, ast.Name):
        return parent.target.id
    return None


def _is_shared(name: str, scope: _Body) -> bool:
    return any(isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names for node in ast.walk(scope))


def _of_name(
    name: str, call: ast.Call, value: ast.expr, scope: ast.Module | Function, names: Names
) -> Iterator[Problem]:
    statement = names.statement_of(call)
    duty = _SpanDuty(name, statement, value, scope, names)
    left, lost = follow(scope.body, duty, frozenset({NONE}))
    owed = [token for token in _all_owed(left, lost) if not (duty.protected and token.how == "exception")]
    ends = duty.end_lines()
    if not ends and all(token.how == "exception" for token in owed):
        return  # it is handed on, and was not before an exception
    if not ends:
        yield Problem(call, "TG001", f"nothing ends the span {name!r}")
        return
    if not owed:
        return
    jumps = [token for token in owed if token.how not in ("", "exception")]
    caught = [token for token in _all_owed(left._replace(raised=frozenset()), lost) if token.how == "exception"]
    where = f"`{name}.{ends[0][1]}` on line {ends[0][0]}"
    if jumps:
        first = min(jumps, key=lambda token: token.jump.lineno if token.jump else 0)
        how = first.how if first.how == "assignment" else f"`{first.how}`"
        yield Problem(call, "TG002", f"the {how} on line {_line(first)} skips {where}")
    elif caught:
        yield Problem(call, "TG002", f"an exception on line {_line(caught[0])} is caught and skips {where}")
    elif any(token.how == "exception" for token in owed):
        token = next(token for token in owed if token.how == "exception")
        yield Problem(call, "TG001", f"an exception on line {_line(token)} skips {where}")
    else:
        yield Problem(call, "TG002", f"not every path reaches {where}")


def _all_owed(left: Outcome, lost: State) -> list[Open]:
    tokens = frozenset[str | Open]().union(*left, lost)
    return sorted((token for token in tokens if isinstance(token, Open)), key=_line)


def _line(token: Open) -> int:
    return token.jump.lineno if token.jump is not None else 0


class _SpanDuty:
    """A span in a local variable has to be ended."""

    def __init__(
        self, name: str, statement: ast.stmt, value: ast.expr, scope: ast.Module | Function, names: Names
    ) -> None:
        self._name = name
        self._statement = statement
        self._value = value
        self._scope = scope
        self._names = names
        self._conditions = set(self._conditions_of(statement))
        tries = [node for node in walk_own(scope) if isinstance(node, ast.Try)]
        self.protected = any(self.ends_within(node.finalbody) for node in tries) or any(
            isinstance(node, (ast.With, ast.AsyncWith)) and any(self.settles(item.context_expr) for item in node.items)
            for node in walk_own(scope)
        )
        handled = [node for node in tries if any(self.ends_within(handler.body) for handler in node.handlers)]
        # The author has thought of exceptions from this line on.
        self._handled_from = min((node.lineno for node in handled), default=0)
        resumed = isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(
            last_name(decorator) in _RESUMES for decorator in scope.decorator_list
        )
        # The code of a context manager goes on behind `yield`; other generators hand the span to their caller.
        self._keeps_yielded = resumed and bool(self.end_lines())

    def end_lines(self) -> list[tuple[int, str]]:
        """The lines that end the span, each with the call: ``end()``."""
        return [
            (node.lineno, f"{node.func.attr}()") for node in walk_own(self._scope) if self._is_end(node)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]

    def starts(self, statement: ast.stmt) -> State | None:
        if statement is self._statement and not isinstance(statement, (ast.If, ast.While)):
            none = isinstance(self._value, (ast.IfExp, ast.BoolOp)) and self._may_be_none(self._value)
            return frozenset({Open(), NONE}) if none else frozenset({Open()})
        return None

    def settles(self, part: ast.AST) -> bool:
        if part is self._statement:
            return False
        # A function or a lambda can end the span later.
        return self._taken_within(part)

    def begins(self, part: ast.AST) -> bool:
        return False

    def forgets(self, statement: ast.stmt) -> bool:
        return isinstance(statement, ast.Assign) and any(self._is_name(target) for target in statement.targets)

    def raises(self, part: ast.AST) -> bool:
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        kinds = (ast.Await, ast.Yield, ast.YieldFrom)
        if self._handled_from:
            first: int = getattr(part, "lineno", 0)
            return first >= self._handled_from and any(
                isinstance(node, kinds) or self._calls_out(node) for node in (part, *walk_own(part))
            )
        more = (*kinds, ast.Call, ast.Subscript, ast.Import, ast.ImportFrom, ast.Assert)
        return any(isinstance(node, more) for node in (part, *walk_own(part)))

    def decides(self, test: ast.expr) -> tuple[bool, bool]:
        if ast.dump(test) in self._conditions:
            return True, False
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            body, other = self.decides(test.operand)
            return other, body
        if isinstance(test, ast.BoolOp):
            decided = [self.decides(value) for value in test.values]
            if isinstance(test.op, ast.And):
                return all(body for body, _ in decided), any(other for _, other in decided)
            return any(body for body, _ in decided), all(other for _, other in decided)
        if isinstance(test, ast.Name) and test.id == self._name:
            return True, False
        if isinstance(test, ast.Compare) and self._is_name(test.left) and len(test.ops) == 1:
            against = test.comparators[0]
            if last_name(against) == "NOOP_SPAN" or (isinstance(against, ast.Constant) and against.value is None):
                no_span = isinstance(test.ops[0], (ast.Is, ast.Eq))
                return not no_span, no_span
        if isinstance(test, ast.Call) and last_name(test.func) in ("hasattr", "isinstance", "callable") and test.args:
            return True, not self._is_name(test.args[0])
        return True, True

    def ends_within(self, statements: list[ast.stmt]) -> bool:
        return any(self._taken_within(statement) for statement in statements)

    def _taken_within(self, part: ast.AST) -> bool:
        return any(self._is_end(node) or self._hands_on(node) for node in ast.walk(part))

    def _conditions_of(self, statement: ast.stmt) -> Iterator[str]:
        inner: ast.AST = statement
        while inner is not self._scope:
            outer = self._names.parents[inner]
            if isinstance(outer, ast.If) and inner in outer.body:
                yield ast.dump(outer.test)
            inner = outer

    def _may_be_none(self, value: ast.expr) -> bool:
        if isinstance(value, ast.IfExp):
            return self._may_be_none(value.body) or self._may_be_none(value.orelse)
        return not (isinstance(value, ast.Call) and self._names.is_start(value))

    def _is_name(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == self._name

    def _is_end(self, node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ENDS
            and self._is_name(node.func.value)
        )

    def _hands_on(self, node: ast.AST) -> bool:
        """The span, or its method `end`, goes to somebody who can end it."""
        if isinstance(node, ast.Attribute) and node.attr in _ENDS and self._is_name(node.value):
            return not self._is_end(self._names.parents[node])
        if not self._is_name(node) or not isinstance(getattr(node, "ctx", None), ast.Load):
            return False
        parent = self._names.parents[node]
        if isinstance(parent, (ast.Attribute, ast.Compare, ast.FormattedValue, ast.UnaryOp, ast.Expr)):
            return False
        if isinstance(parent, (ast.If, ast.While, ast.IfExp, ast.Assert)):
            return isinstance(parent, ast.IfExp) and parent.test is not node
        if isinstance(parent, ast.BoolOp):
            # `span and span.end()` asks for the span; `span or other` hands it on.
            return isinstance(parent.op, ast.Or) and not isinstance(self._names.parents[parent], (ast.If, ast.While))
        if isinstance(parent, (ast.Yield, ast.YieldFrom)) and self._keeps_yielded:
            return False
        if isinstance(parent, ast.keyword):
            if parent.arg in _PARENTS:
                return False
            parent = self._names.parents[parent]
        if isinstance(parent, ast.Call):
            return not self._only_looks(parent, node)
        return True

    def _only_looks(self, call: ast.Call, argument: ast.AST) -> bool:
        """The function that is called with the span does not keep it."""
        if isinstance(call.func, ast.Name) and call.func.id in _HARMLESS:
            return True
        function = self._names.function_of(call)
        if function is None or argument not in call.args:
            return False
        given = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        if given[:1] == ["self"]:
            given = given[1:]
        at = call.args.index(argument)
        if at >= len(given) or function.args.vararg is not None:
            return False
        return not takes(function, given[at], self._names)

    def _calls_out(self, node: ast.AST) -> bool:
        """A call that can raise where the author has thought of exceptions: not one of the span itself or of a log."""
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute):
            return not (self._is_name(node.func.value) or node.func.attr in _QUIET)
        return not (isinstance(node.func, ast.Name) and node.func.id in _HARMLESS)


_QUIET = frozenset((
    "append", "debug", "error", "exception", "get", "info", "items", "keys", "log", "monotonic", "perf_counter",
    "strip", "time", "values", "warning",
))


def takes(function: Function, name: str, names: Names) -> bool:
    """The function ends a parameter, or hands it on to somebody who can."""
    duty = _SpanDuty(name, function, ast.Constant(None), function, names)
    return any(duty.settles(statement) or duty.ends_within([statement]) for statement in function.body)


def enders_of(name: str, scope: ast.Module | Function) -> list[ast.Call]:
    """The calls in a function or module that end the span of this name."""
    return [
        node for node in ast.walk(scope)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ENDS
        and isinstance(node.func.value, ast.Name) and node.func.value.id == name
    ]


