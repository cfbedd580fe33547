"""Spans that are open on purpose outlive their invocation and their process."""

from __future__ import annotations

import time
from pathlib import Path

import braintrust
import pytest
from fixtures import MakeGuard
from support import Program, environment, pending_in, settings_for, until

from trace_guard import keep_open, recover
from trace_guard.testing import BraintrustServer


def still_open(server: BraintrustServer) -> set[str]:
    return {row["span_attributes"]["name"] for row in server.open_spans()}


def test_the_end_of_an_invocation_leaves_it_open(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """A marked span stays open when its invocation and the guard end, until its own code ends it; others are closed,
    and so is a root, or a span whose time has passed."""
    guard = make_guard()
    with guard.invocation("root") as invocation:
        keep_open(invocation.span, reason="waits")
        approval = braintrust.start_span("approval")
        keep_open(approval, reason="waits for a person", until=time.time() + 3600)
        over = braintrust.start_span("over")
        keep_open(over, reason="has waited", until=time.time() - 1)
        braintrust.start_span("forgotten")
    until(lambda: len(server.span_rows()) == 4)
    assert still_open(server) == {"approval"}
    with guard.invocation("next"):
        approval.end()
    until(lambda: not still_open(server))
    (row,) = [row for row in server.span_rows() if row["span_attributes"]["name"] == "approval"]
    assert "closed_by" not in row["metadata"]["trace_guard"]


@pytest.mark.parametrize("way", ["ends", "is killed"])
def test_the_end_of_a_process_leaves_it_open(server: BraintrustServer, directory: Path, way: str) -> None:
    """A marked span stays open when its process ends or is killed, and nothing is left behind for it on disk."""
    with Program("""
    import braintrust
    from trace_guard import Guard, keep_open
    guard = Guard()
    guard.invocation("root").open()
    keep_open(braintrust.start_span("approval"), reason="waits for a person")
    braintrust.start_span("forgotten")
    braintrust.flush()
    guard.flush(10)
    say("open")
    listen()
    """, environment(server, directory)) as program:
        program.expects("open")
        assert still_open(server) == {"root", "approval", "forgotten"}
        if way == "ends":
            program.tell()
            program.ends_well()
        else:
            program.kill()
    recover(settings_for(server, directory))
    assert still_open(server) == {"approval"}
    assert pending_in(directory) == []
