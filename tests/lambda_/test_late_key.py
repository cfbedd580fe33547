"""A Lambda function that gets its key in the first invocation, or never."""

from __future__ import annotations

from pathlib import Path

import pytest
from layer import built, unpacked
from layer import sandbox as layered
from planted_keys import PLANTED_KEY

from trace_guard.testing import BraintrustServer, LambdaSandbox

CODE = Path(__file__).parents[1] / "functions" / "late_key"


def sandbox(server: BraintrustServer, handler: str) -> LambdaSandbox:
    env = {"SECRET": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url}
    return LambdaSandbox(f"app.{handler}", code=CODE, env=env, timeout=5.0)


@pytest.mark.parametrize(("handler", "spans"), [("environment", 2), ("logger", 4)])
def test_the_first_invocation_is_delivered(server: BraintrustServer, handler: str, spans: int) -> None:
    """All traces of a function that fetches its key in the first invocation reach Braintrust, that one included."""
    with sandbox(server, handler) as function:
        assert [function.invoke({"n": n}).status for n in range(2)] == ["ok", "ok"]
        assert len(server.span_rows()) == spans  # before the freeze
        assert "not set" not in function.log
    assert server.open_spans() == []


def test_a_function_without_a_key_is_warned_about(server: BraintrustServer) -> None:
    """The log of a function without a key has one warning for each start."""
    with sandbox(server, "none") as function:
        assert [function.invoke({"n": n}).status for n in range(2)] == ["ok", "ok"]
        assert function.log.count("warning: BRAINTRUST_API_KEY is not set") == 1
    assert server.span_rows() == []


def test_the_external_extension_gets_the_key(server: BraintrustServer, tmp_path: Path) -> None:
    """The layer's extension delivers the first invocation with the key that the function got in it."""
    built(tmp_path / "layer.zip", "--no-dependencies")
    opt = unpacked(tmp_path / "layer.zip", tmp_path / "opt")
    env = {"SECRET": PLANTED_KEY, "BRAINTRUST_API_KEY": ""}
    with layered(server, opt, code=CODE, handler="app.environment", only_external=True, env=env) as function:
        assert [function.invoke({"n": n}).status for n in range(2)] == ["ok", "ok"]
        assert len(server.span_rows()) == 2
        assert not (function.trace_guard_dir / "traces.db").exists()
    assert server.open_spans() == []
