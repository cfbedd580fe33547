"""The scenarios of ``trace-guard demo``: one guarded function fails in every way and is observed from outside.

The guard itself reports nothing here. The sandbox shows what the caller got, the server's rows and requests show the
trace, and the journal shows what waits on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from ..backends.summaries import TraceSummary, root_id_of, spans_of, summarize
from ..rows import Row, has_ended
from ..runtime.status import read_status
from ..settings import Settings
from ..system.clock import monotonic
from ..testing import BraintrustServer, InvokeResult, LambdaSandbox

__all__ = ["ROUND_TRIP", "Act", "Observed", "Stage"]

ROUND_TRIP = 0.050
"""The response time of the simulated Braintrust, in seconds."""

_PROJECT = "demo-agent"
_TIMEOUT = 4.0
# For the invocation that times out.
_SHORT_TIMEOUT = 1.5
_WARM_REPETITIONS = 7
# Each of these needs a new process.
_COLD_REPETITIONS = 3
# Fewer failures than open the guard's breaker.
_DOWN_REPETITIONS = 2
_LATEST = 5.0


@dataclass(frozen=True)
class Observed:
    """What was observed in one scenario.

    Attributes:
        caller_got: the answer, or the error that the service reports.
        trace: the final trace on the server; None if there is none.
        closed: the number of spans that trace-guard closed.
        delivery: how and when the whole trace reached the server.
        added: extra seconds that the caller waited, compared with the unguarded function; None if there is no
            comparison.
    """

    caller_got: str
    trace: TraceSummary | None
    closed: int
    delivery: str
    added: float | None


Act = Callable[[], Observed]


class Stage:
    """The guarded function, the same function unguarded, and a server. Use it as a context manager.

    Args:
        code: the directory of the function.
    """

    def __init__(self, code: Path) -> None:
        self._on_exit = ExitStack()
        self.server = self._on_exit.enter_context(BraintrustServer(latency=ROUND_TRIP))
        self._projects = {self.server.add_project(_PROJECT): _PROJECT}
        self._env = {
            "BRAINTRUST_API_KEY": "demo",
            "BRAINTRUST_APP_URL": self.server.url,
            "BRAINTRUST_API_URL": self.server.url,
        }
        self._guarded = self._sandbox(code, self._env)
        self._unguarded = self._sandbox(code, {**self._env, "TRACE_GUARD_DISABLED": "true"})
        self._unguarded_seconds: dict[str, float] = {}
        self.invocations: list[str] = []
        """The ids of all guarded invocations."""

    def _sandbox(self, code: Path, env: Mapping[str, str]) -> LambdaSandbox:
        return self._on_exit.enter_context(
            LambdaSandbox("app.handler", code=code, env=env, timeout=_TIMEOUT, function_name="support-agent")
        )

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_exit.close()

    def acts(self) -> Iterator[tuple[str, Act]]:
        """The scenarios in order. Run each before taking the next."""
        yield "returns", lambda: self._compared("returns", _WARM_REPETITIONS)
        yield "raises", lambda: self._compared("raises", _WARM_REPETITIONS)
        yield "leaves a span open", lambda: self._compared("leaves_open", _WARM_REPETITIONS)
        yield "calls sys.exit", lambda: self._compared("exits", _COLD_REPETITIONS)
        yield "times out", self._timed_out
        yield "SIGKILL, invoked again", self._killed
        yield "backend down, up again", self._backend_down

    def rows(self) -> list[Row]:
        """The rows on the server, with the project's name in place of its id."""
        return [{**row, "project_id": self._projects.get(str(row.get("project_id")), row.get("project_id"))}
                for row in self.server.span_rows()]

    def traces(self) -> list[TraceSummary]:
        """The traces on the server, newest first."""
        return summarize(self.server.span_rows(), self._projects)

    def missing(self) -> int:
        """The number of guarded invocations without a trace on the server."""
        found = {_invocation_id(row) for row in self.server.span_rows()}
        return len(set(self.invocations) - found)

    # The scenarios

    def _compared(self, scenario: str, repetitions: int) -> Observed:
        """Invoke once to observe, then repeatedly to measure, alternating with the unguarded function."""
        shown, at_answer = self._invoke(scenario)
        self._unguarded.invoke(_event(scenario))
        guarded, unguarded = [], []
        for _ in range(repetitions):
            guarded.append(self._invoke(scenario)[0].seconds)
            unguarded.append(self._unguarded.invoke(_event(scenario)).seconds)
        self._unguarded_seconds[scenario] = median(unguarded)
        return self._observed(shown, at_answer, median(guarded) - median(unguarded))

    def _timed_out(self) -> Observed:
        return self._observed(*self._invoke("times_out", deadline=_SHORT_TIMEOUT))

    def _killed(self) -> Observed:
        """Kill the function once the server shows the trace in progress, so that the trace would hang there."""
        killed, at_answer = self._invoke("slow", kill_when=self.server.open_spans)
        self._invoke("returns")
        return self._observed(killed, at_answer)

    def _backend_down(self) -> Observed:
        self.server.refuse_connections()
        shown, at_answer = self._invoke("returns")
        seconds = [shown.seconds, *(self._invoke("returns")[0].seconds for _ in range(_DOWN_REPETITIONS - 1))]
        self.server.accept_connections()
        # The next invocation delivers the waiting rows, unless the guard's breaker is still open.
        limit = monotonic() + _LATEST
        self._invoke("returns")
        while not self._rows_of(shown) and monotonic() < limit:
            self._invoke("returns")
        return self._observed(shown, at_answer, median(seconds) - self._unguarded_seconds["returns"])

    # Looking on

    def _invoke(self, scenario: str, **limits: Any) -> tuple[InvokeResult, _Held]:
        """Invoke the guarded function. Also returns what server and journal held when the caller got its answer."""
        result = self._guarded.invoke(_event(scenario), **limits)
        self.invocations.append(result.request_id)
        return result, _Held(self._rows_of(result), self._pending_rows())

    def _observed(self, result: InvokeResult, at_answer: _Held, added: float | None = None) -> Observed:
        self._wait_until_closed(result)
        rows = self._rows_of(result)
        trace = next(iter(summarize(rows, self._projects)), None)
        spans = spans_of(rows, trace.root_span_id) if trace else []
        closed_by = [span.closed_by for span in spans if span.closed_by is not None]
        return Observed(
            _answer(result), trace, len(closed_by), _delivery(at_answer, rows, "recovery" in closed_by), added
        )

    def _wait_until_closed(self, result: InvokeResult) -> None:
        """Wait for a request that may still be on its way, although its sender is frozen."""
        def closed() -> bool:
            rows = self._rows_of(result)
            return bool(rows) and all(map(has_ended, rows))

        try:
            self.server.wait_for(closed, timeout=_LATEST)
        except TimeoutError:
            return  # the open trace is what is observed

    def _rows_of(self, result: InvokeResult) -> list[Row]:
        rows = self.server.span_rows()
        roots = {root_id_of(row) for row in rows if _invocation_id(row) == result.request_id}
        return [row for row in rows if root_id_of(row) in roots]

    def _pending_rows(self) -> int:
        settings = Settings.from_env({**self._env, "TRACE_GUARD_DIR": str(self._guarded.trace_guard_dir)})
        return sum(journal.pending_rows for journal in read_status(settings).journals)


