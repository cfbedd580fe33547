"""Code that returns before its deadline although the watchdog or a signal has closed its spans."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import braintrust
import pytest
from fixtures import MakeGuard
from support import PROJECT_ID, normal, traces_in, until

from trace_guard import Deadline, Guard, LocalStore, Outcome, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.outcome import Way
from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

Early = Callable[[], Any]


def mark(row: Row) -> Any:
    """What closed the row's span, if not its own code."""
    return (row.get("metadata") or {}).get("trace_guard", {}).get("closed_by")


def about(server: BraintrustServer) -> dict[str, Any]:
    """The guard's metadata of each span."""
    return {
        row["span_attributes"]["name"]: (row.get("metadata") or {}).get("trace_guard") for row in server.span_rows()
    }


def work(early: Early, *, fails: bool = False) -> str:
    """User code that continues after calling ``early``, with every kind of open span."""
    with braintrust.start_span("outer", input="question") as outer:
        outer.log(metadata={"kept": {"a": 1}}, scores={"early": 0.5})
        inner = outer.start_span("inner")
        outer.start_span("forgotten", input="never ended")
        failing = outer.start_span("failing")
        early()
        with outer.start_span("late") as late:
            braintrust.flush()
            late.log(output="at the last moment")
        failing.log(error="its own")
        failing.end()
        inner.log(output="thought", metadata={"tokens": 7})
        inner.end()
        outer.log(output="answer", metadata={"kept": {"b": 2}})
    if fails:
        raise ValueError("no such order")
    return "result"


def run(guard: Guard, early: Early, *, fails: bool = False, kind: str = "sync", deadline: float | None = None) -> Any:
    """Run the code guarded. Returns its invocation."""
    found: list[Any] = []

    def body() -> str:
        found.append(current_invocation())
        current_invocation().count("calls", "model")  # type: ignore[union-attr]
        return work(early, fails=fails)

    async def coroutine() -> str:
        return body()

    limit = Deadline.never() if deadline is None else Deadline.after(deadline)
    invocation = guard.invocation("root", deadline=limit, input={"question": 1}, metadata={"a": 1}, tags=["t"])
    try:
        if kind == "sync":
            with invocation:
                invocation.set_output(body())
        else:
            async def main() -> None:
                async with invocation:
                    invocation.set_output(await coroutine())

            asyncio.run(main())
    except ValueError:
        assert fails
    return found[0]


def terminated(guard: Guard, server: BraintrustServer) -> Early:
    """Close as a signal does, and wait for the delivery."""
    def early() -> None:
        guard.pipeline.terminate("SIGTERM", Deadline.after(5))
        assert current_invocation().outcome is Outcome.TERMINATED  # type: ignore[union-attr]
        until(lambda: [mark(row) for row in server.span_rows() if mark(row)])

    return early


def nothing() -> None:
    """No failure."""


# The real end


