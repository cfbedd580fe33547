"""The Celery recipe under a real worker whose forked children skip ``atexit`` and may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.suite import parents
from fakeredis import TcpFakeServer
from support import REPOSITORY, Program, environment, journals, until

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

EXAMPLE = REPOSITORY / "examples" / "celery_worker"
CASES = Path(__file__).parent / "celery_cases"

CALLER = """
    import contextlib, json
    import braintrust
    from cases import app
    from tracing import guard

    while order := listen():
        order = json.loads(order)
        if stopped := order.pop("stopped", None):
            app.control.revoke(stopped, terminate=True)
            continue
        with guard.invocation("caller") if order.pop("traced") else contextlib.nullcontext():
            sent = app.send_task(**order)
        say(sent.id)
"""


class Worker:
    """A worker with two children, the program that sends it tasks, and the server that receives the spans.

    The broker matters: children of brokers that Celery polls share one pipe, which stays locked for ever if a child
    is killed while reading.
    """

    def __init__(self, server: BraintrustServer, folder: Path, broker: str) -> None:
        self.server = server
        path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "adapters", EXAMPLE, CASES)))
        self.directory = folder / "trace-guard"
        env = environment(
            server, self.directory, CELERY_BROKER_URL=broker, CELERY_RESULT_BACKEND=broker, PYTHONPATH=path,
        )
        self._log = folder / "worker.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "cases", "worker", "--pool", "prefork", "--concurrency", "2",
                 "--without-gossip", "--without-mingle", "--max-tasks-per-child", "4", "--loglevel", "INFO"],
                env={"PATH": os.environ["PATH"], **env}, cwd=folder, stdout=log, stderr=log, start_new_session=True,
            )
        self._caller = Program(CALLER, {**env, "TRACE_GUARD_DIR": str(folder / "caller")})

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._caller.__exit__()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text()

    def send(self, name: str, *args: Any, traced: bool = True, **options: Any) -> str:
        """Send a task, by default from a span of the caller, and return its id."""
        self._caller.tell(json.dumps({"name": name, "args": args, "traced": traced, **options}))
        return self._caller.hears()

    def stop(self, task_id: str) -> None:
        """Make Celery end a running task."""
        self._caller.tell(json.dumps({"stopped": task_id}))

    def ended(self, task_id: str, attempts: int = 1) -> list[Row]:
        """The root spans of a task's attempts in order, once this many have ended."""
        def found() -> list[Row]:
            rows = [row for row in self.server.span_rows() if facts(row).get("id") == task_id]
            return rows if len(rows) == attempts and all("end" in row["metrics"] for row in rows) else []

        try:
            rows: list[Row] = until(found, what=f"the end of {task_id}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the worker says: {self.log()}") from None
        return sorted(rows, key=lambda row: int(facts(row)["attempt"]))

    def run(self, name: str, *args: Any, **options: Any) -> Row:
        """Send a task and return the span of its only attempt, once it has ended."""
        (row,) = self.ended(self.send(name, *args, **options))
        return row

    def trace_of(self, row: Row) -> dict[str, str | None]:
        """The names of a trace's spans with the names of their parents. All spans must be closed."""
        rows = [one for one in self.server.span_rows() if one["root_span_id"] == row["root_span_id"]]
        assert [one for one in rows if "end" not in one["metrics"]] == []
        return parents(rows)


def facts(row: Row) -> dict[str, Any]:
    """The recipe's metadata about an attempt."""
    said: dict[str, Any] = (row.get("metadata") or {}).get("job", {})
    return said


