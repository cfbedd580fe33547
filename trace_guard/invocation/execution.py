"""One trace for a workflow that several invocations carry out, in one process or in many."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ..outcome import Outcome
from ..rows import closing_row, durable
from ..runtime.pipeline import Pipeline
from ..runtime.state import PROCESS
from .captured import captured_input, captured_output
from .state import NOTHING, GuardLike

__all__ = ["Execution"]


class Execution:
    """The root span of a workflow. Each invocation of the workflow is a span below it.

    The ids of the root are derived from the key, so every process computes the same ones without communication. All
    processes write identical start rows, so their order does not matter. The root stays open when a process ends:
    only :meth:`finish` closes it.

    Args:
        key: identifies the execution, for example an ARN.
        name: of the root span.
        started: when the execution began, in seconds since the epoch. The first invocation uses the current time if
            this is None.
        first: whether this is the first invocation. Only the first logs input, metadata and tags.
        input: logged on the root, redacted and cut.
        metadata: logged on the root.
        tags: of the trace.
        platform: facts that hold for all invocations, written with the start of the span.
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
        self._opened: tuple[GuardLike, Pipeline] | None = None
        self._lock = threading.Lock()
        self._finished = False

    @property
    def ids(self) -> dict[str, str]:
        """The ids of the root's row, span and trace."""
        def derived(part: str) -> str:
            return uuid5(NAMESPACE_URL, f"trace-guard:{part}:{self._key}").hex

        row = str(uuid5(NAMESPACE_URL, f"trace-guard:row:{self._key}"))
        return {"id": row, "span_id": derived("span")[:16], "root_span_id": derived("trace")}

    def open(
        self, guard: GuardLike, pipeline: Pipeline, parent: str | Mapping[str, str] | None = None
    ) -> str:
        """Write the start of the root. Returns the parent for an invocation, as an exported span.

        Args:
            pipeline: where the root goes, as the invocations do.
            parent: as in :meth:`Guard.invocation`. It must be the same in all invocations.

        Raises:
            Exception: whatever the SDK raises.
        """
        sdk, settings = PROCESS.sdk, guard.settings
        started = self._started
        if started is None and self._first:
            started = time.time()
        self._opened = guard, pipeline
        parent, foreign = sdk.adoptable(parent)
        self.span = sdk.loggers.start_root(
            self.name, pipeline.lookup, project=settings.project, project_id=settings.project_id, parent=parent,
            started=started or time.time(), ids=self.ids,
        )
        row = durable(sdk.start_row(self.span, self.name, started or 0.0, {**self._platform, **foreign}))
        if started is None:
            del row["metrics"], row["created"]
        pipeline.append([row])
        if self._first:
            self._log_start(guard)
        return str(self.span.export())

    def _log_start(self, guard: GuardLike) -> None:
        """Log through the SDK, which applies its masking function."""
        event: dict[str, Any] = {}
        if (input := captured_input(guard, self._input)) is not NOTHING:
            event["input"] = input
        if self._metadata:
            event["metadata"] = dict(self._metadata)
        if self._tags:
            event["tags"] = list(self._tags)
        if event:
            self.span.log(**event)

    def finish(self, outcome: Outcome, *, output: Any = NOTHING, error: str | None = None) -> None:
        """Close the root; it is delivered with the invocation. Only the first call has an effect.

        Args:
            output: logged on the root, redacted and cut.
            error: the error message. The SDK's masking function is applied to it.
        """
        with self._lock:
            if self._finished or self._opened is None:
                return
            self._finished = True
        guard, pipeline = self._opened
        text = None if error is None else PROCESS.sdk.masked(error)
        if (output := captured_output(guard, output)) is not NOTHING:
            self.span.log(output=output)
        pipeline.append([
            durable(closing_row(PROCESS.sdk.identity_of(self.span), end=time.time(), outcome=outcome, error=text))
        ])
