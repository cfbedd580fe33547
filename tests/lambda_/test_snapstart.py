"""SnapStart and provisioned concurrency: environments that are initialised long before their first event."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, Program, delivered, environment, pending_in, until

from trace_guard.testing import BraintrustServer, Fault, LambdaSandbox

CODE = Path(__file__).parents[1] / "functions" / "snapstart_cases"


def sandbox(server: BraintrustServer, kind: str = "snap-start", **env: str) -> LambdaSandbox:
    server.add_project("function", PROJECT_ID)
    variables = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "AWS_LAMBDA_INITIALIZATION_TYPE": kind, "TRACE_GUARD_PROJECT": "function", **env,
    }
    return LambdaSandbox("app.handler", code=CODE, env=variables)


def roots(server: BraintrustServer) -> list[dict[str, Any]]:
    """The roots of the invocations, oldest first."""
    found = [row for row in server.span_rows() if row["span_attributes"]["name"] == "function"]
    return sorted(found, key=lambda row: row["metrics"]["start"])


def drop_connections(server: BraintrustServer) -> None:
    """Close idle connections, as happens while an environment is suspended."""
    server.refuse_connections()
    server.accept_connections()


def test_a_function_works_after_a_restore(server: BraintrustServer) -> None:
    """Rows of the init are delivered before the snapshot. After the restore, a function has its own journal and new
    connections, and its first invocation starts with its event and is a cold start."""
    with sandbox(server, WARM_UP="1", LOG_AT_INIT="1") as function:
        function.start()
        function.wait_frozen(5)
        init = {row["span_attributes"]["name"] for row in server.span_rows()}
        assert init == {"model loaded", "function", "work"}
        assert (server.open_spans(), pending_in(function.trace_guard_dir)) == ([], [])
        before = [path.name for path in (function.trace_guard_dir / "journals").iterdir()]
        drop_connections(server)
        restored_at = time.time()
        results = [function.invoke({}) for _ in range(3)]
        assert [result.status for result in results] == ["ok"] * 3
        assert (server.open_spans(), pending_in(function.trace_guard_dir)) == ([], [])
        names = {result.payload["journal"] for result in results}
        assert (len(names), names & set(before), len(before)) == (1, set(), 1)
        assert "trace-guard" not in function.log
    warm_up, *found = roots(server)
    assert [root["metadata"]["faas.coldstart"] for root in (warm_up, *found)] == [True, True, False, False]
    assert found[0]["metrics"]["start"] >= restored_at
    assert len(server.requests_to("/v1/project")) == 1  # before the snapshot, so that no copy needs to


def test_a_backend_that_is_down_delays_the_snapshot_within_bounds(server: BraintrustServer) -> None:
    """A backend that does not answer delays the snapshot within bounds, and all rows are delivered after the
    restore."""
    server.fail("/logs3", Fault.black_hole())
    server.fail("/v1/project", Fault.black_hole())
    with sandbox(server, LOG_AT_INIT="1", TRACE_GUARD_EXIT_TIMEOUT="0.4") as function:
        began = time.monotonic()
        function.start()
        assert time.monotonic() - began < 5
        server.heal()
        drop_connections(server)
        assert [function.invoke({}).status for _ in range(2)] == ["ok", "ok"]
        until(lambda: delivered(server) and len(server.span_rows()) == 5 and not pending_in(function.trace_guard_dir))
    assert {row["project_id"] for row in server.span_rows()} == {PROJECT_ID}


def test_a_failing_restore_hook_is_reported(server: BraintrustServer) -> None:
    """A user's hook that raises after the restore ends the environment with its error, as without the guard."""
    with sandbox(server, FAIL_RESTORE="1") as function:
        function.start()
        result = function.invoke({})
    assert (result.status, result.exit_status) == ("error", 65)
    assert (result.payload["errorType"], result.payload["errorMessage"]) == ("OSError", "the database is gone")


def test_copies_of_one_snapshot_share_nothing(server: BraintrustServer, directory: Path) -> None:
    """Environments restored from one snapshot, including its random state, have their own ids and journals."""
    code = f"""
        import json, random, types
        sys.path.insert(0, {str(CODE)!r})
        import app
        from awslambdaric import lambda_runtime_hooks_runner as hooks
        context = types.SimpleNamespace(function_name="function", get_remaining_time_in_millis=lambda: 20000)
        hooks.run_before_snapshot()
        state = random.getstate()
        for _ in range(3):
            if os.fork() == 0:
                random.setstate(state)  # which Python renews in a forked child, and nobody in a copy
                hooks.run_after_restore()
                say(json.dumps(app.handler({{}}, context)))
                app.default_guard().close()
                os._exit(0)
        for _ in range(3):
            os.wait()
    """
    variables = environment(server, directory, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start", LOG_AT_INIT="1")
    with Program(code, variables) as program:
        told = [json.loads(program.hears()) for _ in range(3)]
        program.ends_well()
    assert len({one["journal"] for one in told}) == 3
    assert delivered(server)
    spans = [row for row in server.span_rows() if row["span_attributes"]["name"] in ("function", "work")]
    assert len(spans) == 6
    assert [len({row[key] for row in spans}) for key in ("id", "span_id", "root_span_id")] == [6, 6, 3]


@pytest.mark.parametrize("kind", ["provisioned-concurrency", "on-demand"])
def test_an_environment_initialised_in_advance(server: BraintrustServer, kind: str) -> None:
    """Long after the init, with all connections closed by the server, the first invocation is delivered without a
    warning. It starts with its event and is cold only if a caller waited."""
    with sandbox(server, kind) as function:
        function.start()
        function.wait_frozen(5)
        until(lambda: server.requests)
        drop_connections(server)
        invoked_at = time.time()
        results = [function.invoke({}) for _ in range(2)]
        assert [result.status for result in results] == ["ok", "ok"]
        assert (server.open_spans(), pending_in(function.trace_guard_dir)) == ([], [])
        assert "trace-guard" not in function.log
    found = roots(server)
    assert [root["metadata"]["faas.coldstart"] for root in found] == [kind == "on-demand", False]
    assert min(row["metrics"]["start"] for row in server.span_rows()) >= invoked_at
    assert {row["project_id"] for row in server.span_rows()} == {PROJECT_ID}
