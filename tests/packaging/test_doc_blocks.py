"""The code in the README and in docs/ runs: each page's Python as a program, and the options of its commands."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import REPOSITORY, environment

from trace_guard.cli import main
from trace_guard.testing import BraintrustServer

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

# The reader's own code that a page takes for granted.
READERS_CODE = {
    "celery-airflow.md": """
        import sys
        from trace_guard import guard_job
        sys.modules["tracing"], task = sys, lambda function: function
    """,
    "cloud-run.md": """
        import flask, httpx, starlette.applications
        class Both(starlette.applications.Starlette):
            wsgi_app = flask.Flask("app").wsgi_app
        app, url = Both(), "http://localhost"
        httpx.post = lambda url, headers: headers["traceparent"]
        import braintrust
        braintrust.init_logger(project="support-bot").start_span("caller").__enter__()
    """,
    "how-it-works.md": "question, answer = '?', str.upper",
    "lambda.md": "import concurrent.futures; pending = []",
    "migrating.md": "import braintrust; from trace_guard_lambda import guard_handler; answer = str",
    "repair.md": """
        import braintrust
        from datetime import datetime, timedelta, timezone
        braintrust.init_logger(project="support-bot")
    """,
}
LEFT_OPEN = {"cloud-run.md": ["caller"], "repair.md": ["approval"]}
# Run elsewhere: under Ray (tests/ray_), as tests (tests/core/test_testing_page.py), and by the linter (tests/lint).
ELSEWHERE = ("lint.md", "ray.md", "testing-your-code.md")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page.name not in ELSEWHERE],
    ids=lambda page: page.name,
)
def test_python_runs(page: Path, tmp_path: Path) -> None:
    """The Python of a page runs as it stands, from top to bottom, and leaves only spans open that it means to."""
    program = "\n".join([textwrap.dedent(READERS_CODE.get(page.name, "")), *blocks(page, "python")])
    with BraintrustServer() as server:
        server.add_project("support-bot")
        variables = environment(
            server, tmp_path / "trace-guard", TRACE_GUARD_PROJECT_ID="", HOME=str(tmp_path), PATH=os.environ["PATH"],
            PYTHONPATH=f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'adapters'}",
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        left_open = [row["span_attributes"]["name"] for row in server.open_spans()]
    assert left_open == LEFT_OPEN.get(page.name, [])


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=lambda page: page.name)
def test_commands_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command of trace-guard on a page has the options that the page gives it."""
    for line in "".join(blocks(page, "console")).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if not line.startswith("$ trace-guard") or "run" in words[:2]:
            continue
        words = words[1:min((words.index(end) for end in ("|", "&&", "&") if end in words), default=len(words))]
        with contextlib.suppress(SystemExit):
            main([words[0], "--help"])
        about = capsys.readouterr().out
        assert about.startswith(f"usage: trace-guard {words[0]}"), line
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[\w-]+", about)), line