def test_the_real_end_wins_over_the_watchdog(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Code that ends within the reserve, sync or async, has the same trace as without the forced close, although the
    server had received that one."""
    guard = make_guard(linger=60, reserve=1.0)
    ways = [{"fails": fails, "kind": kind} for fails in (False, True) for kind in ("sync", "async")]
    marked: list[set[str]] = []

    def early() -> None:
        invocation = current_invocation()
        assert invocation is not None
        trace = invocation.span.root_span_id
        until(lambda: invocation.outcome is Outcome.TIMED_OUT)
        until(lambda: sum(mark(row) == "watchdog" for row in server.span_rows() if row["root_span_id"] == trace) == 5)
        marked.append({row["error"] for row in server.span_rows() if row["id"] == invocation.span.id})

    with ThreadPoolExecutor(len(ways)) as pool:
        misses = list(pool.map(lambda way: run(guard, early, deadline=5.0, **way), ways))
    near = {one.span.id: one for one in misses}
    assert all(error.startswith("TimedOut: ") for (error,) in marked)
    until(lambda: not any(mark(row) == "watchdog" for row in server.span_rows()))
    found = {trace[0]["root_span_id"]: normal(trace) for trace in traces_in(server.span_rows())}
    assert len(found) == len(near) == 4
    for way, miss in zip(ways, misses, strict=True):
        plain = run(guard, nothing, deadline=5.0, **way)
        assert miss.outcome is plain.outcome is (Outcome.ERROR if way["fails"] else Outcome.OK)
        (expected,) = (
            normal(trace) for trace in traces_in(server.span_rows())
            if trace[0]["root_span_id"] == plain.span.root_span_id
        )
        assert found[miss.span.root_span_id] == expected
    assert server.open_spans() == []


def test_a_survived_signal_is_corrected(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Code that returns although a signal was to end its process has its real end, and is delivered."""
    guard = make_guard(linger=60)
    miss = run(guard, terminated(guard, server))
    plain = run(guard, nothing)
    assert (miss.outcome, miss.delivery.verdict) == (plain.outcome, plain.delivery.verdict)
    assert miss.delivery.rows > plain.delivery.rows
    late, in_time = map(normal, traces_in(server.span_rows()))
    assert late == in_time


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_exception_of_a_signal_handler_stays_terminated(
    server: BraintrustServer, make_guard: MakeGuard, error: type[BaseException]
) -> None:
    """Code that ends with the exception of a signal handler stays terminated."""
    guard = make_guard(linger=60)
    invocation = guard.invocation("root")

    def ended() -> None:
        with invocation:
            terminated(guard, server)()
            raise error

    with pytest.raises(error):
        ended()
    assert invocation.outcome is Outcome.TERMINATED
    assert about(server) == {"root": {"outcome": "terminated", "closed_by": "guard", "reason": "signal"}}


def test_an_end_after_the_deadline_is_too_late(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Code that ends after its deadline stays timed out, and its output is still logged."""
    guard = make_guard(linger=60)
    deadline = Deadline.after(0.4)
    with guard.invocation("root", deadline=deadline) as invocation:
        until(lambda: deadline.expired)
        until(lambda: any(map(mark, server.span_rows())))
        invocation.set_output("late")
    assert invocation.outcome is Outcome.TIMED_OUT
    assert guard.flush(10)
    (root,) = server.span_rows()
    assert root["metadata"]["trace_guard"] == {"outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline"}
    assert root["output"] == "late"


# What a correction must not take


def test_a_correction_keeps_other_data(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Feedback from before a correction and data that is logged after it both stay."""
    guard = make_guard(linger=60)
    logger = braintrust.init_logger(project="project", project_id=PROJECT_ID, set_current=False)
    with guard.invocation("root") as invocation:
        logger.log_feedback(id=invocation.span.id, scores={"before": 1.0})
        terminated(guard, server)()
        logger.log_feedback(id=invocation.span.id, scores={"between": 0.5})
    logger.log_feedback(id=invocation.span.id, scores={"after": 0.0})
    invocation.span.log(metadata={"later": True})
    assert guard.flush(10)
    (root,) = (row for row in server.span_rows() if row["id"] == invocation.span.id)
    assert root["scores"] == {"before": 1.0, "between": 0.5, "after": 0.0}
    assert root["metadata"] == {"later": True, "trace_guard": {"outcome": "ok"}}


def flushed(guard: Guard) -> bool:
    """Make the SDK deliver its rows, from within an invocation."""
    braintrust.flush()
    return guard.pipeline.flush(Deadline.after(10))


def test_a_late_return_is_corrected_without_a_directory(
    server: BraintrustServer, make_guard: MakeGuard, tmp_path: Path
) -> None:
    """A late return is corrected even without a usable directory."""
    (tmp_path / "file").touch()
    guard = make_guard(linger=60, directory=tmp_path / "file")
    run(guard, terminated(guard, server))
    run(guard, nothing)
    late, in_time = map(normal, traces_in(server.span_rows()))
    assert late == in_time


def test_a_full_journal_keeps_the_correction(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """A span is corrected even if the size cap drops payloads, and the server keeps what it has."""
    guard = make_guard(linger=60, max_journal_bytes=1 << 20)
    with guard.invocation("root", input="i" * 1000) as invocation:
        terminated(guard, server)()
        assert flushed(guard)
        server.refuse_connections()
        while not journal_is_nearly_full(guard):
            with braintrust.start_span("large") as large:
                large.log(output="y" * 20_000)
            braintrust.flush()
    server.accept_connections()
    assert guard.flush(10)
    (root,) = (row for row in server.span_rows() if row["id"] == invocation.span.id)
    assert root["input"] == "i" * 1000
    assert root["metadata"]["trace_guard"] == {"outcome": "ok", "payload_dropped": True}
    assert server.open_spans() == []


def journal_is_nearly_full(guard: Guard) -> bool:
    journal: Any = guard.pipeline.journal()
    return journal.size > 0.76 * (1 << 20)


def test_a_refused_payload_does_not_cost_the_correction(
    server: BraintrustServer, make_guard: MakeGuard
) -> None:
    """A row that is refused for its size is sent without its payload, and the real end is kept."""
    guard = make_guard(linger=60)
    with guard.invocation("root") as invocation:
        invocation.span.log(metadata={"one": "x" * 3000})
        assert flushed(guard)
        invocation.span.log(metadata={"two": "y" * 3000})
        terminated(guard, server)()
        server.max_body_bytes = 5000
        invocation.set_output("z" * 6000)
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is invocation.delivery.REFUSED
    (root,) = server.span_rows()
    assert (len(root["metadata"]["one"]), len(root["metadata"]["two"])) == (3000, 3000)
    assert root["metadata"]["trace_guard"] == {"outcome": "ok", "payload_dropped": True}
    assert root.get("error") is None


def test_a_fault_prevents_only_the_correction(
    server: BraintrustServer, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If a fault prevents the correction, user code does not notice and no span stays open."""
    def fails(*_: Any) -> Any:
        raise LookupError("a fault of ours")

    monkeypatch.setattr("trace_guard.invocation.late_return.corrections", fails)
    guard = make_guard(linger=60)
    assert guard.wrap(lambda: work(terminated(guard, server)), name="root")() == "result"
    assert [record.message for record in caplog.records if record.exc_info] == [
        "trace-guard: could not close the root span; your code is not affected"
    ]
    caplog.clear()
    assert guard.flush(10)
    assert server.open_spans() == []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("puts_off", [False, True])
def test_an_end_after_the_deadline_changes_nothing(
    server: BraintrustServer, make_guard: MakeGuard, fails: bool, puts_off: bool
) -> None:
    """Code that ends after its deadline does not change the root's end, outcome and error, even if delivery is
    deferred."""
    guard = make_guard(linger=60, reserve=0.2)
    invocation = guard.invocation("root", deadline=Deadline.after(0.4))
    jobs: list[Callable[[Deadline, Way], object]] = []
    if puts_off:
        invocation.state.after_response = lambda job: jobs.append(job) or Way.BACKGROUND
    with contextlib.suppress(ValueError), invocation:
        until(lambda: invocation.deadline.expired and any(map(mark, server.span_rows())))
        (closed,) = server.span_rows()
        if fails:
            raise ValueError("too late")
    for job in jobs:
        job(Deadline.after(5), Way.BACKGROUND)
    assert (invocation.outcome, len(jobs)) == (Outcome.TIMED_OUT, puts_off)
    assert guard.flush(10)
    (root,) = server.span_rows()
    told = ("metrics", "metadata", "error")
    assert [root[key] for key in told] == [closed[key] for key in told]


# Other backends


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_every_backend_corrects(directory: Path, kind: str) -> None:
    """The local store and the memory backend show the real end too."""
    backend: Any = LocalStore(directory / "traces.db") if kind == "local" else MemoryBackend()
    guard = Guard(backend=backend, dir=directory, project="p", linger=60)
    rows = backend.all_rows if kind == "local" else backend.rows

    def early() -> None:
        guard.pipeline.terminate("SIGTERM", Deadline.after(5))
        until(lambda: any(map(mark, rows())))

    run(guard, early)
    run(guard, nothing)
    late, in_time = map(normal, traces_in(rows()))
    guard.close()
    assert late == in_time


def test_errors_that_the_code_has_logged_itself_are_kept(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Errors that the code logs before or after the forced close are kept."""
    guard = make_guard(linger=60)
    with guard.invocation("before") as before, braintrust.start_span("child") as child:
        before.span.log(error="its own")
        child.log(error="the child's")
        terminated(guard, server)()
    with guard.invocation("after") as after:
        terminated(guard, server)()
        after.span.log(error="logged later")
    errors = {row["span_attributes"]["name"]: row.get("error") for row in server.span_rows()}
    assert errors == {"before": "its own", "child": "the child's", "after": "logged later"}
