"""``trace-guard doctor``: what it finds in a sound set-up and in broken ones."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures import directory as directory
from fixtures import server as server
from support import environment

from trace_guard.testing import BraintrustServer, Fault

Findings = dict[str, dict[str, Any]]


def examine(*options: str, cwd: Path | None = None, **variables: str) -> tuple[int, Findings]:
    """The exit code and the findings by what was checked; of several, the worst."""
    ended = subprocess.run(
        [sys.executable, "-m", "trace_guard", "doctor", "--json", *options], env=variables, cwd=cwd,
        capture_output=True, text=True, timeout=120,
    )
    assert ended.stdout, ended.stderr
    order = ["good", "skipped", "warning", "problem"]
    findings = sorted(json.loads(ended.stdout)["findings"], key=lambda finding: order.index(finding["level"]))
    return ended.returncode, {finding["what"]: finding for finding in findings}


def test_a_sound_set_up(server: BraintrustServer, directory: Path) -> None:
    """With a key, a reachable service and a writable directory there is no problem, and the exit code is 0."""
    server.add_project("support-bot", "p-1")
    variables = environment(server, directory, TRACE_GUARD_PROJECT="support-bot", TRACE_GUARD_PROJECT_ID="")
    code, found = examine(**variables)
    assert code == 0
    checked = ("Python", "Braintrust SDK", "directory", "key", "project", "clock")
    assert [found[what]["level"] for what in checked] == ["good"] * len(checked)
    assert found["project"]["found"] == "support-bot, p-1"


def test_a_test_trace(server: BraintrustServer, directory: Path) -> None:
    """`--send` delivers one closed trace and reads it back."""
    code, found = examine("--send", **environment(server, directory))
    assert (code, found["test trace"]["level"]) == (0, "good")
    (root,) = server.span_rows()
    assert root["root_span_id"] in found["test trace"]["found"]
    assert server.open_spans() == []


def test_the_local_store(directory: Path) -> None:
    """`--send` works on the local store too."""
    variables = environment(None, directory, TRACE_GUARD_BACKEND="local")
    assert examine("--send", **variables)[1]["test trace"]["level"] == "good"


@pytest.mark.parametrize(("change", "what", "found", "advice"), [
    ({"BRAINTRUST_API_KEY": ""}, "destination", "no key", "BRAINTRUST_API_KEY"),
    ({"BRAINTRUST_API_KEY": "", "TRACE_GUARD_BACKEND": "braintrust"}, "key", "none", "BRAINTRUST_API_KEY"),
    ({"TRACE_GUARD_DISABLED": "true"}, "settings", "nothing is traced", "TRACE_GUARD_DISABLED"),
    ({"TRACE_GUARD_PROJECT_ID": "no-such"}, "project", "no project with the id", "TRACE_GUARD_PROJECT_ID"),
    ({"TRACE_GUARD_DIR": "/proc/nope"}, "directory", "can't be written", "TRACE_GUARD_DIR"),
    ({"BRAINTRUST_API_URL": "http://no-such-host.invalid"}, "no-such-host.invalid:80", "can't be found", "DNS"),
])
def test_problems(
    server: BraintrustServer, directory: Path, change: dict[str, str], what: str, found: str, advice: str
) -> None:
    """Each problem is found, with what to do about it, and the exit code is 1."""
    code, findings = examine(**environment(server, directory, **change))
    finding = findings[what]
    assert (code, finding["level"]) == (1, "problem")
    assert found in finding["found"]
    assert advice in finding["advice"]


def test_a_wrong_key(server: BraintrustServer, directory: Path) -> None:
    """A key that is refused is a problem, and is not shown."""
    server.fail("/api/apikey/login", Fault.status(401))
    code, found = examine(**environment(server, directory, BRAINTRUST_API_KEY="wrong-key-of-mine"))
    assert (code, found["key"]["level"]) == (1, "problem")
    assert "wrong-key-of-mine" not in json.dumps(found)


def test_nobody_listens(directory: Path) -> None:
    """A service that can't be reached is one problem; what depends on it is not checked."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        code, found = examine(**environment(
            None, directory, BRAINTRUST_API_KEY="key", BRAINTRUST_APP_URL=url, BRAINTRUST_API_URL=url,
        ))
    assert code == 1
    assert found[url.removeprefix("http://")]["level"] == "problem"
    assert found["key"]["level"] == "skipped"


def test_a_module(server: BraintrustServer, directory: Path, tmp_path: Path) -> None:
    """`--module` shows another project in init_logger(), and a module that guards nothing."""
    (tmp_path / "guarded.py").write_text(
        "import braintrust\nfrom trace_guard import Guard\nguard = Guard()\nguard.start()\n"
        "braintrust.init_logger(project='elsewhere')\n"
    )
    (tmp_path / "plain.py").write_text("x = 1\n")
    variables = environment(server, directory, TRACE_GUARD_PROJECT="here")
    _, found = examine("--module", "guarded", cwd=tmp_path, **variables)
    assert found["guard"]["level"] == "good"
    assert found["HTTP adapter"]["level"] == "good"
    assert "elsewhere" in found["project"]["found"]
    code, found = examine("--module", "plain", cwd=tmp_path, **variables)
    assert (code, found["guard"]["level"]) == (1, "problem")
    code, found = examine("--module", "missing", cwd=tmp_path, **variables)
    assert (code, found["module"]["level"]) == (1, "problem")


def test_the_table(server: BraintrustServer, directory: Path) -> None:
    """For people the findings are a table with what to do."""
    ended = subprocess.run(
        [sys.executable, "-m", "trace_guard", "doctor"], env=environment(server, directory, BRAINTRUST_API_KEY=""),
        capture_output=True, text=True, timeout=120,
    )
    assert "set BRAINTRUST_API_KEY" in ended.stdout
    assert "1 problem." in ended.stdout
