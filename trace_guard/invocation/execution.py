"""Work that several invocations carry out one after another, in whatever processes: one trace for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ..outcome import Outcome
from ..rows import closing_row, durable
from ..runtime.state import PROCESS
from .state import NOTHING, GuardLike

__all__ = ["Execution"]


class Execution:
    """The root of such a trace; each invocation is a span below it.

    The ids of its root come from its key, so that every process finds the same one without asking anybody. What
    is written of it is written the same way by all of them, so that it does not matter in which order that
    arrives. No process closes it for having ended: only :meth:`finish` does, wherever the work comes to its end.

    Args:
        key: tells it from all others, such as an ARN.
        name: of the root span.
        started: when the work began, in seconds since the epoch; None if that is not known, which only matters in
            the first invocation.
        first: whether this is the first invocation, which alone logs what stays the same.
        input: logged on the root, redacted and cut.
        metadata: logged on the root.
        tags: of the trace.
        platform: facts that hold for all invocations, which are written with the start of the span.
    """

    def __init__(
        self,
        key: str,
        name: str,
        *,
        started: float | None = None,
        first: bool = True,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        platform: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.span: Any = None
        self._key = key
        self._started = started
        self._first = first
        self._input = input
        self._metadata = metadata
        self._tags = tags
        self._platform = dict(platform or {})
        self._guard: GuardLike | None = None
        self._lock = threading.Lock()
        self._finished = False

    @property
    def ids(self) -> dict[str, str]:
        """The ids of the root's row, span and trace."""
        def derived(part: str) -> str:
            return uuid5(NAMESPACE_URL, f"trace-guard:{part}:{self._key}").hex

        row = str(uuid5(NAMESPACE_URL, f"trace-guard:row:{self._key}"))
        return {"id": row, "span_id": derived("span")[:16], "root_span_id": derived("trace")}

    def open(self, guard: GuardLike, parent: str | Mapping[str, str] | None = None) -> str:
        """Write that it has begun; what an invocation is to have as its parent.

        Args:
            parent: as in :meth:`Guard.invocation`; the same in all invocations.

        Raises:
            Exception: whatever the SDK raises.
        """
        sdk, settings = PROCESS.sdk, guard.settings
        started = self._started
        if started is None and self._first:
            started = time.time()
        self._guard = guard
        parent, foreign = sdk.adoptable(parent)
        self.span = sdk.loggers.start_root(
            self.name, project=settings.project, project_id=settings.project_id, parent=parent,
            started=started or time.time(), ids=self.ids,
        )
        row = durable(sdk.start_row(self.span, self.name, started or 0.0, {**self._platform, **foreign}))
        if started is None:
            del row["metrics"], row["created"]
        guard.pipeline.append([row])
        if self._first:
            self._log_start(guard)
        return str(self.span.export())

    def _log_start(self, guard: GuardLike) -> None:
        """Through the SDK, so that its masking function sees it."""
        event: dict[str, Any] = {}
        if self._input is not NOTHING and guard.settings.capture_input:
            event["input"] = guard.payload.copy(self._input)
        if self._metadata:
            event["metadata"] = dict(self._metadata)
        if self._tags:
            event["tags"] = list(self._tags)
        if event:
            self.span.log(**event)

    def finish(self, outcome: Outcome, *, output: Any = NOTHING, error: str | None = None) -> None:
        """The work is done: close the root. It is delivered with the invocation. Only the first call does anything.

        Args:
            output: logged on the root, redacted and cut.
            error: in words; it passes the SDK's masking function.
        """
        guard = self._guard
        with self._lock:
            if self._finished or guard is None:
                return
            self._finished = True
        text = None if error is None else PROCESS.sdk.masked(error)
        if output is not NOTHING and guard.settings.capture_output:
            self.span.log(output=guard.payload.copy(output))
        guard.pipeline.append([
            durable(closing_row(PROCESS.sdk.identity_of(self.span), end=time.time(), outcome=outcome, error=text))
        ])