@dataclass(frozen=True)
class _Held:
    """The trace when its caller got the answer: rows on the server and rows on disk."""

    rows: Sequence[Row]
    pending_rows: int


def _event(scenario: str) -> dict[str, str]:
    return {"question": "Where is my order?", "scenario": scenario}


def _invocation_id(row: Row) -> Any:
    metadata = row.get("metadata")
    return metadata.get("faas.invocation_id") if isinstance(metadata, Mapping) else None


def _answer(result: InvokeResult) -> str:
    if result.status == "ok":
        return str(result.payload.get("answer") if isinstance(result.payload, dict) else result.payload)
    message = str(result.payload["errorMessage"])
    if result.status == "error":
        return f"{result.payload['errorType']}: {message}"
    # "RequestId: ... Error: Runtime exited with error: signal: killed"
    return message.removeprefix(f"RequestId: {result.request_id} Error: ").removeprefix("Runtime exited with error: ")


def _delivery(at_answer: _Held, rows: Sequence[Row], recovered: bool) -> str:
    if not rows:
        return "spooled, still there" if at_answer.pending_rows else "lost"
    if not all(map(has_ended, rows)):
        return "in progress"
    if len(at_answer.rows) == len(rows) and all(map(has_ended, at_answer.rows)):
        return "delivered"
    if recovered:
        return "by the next start"
    return "spooled, sent later" if at_answer.pending_rows else "later"
