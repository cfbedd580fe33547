"""``trace-guard serve`` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import braintrust
logger = braintrust.init_logger(project="my project")
with logger.start_span("root") as root:
    root.start_span("left open")
braintrust.flush()
"""


def trace_guard(*words: str) -> list[str]:
    return [sys.executable, "-m", "trace_guard", *words]


def query(url: str, text: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{url}/btql", json.dumps({"query": text}).encode(), {"Authorization": "Bearer any"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return list(json.loads(answer.read())["data"])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "trace-guard"


@pytest.fixture
def served(directory: Path) -> Iterator[str]:
    """The URL of a server on the directory, which is stopped with Ctrl-C."""
    command = trace_guard("serve", "--dir", str(directory))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert url is not None
        yield url.group()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_the_sdk_logs_into_the_local_store(served: str, directory: Path) -> None:
    """The unguarded SDK, pointed at `serve`, fills the local store, which `traces` lists and queries read."""
    text = "SELECT span_attributes, metrics FROM project_logs('my project') WHERE created > now() - interval 1 hour"
    assert query(served, text) == []
    variables = {"BRAINTRUST_API_KEY": "any", "BRAINTRUST_API_URL": served, "BRAINTRUST_APP_URL": served}
    subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, **variables}, check=True)
    found = {row["span_attributes"]["name"]: "end" in row["metrics"] for row in query(served, text)}
    assert found == {"root": True, "left open": False}
    assert len(query(served, f"{text} AND metrics.end IS NULL")) == 1
    done = subprocess.run(trace_guard("traces", "--json", "--dir", str(directory)), capture_output=True, check=True)
    (trace,) = json.loads(done.stdout)["traces"]
    assert (trace["project"], trace["name"], trace["open_spans"]) == ("my project", "root", 1)


def test_a_taken_port_is_an_error(served: str, directory: Path) -> None:
    """A port that is taken is a usage error that says what to do."""
    command = trace_guard("serve", "--port", served.rpartition(":")[2], "--dir", str(directory))
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "choose another --port" in done.stderr) == (2, True)
