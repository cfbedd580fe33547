"""Functions that workers of RQ and Dramatiq call: each call is a trace, whatever the worker does with its process."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gcf.services import roots
from servers.installation import PYTHON, needs_servers
from support import REPOSITORY, environment, until

from trace_guard.testing import BraintrustServer
from trace_guard.testing.cloud_run_service import free_port

pytestmark = needs_servers

JOBS = REPOSITORY / "tests" / "functions" / "queues"
# The worker of the first needs no server: it runs jobs in its own process. The other forks for each job, and the child
# ends without `atexit`.
RQ = {
    "in its process": """
        import fakeredis, rq
        connection = fakeredis.FakeStrictRedis()
        connection.client_list = lambda *_, **__: []  # which it can't answer
        work(connection, rq.SimpleWorker)
    """,
    "forking": """
        import redis, rq
        work(redis.Redis(port=int(os.environ["REDIS_PORT"])), rq.Worker)
    """,
}
RQ_PRELUDE = """
import os

def work(connection, worker):
    import rq
    queue = rq.Queue(connection=connection)
    for question in ("why", "bad", "slow"):
        queue.enqueue("jobs.score", question, job_timeout=1)
    worker([queue], connection=connection).work(burst=True)
"""
DRAMATIQ = """
import dramatiq
from dramatiq.brokers.stub import StubBroker
from jobs import score

broker = StubBroker()
dramatiq.set_broker(broker)
actor = dramatiq.actor(score, max_retries=1, min_backoff=1, max_backoff=2)
worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
worker.start()
for question in ("why", "bad"):
    actor.send(question)
broker.join(actor.queue_name, fail_fast=False)
worker.join()
worker.stop()
"""


def run(code: str, server: BraintrustServer, directory: Path, **more: str) -> None:
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "adapters", JOBS)))
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment(server, directory, **more)},
    )
    assert done.returncode == 0, done.stderr


def outcomes(server: BraintrustServer) -> list[tuple[Any, ...]]:
    """The question, outcome and kind of error of each trace."""
    return sorted(
        (root["input"]["args"][0], root["metadata"]["trace_guard"]["outcome"],
         str(root.get("error") or "").strip().rpartition("\n")[2].partition(":")[0].rpartition(".")[2])
        for root in roots(server.span_rows())
    )


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """A Redis of its own. Yields its port."""
    port = str(free_port())
    with subprocess.Popen(
        ["redis-server", "--port", port, "--save", "", "--dir", str(directory)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        until(lambda: "Ready to accept connections" in process.stdout.readline())  # type: ignore[union-attr]
        try:
            yield port
        finally:
            process.kill()


@pytest.mark.parametrize("kind", [
    "in its process",
    pytest.param("forking", marks=pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="no Redis on this machine: apt-get install redis-server"
    )),
])
def test_jobs_of_rq(server: BraintrustServer, directory: Path, tmp_path: Path, kind: str) -> None:
    """Each job of RQ is a trace, and the time limit that RQ raises from a signal handler ends it as an error."""
    code = RQ_PRELUDE + "\n".join(line.strip() for line in RQ[kind].splitlines())
    with redis_server(tmp_path) if kind == "forking" else contextlib.nullcontext("0") as port:
        run(code, server, directory, REDIS_PORT=port)
    assert outcomes(server) == [
        ("bad", "error", "ValueError"), ("slow", "error", "JobTimeoutException"), ("why", "ok", ""),
    ]
    assert server.open_spans() == []


def test_actors_of_dramatiq(server: BraintrustServer, directory: Path) -> None:
    """Each attempt of a message of Dramatiq is a trace, in whichever of the worker's threads it runs."""
    run(DRAMATIQ, server, directory)
    assert outcomes(server) == [("bad", "error", "ValueError"), ("bad", "error", "ValueError"), ("why", "ok", "")]
    assert server.open_spans() == []
