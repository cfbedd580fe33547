"""The rules, and what a finding says. ``docs/lint.md`` has a section for each code."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

__all__ = ["RULES", "Finding", "Problem", "Rule"]


class Rule(NamedTuple):
    """A pattern that leaves traces in progress or loses them.

    Attributes:
        code: never changes, and is never used for another rule.
        name: a short name for tools.
        summary: one line.
        why: what goes wrong.
        fix: what to do.
    """

    code: str
    name: str
    summary: str
    why: str
    fix: str


RULES = {rule.code: rule for rule in (
    Rule(
        "TG001", "span-without-with", "a span is started without `with` or `finally: end()`",
        "a span that is never ended, or whose code raises before `end()`, stays in progress in Braintrust forever",
        "use `with ...start_span(...) as span:`, or call `span.end()` in `finally`",
    ),
    Rule(
        "TG002", "skipped-end", "a `return`, `raise`, `continue`, `break` or caught exception skips `end()`",
        "on that path the span stays in progress in Braintrust forever",
        "use `with ...start_span(...) as span:`, or call `span.end()` in `finally`",
    ),
    Rule(
        "TG003", "handler-without-flush", "a serverless handler does not flush in `finally`",
        "the platform freezes the process after the response, so rows that were not flushed arrive late or never",
        "decorate the handler with trace-guard's `guard_handler`, or call `braintrust.flush()` in `finally`",
    ),
    Rule(
        "TG004", "async-flush-relied-on", "`init_logger(async_flush=False)` is relied on for spans",
        "`async_flush=False` flushes after `logger.log()` only; spans are still sent by a background thread",
        "call `braintrust.flush()` in `finally`, or guard the handler with trace-guard",
    ),
    Rule(
        "TG005", "span-at-import", "a span is logged at import in a pre-fork server",
        "the server imports the module, then forks; `flush()` in a worker can wait forever for a thread of its parent",
        "log spans in requests or tasks only, or guard the app with trace-guard, which repairs the SDK after a fork",
    ),
    Rule(
        "TG006", "exit-without-flush", "`os._exit()` ends the process without a flush",
        "`os._exit()` skips `finally` blocks and the SDK's flush at exit: open spans stay open, queued rows are lost",
        "end and flush first, or use `sys.exit()`",
    ),
    Rule(
        "TG007", "span-ended-in-thread", "a span is ended in a thread that nobody waits for",
        "a thread that is still running when its process ends or freezes never reaches `end()`",
        "wait for the thread (`join()`, `result()`) in `finally`, or end the span where it was started",
    ),
)}


class Problem(NamedTuple):
    """A finding before it has a file."""

    node: ast.expr | ast.stmt
    code: str
    message: str


class Finding(NamedTuple):
    """What a rule has found. Lines and columns begin at 1; ``end_column`` is behind the last character.

    Attributes:
        joined_line: the line of the `end()` that ``--fix`` replaces by a `with`; 0 if it can't.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    code: str
    message: str
    joined_line: int = 0

    @property
    def fixable(self) -> bool:
        """``--fix`` can mend it."""
        return self.joined_line > 0

    @property
    def rule(self) -> Rule:
        return RULES[self.code]

    def to_json(self) -> dict[str, Any]:
        fields = {name: value for name, value in self._asdict().items() if name != "joined_line"}
        return {**fields, "fixable": self.fixable, "name": self.rule.name, "why": self.rule.why, "fix": self.rule.fix}