def guarded(row: Row) -> dict[str, Any]:
    """trace-guard's metadata about how a span ended."""
    return {name: value for name, value in row["metadata"]["trace_guard"].items() if name != "opened_at"}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with TcpFakeServer(("127.0.0.1", 0)) as redis, BraintrustServer() as server:
        thread = threading.Thread(target=redis.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        broker = "redis://{}:{}".format(*redis.server_address)
        try:
            with Worker(server, tmp_path_factory.mktemp("celery"), broker) as worker:
                yield worker
        finally:
            redis.shutdown()
            thread.join()


def test_a_task_is_a_child_of_the_span_that_sent_it(worker: Worker) -> None:
    """A task's span is delivered at its end as a child of the sending span, with arguments and result."""
    row = worker.run("tasks.classify", "Where is my invoice?")
    assert worker.trace_of(row) == {"caller": None, "tasks.classify": "caller", "complete": "tasks.classify"}
    assert (guarded(row), row["input"], row["output"]) == (
        {"outcome": "ok"}, {"args": ["Where is my invoice?"], "kwargs": {}}, "billing",
    )
    assert facts(row).items() >= {"attempt": 1, "state": "SUCCESS"}.items()


def test_a_task_that_raises(worker: Worker) -> None:
    """A task's exception is on its span, and a task that no span sent has its own trace."""
    row = worker.run("cases.fails", traced=False)
    assert worker.trace_of(row) == {"cases.fails": None}
    assert (guarded(row), row["error"].splitlines()[-1]) == ({"outcome": "error"}, "ValueError: no such order")
    assert facts(row)["state"] == "FAILURE"


def test_a_retry_stands_beside_the_first_attempt(worker: Worker) -> None:
    """Every attempt is a span with its number and its own end, and all are in one trace."""
    tasks = {
        traced: worker.send("tasks.classify_under_load", "An invoice", 2, traced=traced) for traced in (True, False)
    }
    for traced, task_id in tasks.items():
        rows = worker.ended(task_id, attempts=3)
        assert [(facts(row)["attempt"], facts(row)["state"], guarded(row)["outcome"]) for row in rows] == [
            (1, "RETRY", "error"), (2, "RETRY", "error"), (3, "SUCCESS", "ok"),
        ]
        assert "Overloaded: the model is overloaded" in rows[0]["error"]
        assert len({row["root_span_id"] for row in rows}) == 1
        parent = rows[0]["span_parents"] if traced else [rows[0]["span_id"]]
        assert [row["span_parents"] for row in rows[1:]] == [parent, parent]


def test_what_celery_does_not_catch(worker: Worker) -> None:
    """The span of a task that raises SystemExit is closed and delivered before the process ends."""
    row = worker.run("cases.leaves", 3)
    assert (guarded(row), row["error"].splitlines()[-1]) == ({"outcome": "error"}, "SystemExit: 3")


def test_time_limits(worker: Worker) -> None:
    """A task past its soft limit ends with Celery's exception; past its hard limit it is closed as timed out and
    delivered before its process is killed."""
    limits = [
        worker.send("cases.waits", 30, **{limit: seconds})
        for limit, seconds in (("soft_time_limit", 1), ("time_limit", 2))
    ]
    (soft,), (hard,) = (worker.ended(task_id) for task_id in limits)
    assert guarded(soft) == {"outcome": "error"}
    assert "SoftTimeLimitExceeded" in soft["error"].splitlines()[-1]
    assert guarded(hard) | {"running": ...} == {
        "outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline", "running": ...,
    }
    for row in (soft, hard):
        assert worker.trace_of(row) == {"caller": None, "cases.waits": "caller", "step": "cases.waits"}


def test_a_child_that_is_killed(worker: Worker) -> None:
    """The replacement of a killed child closes and delivers what it left open."""
    row = worker.run("cases.dies")
    assert guarded(row) == {"outcome": "abandoned", "closed_by": "recovery", "reason": "process_ended"}
    assert worker.trace_of(row) == {"caller": None, "cases.dies": "caller", "step": "cases.dies"}


def test_a_task_that_is_revoked(worker: Worker) -> None:
    """A task that Celery terminates is closed as terminated, and so are its open spans."""
    task_id = worker.send("cases.waits", 60)
    until(lambda: worker.server.open_spans(), what="its start")
    worker.stop(task_id)
    (row,) = worker.ended(task_id)
    assert guarded(row)["outcome"] == "terminated"
    assert facts(row)["signal"] == "SIGTERM"
    assert worker.trace_of(row) == {"caller": None, "cases.waits": "caller", "step": "cases.waits"}


def test_the_worker_is_stopped(worker: Worker) -> None:
    """On SIGTERM a running task ends normally, and the children deliver everything."""
    task_id = worker.send("cases.waits", 1)
    until(lambda: worker.server.open_spans(), what="its start")
    worker.process.send_signal(signal.SIGTERM)
    (row,) = worker.ended(task_id)
    assert (guarded(row), row["output"]) == ({"outcome": "ok"}, "waited")
    until(lambda: not journals(worker.directory), what="the end of the children")
    assert worker.server.open_spans() == []
