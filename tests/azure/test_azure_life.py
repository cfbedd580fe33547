"""The life of a worker process: from placeholder to app, and its ends."""

from __future__ import annotations

import signal

import pytest
from azure_host import triggers
from azure_host.answer import WorkerEnded
from azure_host.deployment import Deployments, named, outcome_of, root_of
from azure_host.installation import needs_runtime
from support import until

pytestmark = needs_runtime


def test_a_placeholder_takes_the_settings_of_its_app(deploy: Deployments) -> None:
    """A function that is guarded before the worker's environment is set delivers to the destination of that
    environment."""
    app = deploy("azure_placeholder", is_placeholder=True)
    app.host.start().specialize({**app.settings, "PYTHON_SCRIPT_FILE_NAME": "real_app.py"})
    assert not app.directory.exists()
    assert app.host.invoke("take", triggers.queue("one")).value == "one"
    root = root_of(app.server.span_rows())
    assert (outcome_of(root), root["metadata"]["faas.name"]) == ("ok", "shop/take")


@pytest.mark.parametrize(
    ("function", "env", "status"),
    [("waits", {}, -signal.SIGTERM), ("waits_async", {}, -signal.SIGTERM), ("blocks_the_loop", {}, -signal.SIGTERM),
     ("waits", {"OWN_HANDLER": "yes"}, 7)],
    ids=["in a thread", "on the loop", "blocks the loop", "own handler"],
)
def test_sigterm_closes_and_delivers(deploy: Deployments, function: str, env: dict[str, str], status: int) -> None:
    """SIGTERM during a function closes its spans as terminated and delivers them. Then the worker ends as without
    the guard, by the app's own handler if it has one."""
    for guarded in ("yes", "no"):
        app = deploy("azure_life", FUNCTION=function, GUARDED=guarded, **env)
        begun = app.host.start().begin(function, triggers.timer())
        until(lambda app=app: "begun" in app.host.log)
        app.host.signal(signal.SIGTERM)
        assert app.host.wait() == status
        with pytest.raises(WorkerEnded):
            app.host.result(begun)
    rows = named(deploy("azure_life", FUNCTION=function, GUARDED="yes", **env).server.span_rows())
    assert {name: outcome_of(row) for name, row in rows.items()} == {function: "terminated", "step": "terminated"}
    assert all(row["metrics"]["end"] >= row["metrics"]["start"] for row in rows.values())


@pytest.mark.parametrize("flush", ["before-response", "after-response"])
def test_sigterm_between_invocations(deploy: Deployments, flush: str) -> None:
    """SIGTERM between invocations ends the worker as without the guard, and remaining rows are delivered with their
    own outcome."""
    app = deploy("azure_life", TRACE_GUARD_FLUSH=flush)
    assert app.host.start().invoke("returns", triggers.timer()).ok
    app.host.signal(signal.SIGTERM)
    assert app.host.wait() == -signal.SIGTERM
    assert outcome_of(root_of(app.server.span_rows())) == "ok"


def test_a_killed_worker_is_recovered(deploy: Deployments) -> None:
    """The next invocation on the same disk closes the spans of a killed worker as abandoned."""
    app = deploy("azure_life", KILLED="yes")
    begun = app.host.start().begin("waits", triggers.timer())
    until(lambda: "begun" in app.host.log)
    app.host.kill()
    with pytest.raises(WorkerEnded):
        app.host.result(begun)
    app.host.start()
    assert app.host.invoke("returns", triggers.timer()).ok
    until(lambda: {"waits", "returns"} <= set(named(app.server.span_rows())) and not app.server.open_spans())
    rows = named(app.server.span_rows())
    assert {name: outcome_of(row) for name, row in rows.items()} == {
        "waits": "abandoned", "returns": "ok", **({"step": "abandoned"} if "step" in rows else {}),
    }


@pytest.mark.parametrize(
    ("name", "function", "env"),
    [("azure_timeout", "hangs", {}), ("azure_timeout", "hangs_async", {}),
     ("azure_life", "waits", {"TRACE_GUARD_TIMEOUT": "1"})],
    ids=["host.json", "host.json, async", "variable"],
)
def test_a_function_that_outlasts_its_timeout(
    deploy: Deployments, name: str, function: str, env: dict[str, str]
) -> None:
    """Before the timeout from host.json or the variable, a function's trace is closed as timed out and delivered.
    The kill that follows does not change it."""
    app = deploy(name, FUNCTION=function, **env)
    begun = app.host.start().begin(function, triggers.timer())
    until(lambda: function in named(app.server.span_rows()) and not app.server.open_spans())
    assert not begun.done()
    rows = named(app.server.span_rows())
    assert {name: outcome_of(row) for name, row in rows.items()} == {function: "timed_out", "step": "timed_out"}
    assert rows[function]["metrics"]["end"] - rows[function]["metrics"]["start"] >= 0.5
    app.host.kill()
    assert named(app.server.span_rows()) == rows
