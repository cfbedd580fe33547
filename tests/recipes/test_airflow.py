"""The Airflow recipe under the real task runner, which forks each attempt and ends it with ``os._exit``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from contract.suite import outcomes, parents
from support import REPOSITORY, environment, traces_in

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

EXAMPLE = REPOSITORY / "examples" / "airflow_dag"
CASES = Path(__file__).parent / "airflow_cases"
PYTHON = Path(os.environ.get("TRACE_GUARD_AIRFLOW_PYTHON") or REPOSITORY / ".venv-airflow" / "bin" / "python")

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="Airflow has an environment of its own: make .venv-airflow, or set "
    "TRACE_GUARD_AIRFLOW_PYTHON to a Python that has apache-airflow-core and braintrust",
)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Row]]]:
    """The traces of both DAGs' attempts by root name, in order of their start."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    shutil.copytree(EXAMPLE, dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CASES / "killed.py", dags)
    with BraintrustServer() as server:
        env = environment(server, home / "trace-guard", TRACE_GUARD_PROJECT="project")
        ran = subprocess.run(
            [PYTHON, CASES / "run_dags.py", "ticket_digest.py:ticket_digest", "killed.py:killed"],
            env={
                "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(REPOSITORY),
                "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1", **env,
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180,
        )
        assert ran.returncode == 0, ran.stdout
        assert [line for line in ran.stdout.splitlines() if line.startswith("DAG ")] == [
            "DAG ticket_digest success", "DAG killed success",
        ], ran.stdout
        assert server.open_spans() == []
        found: dict[str, list[list[Row]]] = {}
        for trace in traces_in(server.span_rows()):
            (root,) = [row for row in trace if not row["span_parents"]]
            found.setdefault(root["span_attributes"]["name"], []).append([root, *(r for r in trace if r is not root)])
        return found


def job(trace: list[Row]) -> dict[str, Any]:
    """The job facts of an attempt."""
    said: dict[str, Any] = trace[0]["metadata"]["job"]
    return said


def test_a_task(traces: dict[str, list[list[Row]]]) -> None:
    """A task's only attempt is a closed trace with the facts of its DAG run, delivered from its own process."""
    (trace,) = traces["ticket_digest.load_tickets"]
    assert outcomes(trace) == {"ticket_digest.load_tickets": {"outcome": "ok"}}
    assert trace[0]["output"] == ["Where is my invoice?", "The app does not start."]
    assert job(trace).items() >= {
        "platform": "airflow", "dag": "ticket_digest", "task": "load_tickets", "attempt": 1, "retries": 0,
    }.items()


def test_a_task_that_is_retried(traces: dict[str, list[list[Row]]]) -> None:
    """Each attempt is a trace with its number and its own end; both share the group and the DAG run."""
    first, second = traces["ticket_digest.summarize"]
    assert parents(second) == {"ticket_digest.summarize": None, "complete": "ticket_digest.summarize"}
    assert (job(first)["attempt"], first[0]["metadata"]["trace_guard"]) == (1, {"outcome": "error"})
    assert "Overloaded: the model is overloaded" in first[0]["error"]
    assert (job(second)["attempt"], second[0]["metadata"]["trace_guard"]) == (2, {"outcome": "ok"})
    assert job(first)["group"] == job(second)["group"]
    assert {job(trace)["run"] for trace in (first, second, *traces["ticket_digest.load_tickets"])} == {
        job(first)["run"],
    }


def test_a_task_that_is_killed(traces: dict[str, list[list[Row]]]) -> None:
    """The next attempt on the same disk closes what a killed attempt left open."""
    first, second = traces["killed.is_killed"]
    abandoned = {"outcome": "abandoned", "closed_by": "recovery", "reason": "process_ended"}
    assert outcomes(first) == {"killed.is_killed": abandoned, "step": abandoned}
    assert (job(first)["attempt"], job(second)["attempt"]) == (1, 2)
    assert outcomes(second) == {"killed.is_killed": {"outcome": "ok"}, "step": None}
