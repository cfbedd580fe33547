"""Links between an invocation and the traces of other objects that its code starts: experiments, other projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..rows import OBJECT_KEYS, Row, identity
from .invocation_record import InvocationRecord
from .recent import RecentDict

__all__ = ["Links"]

_IDS = ("id", "span_id", "root_span_id", "experiment_id", "prompt_session_id")
# The most links in the metadata of a root.
_MOST = 32


class Links:
    """The links of one process. Not thread-safe."""

    def __init__(self) -> None:
        # Roots whose first row has not been written yet: the row id of their invocation, by their own.
        self._expected: RecentDict[str] = RecentDict()
        self._not_taken: list[tuple[Row, InvocationRecord]] = []
        self._links: dict[str, list[Row]] = {}
        self._counts: dict[str, int] = {}

    def expect(self, row_id: str, root: str) -> None:
        """An invocation has started a span without a parent."""
        self._expected[row_id] = root

    @property
    def are_expected(self) -> bool:
        """True if roots have been started whose first row has not been written yet."""
        return bool(self._expected)

    @property
    def has_new(self) -> bool:
        """True if there are links that were not taken."""
        return bool(self._not_taken)

    def observe(
        self, row_id: str, row: Mapping[str, Any], invocation: InvocationRecord | None, root: Row | None
    ) -> None:
        """Note a link if the row is the first of such a span, and of another object than its invocation.

        Args:
            invocation: the span's owner, if it is live.
            root: the identity of the owner's root span, if that is open.
        """
        expected = self._expected.pop(row_id, None)
        if expected is None or root is None or invocation is None or invocation.root != expected:
            return
        span = identity(row)
        if all(span.get(key) == root.get(key) for key in OBJECT_KEYS):
            return
        self._not_taken.append((span, invocation))
        self._counts[expected] = self._counts.get(expected, 0) + 1
        links = self._links.setdefault(expected, [])
        if len(links) < _MOST:
            links.append({name: span[name] for name in _IDS if span.get(name)})

    def take(self) -> list[tuple[Row, InvocationRecord]]:
        """The identities of linked spans, and their invocations. Each is returned once."""
        taken, self._not_taken = self._not_taken, []
        return taken

    def of(self, root: str) -> Row:
        """The links of an invocation, for the metadata of its root; empty if it has none."""
        count = self._counts.get(root)
        return {} if count is None else {"links": list(self._links[root]), "links_count": count}

    def forget(self, root: str) -> None:
        """The invocation is over."""
        self._links.pop(root, None)
        self._counts.pop(root, None)
