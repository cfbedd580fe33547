"""When anything last happened in the subtree of each open span."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from ..rows import is_kept_open
from ..system.clock import monotonic
from .row_facts import RowFacts

__all__ = ["Activity", "IdleSpans"]


# So many ended spans are remembered, as the first row of a child may come after the end of its parent.
_REMEMBERED = 1000


class _Span(Protocol):
    span_id: str
    parents: tuple[str, ...]


class IdleSpans(NamedTuple):
    """The result of a look at the open spans.

    Attributes:
        ends: when something last happened in the subtree of each span that is due, by ``span_id``; in seconds since
            the epoch.
        wait: seconds until another span may be due; None if no other span is open.
    """

    ends: dict[str, float]
    wait: float | None


class _Node:
    """A span that is open, or has open spans below it."""

    __slots__ = ("at", "children", "counted_by", "durable", "ended", "last", "marks", "parents")

    def __init__(self, parents: tuple[str, ...]) -> None:
        self.parents = parents
        self.children = 0
        self.counted_by: list[_Node] = []
        self.ended = False
        self.durable = False
        self.marks: Mapping[str, Any] = {}
        self.last = monotonic()
        self.at = time.time()


class Activity:
    """Follows the rows of a process. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._ended: deque[str] = deque()

    def note(self, row: RowFacts) -> None:
        """A span row has been written. The guard's own forced closes are no activity."""
        span_id = str(row.span_id)
        node = self._nodes.get(span_id)
        if not row.is_forced:
            if node is None and row.start is not None:
                node = self._add(span_id, row.parents)
            last, at = monotonic(), time.time()
            above = self._above(span_id, row.parents if node is None else node.parents)
            for active in (*(() if node is None else (node,)), *(self._nodes[parent] for parent in above)):
                active.last, active.at = last, at
            if node is not None:
                node.durable = node.durable or row.is_durable
                if "keep_open" in row.about:
                    node.marks = row.about
        if row.end is not None and node is not None:
            node.ended, node.durable, node.marks = True, False, {}
            self._ended.append(span_id)
            if len(self._ended) > _REMEMBERED:
                self._release(self._ended.popleft())

    def _add(self, span_id: str, parents: tuple[str, ...]) -> _Node:
        node = self._nodes[span_id] = _Node(parents)
        node.counted_by = [self._nodes[parent] for parent in parents if parent in self._nodes and parent != span_id]
        for parent in node.counted_by:
            parent.children += 1
        return node

    def _release(self, span_id: str) -> None:
        """Forget a span that has ended, and those above it that have waited for it."""
        waiting = [span_id]
        while waiting:
            span_id = waiting.pop()
            node = self._nodes.get(span_id)
            if node is not None and node.ended and not node.children:
                del self._nodes[span_id]
                for parent in node.counted_by:
                    parent.children -= 1
                waiting += node.parents

    def idle(self, spans: Iterable[_Span], is_exempt: Callable[[Any], bool], seconds: float) -> IdleSpans:
        """Find the spans without activity for ``seconds``.

        A span that may not be closed, because it is exempt or is open on purpose, also keeps the spans above it open.
        A mark of ``keep_open`` keeps those below it, too.
        """
        by_id = {span.span_id: span for span in spans}
        for span_id, span in by_id.items():
            if span_id not in self._nodes:
                self._add(span_id, span.parents)
        kept: set[str] = set()
        for span_id in [*by_id, *(span_id for span_id, node in self._nodes.items() if node.durable or node.marks)]:
            node, above = self._nodes[span_id], list(self._above(span_id, self._nodes[span_id].parents))
            is_marked = node.durable or is_kept_open(node.marks)
            if is_marked or (span_id in by_id and is_exempt(by_id[span_id])):
                kept.update((span_id, *above))
            elif any(is_kept_open(self._nodes[parent].marks) for parent in above):
                kept.add(span_id)
        now, ends, wait = monotonic(), {}, None
        for span_id in by_id:
            node = self._nodes[span_id]
            left = seconds if span_id in kept else node.last + seconds - now
            if left <= 0:
                ends[span_id] = node.at
            else:
                wait = left if wait is None else min(wait, left)
        return IdleSpans(ends, wait)

    def last_of(self, span: _Span) -> float | None:
        """When something last happened in the subtree of a span, in seconds since the epoch; None if unknown."""
        node = self._nodes.get(span.span_id)
        return None if node is None else node.at

    def _above(self, span_id: str, parents: Iterable[str]) -> Iterator[str]:
        """The known spans above a span with these parents."""
        seen, waiting = {span_id}, list(parents)
        while waiting:
            parent = waiting.pop()
            if parent in self._nodes and parent not in seen:
                seen.add(parent)
                yield parent
                waiting += self._nodes[parent].parents
