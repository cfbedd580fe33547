"""Says why a span is probably still open, from what is stored of its trace."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["Cause", "cause_of_trace", "causes"]


class Cause(enum.Enum):
    """Why a span is open. The value is the ``reason`` of its closing row."""

    NEVER_ENDED = "never_ended"
    """Its code has gone on without ending it."""
    CHILDREN_CLOSED = "children_closed"
    """All its children are closed, and it is not."""
    CHILD_ERROR = "child_error"
    """Its last child has ended with an exception, which has skipped the end of the span."""
    KILLED_IN_CALL = "killed_in_call"
    """Nothing came after the start of the innermost span: the process died, or was cut off, in this call."""
    START_ONLY = "start_only"
    """Only the start row of the trace has arrived."""

    @property
    def sentence(self) -> str:
        """The cause for a table."""
        return _SENTENCES[self]


_SENTENCES = {
    Cause.NEVER_ENDED: "never ended",
    Cause.CHILDREN_CLOSED: "parent open, all children closed",
    Cause.CHILD_ERROR: "ended by an exception in a child",
    Cause.KILLED_IN_CALL: "killed inside a call",
    Cause.START_ONLY: "start row only",
}


class _Node(Protocol):
    is_open: bool
    error: bool
    parents: list[str]
    children: list[str]
    start: float | None
    last: float
    depth: int


def causes(nodes: Mapping[str, _Node], logged: set[str]) -> dict[str, Cause]:
    """The likely cause of each open span.

    Args:
        nodes: the spans of one trace by ``span_id``, with their children.
        logged: those on which an output has been logged, by ``span_id``.
    """
    found: dict[str, Cause] = {}
    # Innermost first, as the cause of a span whose child is open is that of the child.
    for span_id, node in sorted(nodes.items(), key=lambda item: -item[1].depth):
        if node.is_open:
            found[span_id] = _cause(span_id, node, nodes, logged, found)
    return found


def _cause(
    span_id: str, node: _Node, nodes: Mapping[str, _Node], logged: set[str], below: Mapping[str, Cause]
) -> Cause:
    parents = [nodes[parent] for parent in node.parents if parent in nodes and parent != span_id]
    if any(not parent.is_open for parent in parents):
        return Cause.NEVER_ENDED
    open_children = [child for child in node.children if nodes[child].is_open]
    if open_children:
        last = max(open_children, key=lambda child: (nodes[child].start or 0.0, child))
        inner = below.get(last, Cause.KILLED_IN_CALL)
        # A child that was forgotten does not explain its parent, if the parent has gone on.
        return inner if inner is not Cause.NEVER_ENDED or not _went_on(node, last, nodes) else _own(node, nodes)
    if node.children:
        return _own(node, nodes)
    if span_id in logged or any(_went_on(parent, span_id, nodes) for parent in parents):
        return Cause.NEVER_ENDED
    return Cause.KILLED_IN_CALL if parents or len(nodes) > 1 else Cause.START_ONLY


def _went_on(parent: _Node, child: str, nodes: Mapping[str, _Node]) -> bool:
    """True if the parent began another child after this one."""
    started = nodes[child].start
    return started is not None and any(
        (nodes[other].start or 0.0) > started for other in parent.children if other != child
    )


def _own(node: _Node, nodes: Mapping[str, _Node]) -> Cause:
    """The cause of a span whose children do not explain it by being open."""
    closed = [nodes[child] for child in node.children if not nodes[child].is_open]
    if not closed:
        return Cause.NEVER_ENDED
    last = max(closed, key=lambda child: child.last)
    return Cause.CHILD_ERROR if last.error else Cause.CHILDREN_CLOSED


def cause_of_trace(found: Sequence[Cause]) -> Cause:
    """The cause of a trace from those of its open spans, innermost first."""
    for cause in (Cause.KILLED_IN_CALL, Cause.CHILD_ERROR):
        if cause in found:
            return cause
    return found[0]
