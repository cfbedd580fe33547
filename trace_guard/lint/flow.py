"""Follows one obligation, such as a span that must be ended, along all paths of a function.

A state is the set of what may be true at a point: nothing is owed yet, something is owed, it is settled. What is owed
remembers the first jump that left the normal path. The tracking is by paths, not by values: it never runs code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias

__all__ = ["DONE", "NONE", "Duty", "Open", "State", "follow"]


class Open(NamedTuple):
    """It is owed. ``jump`` is the first statement that left the normal path; ``how`` names its kind."""

    jump: ast.stmt | None = None
    how: str = ""


NONE, DONE = "none", "done"
State: TypeAlias = frozenset[str | Open]
_NOWHERE: State = frozenset()


class Duty(Protocol):
    """What is owed in a function, and what settles it."""

    def starts(self, statement: ast.stmt) -> State | None:
        """The state behind the statement if it begins the duty, else None."""

    def begins(self, part: ast.AST) -> bool:
        """The statement, or the head of a compound one, begins the duty, and a body of it may settle it."""

    def settles(self, part: ast.AST) -> bool:
        """The statement, or the head of a compound one, settles the duty or hands it on."""

    def forgets(self, statement: ast.stmt) -> bool:
        """The statement gives the name that stands for the duty to something else."""

    def raises(self, part: ast.AST) -> bool:
        """The statement, or the head of a compound one, can raise an exception that counts."""

    def decides(self, test: ast.expr) -> tuple[bool, bool]:
        """Whether the duty can be owed in the body, and in the `else`, of an `if` with this test."""

    def ends_within(self, statements: list[ast.stmt]) -> bool:
        """Something among these statements settles the duty, under a condition or not."""


class Outcome(NamedTuple):
    """The states in which a block is left, by the way in which it is left."""

    normal: State
    raised: State = _NOWHERE
    returned: State = _NOWHERE
    broken: State = _NOWHERE
    continued: State = _NOWHERE


def follow(body: list[ast.stmt], duty: Duty, state: State) -> tuple[Outcome, State]:
    """How a body is left, and what was owed when the duty began again."""
    following = _Following(duty)
    return following.block(body, state), following.lost


def _join(*states: State) -> State:
    """The union. Of the exceptions only the first in the source is kept."""
    tokens = frozenset[str | Open]().union(*states)
    raised = sorted(
        (token for token in tokens if isinstance(token, Open) and token.how == "exception"),
        key=lambda token: token.jump.lineno if token.jump is not None else 0,
    )
    return tokens - frozenset(raised[1:])


def _left_by(state: State, jump: ast.stmt, how: str) -> State:
    return _join(frozenset(Open(jump, how) if token == Open() else token for token in state))


def _settled(state: State) -> State:
    return frozenset(DONE if isinstance(token, Open) else token for token in state)


class _Following:
    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self.lost: State = _NOWHERE

    def block(self, statements: Iterable[ast.stmt], state: State) -> Outcome:
        out = Outcome(state)
        for statement in statements:
            if not out.normal:
                break
            out = _after(out, self._statement(statement, out.normal))
        return out

    def _statement(self, statement: ast.stmt, state: State) -> Outcome:
        duty = self._duty
        started = duty.starts(statement)
        if started is not None:
            self.lost = _join(self.lost, frozenset(token for token in state if isinstance(token, Open)))
            return Outcome(started, frozenset(token for token in state if not isinstance(token, Open)))
        if isinstance(statement, ast.If):
            return self._if(statement, state)
        if isinstance(statement, (ast.For, ast.AsyncFor, ast.While)):
            return self._loop(statement, state)
        if isinstance(statement, ast.Try) or type(statement).__name__ == "TryStar":
            return self._try(statement, state)  # type: ignore[arg-type]
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            return self._with(statement, state)
        if isinstance(statement, ast.Match):
            return self._match(statement, state)
        return self._simple(statement, state)

    def _simple(self, statement: ast.stmt, state: State) -> Outcome:
        after, raised = self._evaluated(statement, statement, state)
        if self._duty.forgets(statement):
            after = _left_by(after, statement, "assignment")
            self.lost = _join(self.lost, frozenset(token for token in after if isinstance(token, Open)))
            after = frozenset(NONE if isinstance(token, Open) else token for token in after)
        if isinstance(statement, ast.Return):
            return Outcome(_NOWHERE, raised, _left_by(after, statement, "return"))
        if isinstance(statement, ast.Raise):
            return Outcome(_NOWHERE, _join(raised, _left_by(after, statement, "raise")))
        if isinstance(statement, ast.Break):
            return Outcome(_NOWHERE, broken=_left_by(after, statement, "break"))
        if isinstance(statement, ast.Continue):
            return Outcome(_NOWHERE, continued=_left_by(after, statement, "continue"))
        return Outcome(after, raised)

    def _evaluated(self, part: ast.AST, statement: ast.stmt, state: State) -> tuple[State, State]:
        """The states behind a statement or an expression, and where it raises."""
        if self._duty.settles(part):
            return _settled(state), _NOWHERE
        if self._duty.begins(part):
            state = frozenset({Open()})
        raised = _left_by(state, statement, "exception") if self._duty.raises(part) else _NOWHERE
        return state, raised

    def _if(self, statement: ast.If, state: State) -> Outcome:
        state, raised = self._evaluated(statement.test, statement, state)
        in_body, in_else = self._duty.decides(statement.test)
        body = self.block(statement.body, _unless(in_body, state))
        other = self.block(statement.orelse, _unless(in_else, state))
        return _either(Outcome(_NOWHERE, raised), body, other)

    def _loop(self, statement: ast.For | ast.AsyncFor | ast.While, state: State) -> Outcome:
        endless = isinstance(statement, ast.While) and isinstance(statement.test, ast.Constant) and statement.test.value
        head = statement.test if isinstance(statement, ast.While) else statement.iter
        state, raised = self._evaluated(head, statement, state)
        if isinstance(statement, ast.AsyncFor):
            raised = _join(raised, _left_by(state, statement, "exception"))
        body = Outcome(_NOWHERE)
        while True:
            body = self.block(statement.body, state)
            again = _join(state, body.normal, body.continued)
            if again == state:
                break
            state = again
        other = self.block(statement.orelse, _NOWHERE if endless else state)
        return Outcome(
            _join(body.broken, other.normal), _join(raised, body.raised, other.raised),
            _join(body.returned, other.returned), other.broken, other.continued,
        )

    def _try(self, statement: ast.Try, state: State) -> Outcome:
        body = self.block(statement.body, state)
        other = self.block(statement.orelse, body.normal)
        caught = [self._handler(handler, body.raised) for handler in statement.handlers]
        all_caught = any(_catches_all(handler.type) for handler in statement.handlers)
        left = Outcome(
            other.normal, _join(_NOWHERE if all_caught else body.raised, other.raised),
            _join(body.returned, other.returned), _join(body.broken, other.broken),
            _join(body.continued, other.continued),
        )
        return self._finally(statement, _either(left, *caught))

    def _handler(self, handler: ast.ExceptHandler, state: State) -> Outcome:
        out = self.block(handler.body, state)
        if not self._duty.ends_within(handler.body):
            return out
        # It settles the duty. That something before it raises, such as a log, is too unlikely to report.
        return out._replace(raised=frozenset(
            token for token in out.raised if not (isinstance(token, Open) and token.how == "exception")
        ))

    def _finally(self, statement: ast.Try, left: Outcome) -> Outcome:
        if not statement.finalbody:
            return left
        if self._duty.ends_within(statement.finalbody):
            # Under a condition of its own, such as `if not ended:`, which is taken as right.
            return Outcome(*map(_settled, left))
        ends = [self.block(statement.finalbody, state) for state in left]
        own = _either(*(end._replace(normal=_NOWHERE) for end in ends))
        return _either(Outcome(*(end.normal for end in ends)), own)

    def _with(self, statement: ast.With | ast.AsyncWith, state: State) -> Outcome:
        raised: State = _NOWHERE
        for item in statement.items:
            state, more = self._evaluated(item.context_expr, statement, state)
            raised = _join(raised, more)
        body = self.block(statement.body, state)
        if any(_suppresses(item.context_expr) for item in statement.items):
            body = body._replace(normal=_join(body.normal, body.raised), raised=_NOWHERE)
        return _either(Outcome(_NOWHERE, raised), body)

    def _match(self, statement: ast.Match, state: State) -> Outcome:
        state, raised = self._evaluated(statement.subject, statement, state)
        cases = [self.block(case.body, state) for case in statement.cases]
        last = statement.cases[-1]
        complete = last.guard is None and isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
        return _either(Outcome(_NOWHERE if complete else state, raised), *cases)


def _after(first: Outcome, second: Outcome) -> Outcome:
    return Outcome(second.normal, *(_join(one, two) for one, two in zip(first[1:], second[1:], strict=True)))


def _either(*outcomes: Outcome) -> Outcome:
    return Outcome(*(_join(*states) for states in zip(*outcomes, strict=True)))


def _unless(owed: bool, state: State) -> State:
    return state if owed else frozenset(token for token in state if not isinstance(token, Open))


def _catches_all(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(one, ast.Name) and one.id in ("Exception", "BaseException") for one in kinds)


def _suppresses(context: ast.expr) -> bool:
    if not isinstance(context, ast.Call):
        return False
    name = context.func.attr if isinstance(context.func, ast.Attribute) else getattr(context.func, "id", "")
    return name in ("suppress", "raises", "assertRaises", "assertRaisesRegex")
