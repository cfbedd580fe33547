"""Checks one module."""

from __future__ import annotations

import ast
import re
import warnings

from .fixable import end_to_join
from .handlers import handler_problems
from .names import Names
from .process import exit_problems, flush_problems, import_problems
from .rules import Finding, Problem
from .sources import Silenced, decoded, is_candidate
from .spans import span_problems
from .threads import thread_problems

__all__ = ["Unreadable", "check"]

_RULES = (span_problems, handler_problems, flush_problems, import_problems, exit_problems, thread_problems)


class Unreadable(Exception):
    """The file is not Python that this interpreter can read. The text says why."""


def check(data: bytes, file: str) -> list[Finding]:
    """The findings in a module, in the order of the source, without those that comments silence.

    Args:
        data: the source as it is in the file.
        file: its name, for the findings.

    Raises:
        Unreadable: it can't be parsed.
    """
    if not is_candidate(data):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code that is read
            module = ast.parse(data)
        text = decoded(data)
        names = Names(module, file)
        problems = [problem for rule in _RULES for problem in rule(names)]
    except SyntaxError as error:
        raise Unreadable(f"line {error.lineno or 1}: {error.msg}") from error
    except ValueError as error:  # null bytes, bytes that are invalid in the encoding
        raise Unreadable(str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise Unreadable("it is nested too deeply") from error
    silenced, lines = Silenced(text), re.split(r"\r\n|\r|\n", text)
    findings = [
        _finding(problem, file, lines, names) for problem in problems if not _is_silenced(problem, silenced, names)
    ]
    # Of spans that are started in one chain of calls, `a.start_span().start_span()`, one is enough.
    findings = list({(finding.line, finding.column, finding.code): finding for finding in findings}.values())
    return sorted(findings, key=lambda finding: (finding.line, finding.column, finding.code))


def _is_silenced(problem: Problem, silenced: Silenced, names: Names) -> bool:
    node = problem.node
    if isinstance(node, ast.stmt):
        return silenced.has(problem.code, node.lineno, node.lineno)
    first = names.statement_of(node).lineno
    return silenced.has(problem.code, min(first, node.lineno), node.end_lineno or node.lineno)


def _finding(problem: Problem, file: str, lines: list[str], names: Names) -> Finding:
    node = problem.node
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        end_line, end_column = node.lineno, len(lines[node.lineno - 1].encode())
    joined = end_to_join(node, names) if isinstance(node, ast.Call) and problem.code in ("TG001", "TG002") else None
    return Finding(
        file, node.lineno, _column(lines, node.lineno, node.col_offset), end_line, _column(lines, end_line, end_column),
        problem.code, problem.message, joined.lineno if joined is not None else 0,
    )


def _column(lines: list[str], line: int, offset: int) -> int:
    """The column of a character by its offset in bytes of UTF-8."""
    if line > len(lines):
        return offset + 1
    return len(lines[line - 1].encode()[:offset].decode(errors="ignore")) + 1
