"""``--fix``: puts spans into ``with``, and keeps comments and formatting. Needs ``libcst`` (extra ``lint``)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path

import libcst
from libcst.metadata import MetadataWrapper, PositionProvider

from .check import Unreadable, check
from .rules import Finding

__all__ = ["fixed", "write"]


def fixed(data: bytes, file: str, codes: Container[str]) -> tuple[bytes, int]:
    """The source with its fixable findings mended, and how many they are.

    Each step is checked: what does not parse, or still has its finding, is left as it was.
    """
    count, left_alone = 0, 0
    while True:
        findings = [finding for finding in check(data, file) if finding.fixable and finding.code in codes]
        if len(findings) <= left_alone:
            return data, count
        # From the last one up, so that what is left alone does not move.
        step = _with_span(data, findings[-1 - left_alone])
        if step is None or not _is_better(step, data, file):
            left_alone += 1
            continue
        data, count = step, count + 1


def write(path: Path, data: bytes) -> None:
    """Replace a file at once, with its mode. A link stays a link."""
    target = os.path.realpath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".trace-guard-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _is_better(step: bytes, data: bytes, file: str) -> bool:
    try:
        return len(check(step, file)) < len(check(data, file))
    except Unreadable:
        return False


def _with_span(data: bytes, finding: Finding) -> bytes | None:
    try:
        module = libcst.parse_module(data)
    except (libcst.ParserSyntaxError, UnicodeDecodeError):
        return None
    if module.bytes != data:
        return None  # a spelling, such as a byte order mark, that libcst does not keep
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    found = _Block(positions, finding.line, finding.joined_line)
    module.visit(found)
    if found.block is None:
        return None
    old = found.block.body
    new = [*old[: found.start], _with(old[found.start : found.end + 1]), *old[found.end + 1 :]]
    return libcst.ensure_type(module.deep_replace(found.block, found.block.with_changes(body=new)), libcst.Module).bytes


class _Block(libcst.CSTVisitor):
    """Finds the block with the statements that begin on two lines."""

    def __init__(self, positions: object, start_line: int, end_line: int) -> None:
        super().__init__()
        self._positions = positions
        self._lines = (start_line, end_line)
        self.block: libcst.Module | libcst.IndentedBlock | None = None
        self.start = self.end = 0

    def visit_Module(self, node: libcst.Module) -> None:
        self._look(node)

    def visit_IndentedBlock(self, node: libcst.IndentedBlock) -> None:
        self._look(node)

    def _look(self, block: libcst.Module | libcst.IndentedBlock) -> None:
        at = {self._positions[one].start.line: place for place, one in enumerate(block.body)}  # type: ignore[index]
        if all(line in at for line in self._lines):
            self.block, (self.start, self.end) = block, (at[line] for line in self._lines)


def _with(statements: Sequence[libcst.BaseStatement]) -> libcst.With:
    """``span = start_span()``, statements and ``span.end()`` as one ``with``."""
    first, last = statements[0], statements[-1]
    assert isinstance(first, libcst.SimpleStatementLine)
    assert isinstance(last, libcst.SimpleStatementLine)
    start = libcst.ensure_type(first.body[0], libcst.Assign)
    item = libcst.WithItem(start.value, libcst.AsName(libcst.ensure_type(start.targets[0].target, libcst.Name)))
    footer = list(last.leading_lines)
    if last.trailing_whitespace.comment is not None:
        footer.append(libcst.EmptyLine(comment=last.trailing_whitespace.comment))
    while footer and footer[-1].comment is None:
        footer.pop()
    body = libcst.IndentedBlock(statements[1:-1], header=first.trailing_whitespace, footer=footer)
    return libcst.With([item], body, leading_lines=first.leading_lines)
