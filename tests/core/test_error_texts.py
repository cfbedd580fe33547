"""The error of a span is bounded, and survives when its row has to be reduced."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import braintrust
import pytest
from fixtures import MakeGuard
from support import start_row

from trace_guard.outcome import ClosedBy, Outcome
from trace_guard.rows import ERROR_LIMIT, closing_row, lifecycle, without_payload
from trace_guard.testing import BraintrustServer, Fault

LARGE = ValueError("begins", b"\0" * 2_000_000, "ends")


def root_of(server: BraintrustServer) -> dict[str, Any]:
    return next(row for row in server.span_rows() if row["span_attributes"]["name"] == "root")


@pytest.mark.parametrize("mask", [None, lambda text: text.replace("begins", "masked")])
def test_a_large_error_is_cut(server: BraintrustServer, make_guard: MakeGuard, mask: Any) -> None:
    """An exception that carries its data costs a bounded row, which has the traceback, the beginning and the end of the
    message, and how much was cut."""
    guard = make_guard(linger=60)
    braintrust.set_masking_function(mask)
    try:
        with contextlib.suppress(ValueError), guard.invocation("root") as invocation:
            raise LARGE
    finally:
        braintrust.set_masking_function(None)
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is invocation.delivery.DELIVERED
    error = root_of(server)["error"]
    assert error.startswith("Traceback (most recent call last)")
    assert "ValueError: ('begins'" in error or (mask is not None and "ValueError: ('masked'" in error)
    assert error.rstrip().endswith("'ends')")
    assert "characters cut by trace-guard" in error
    assert len(error) < ERROR_LIMIT + 100
    assert max(len(request.body) for request in server.requests_to("/logs3")) < 4 * ERROR_LIMIT


def test_the_error_stays_on_a_row_that_is_refused_for_its_size(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """A root that the server refuses for what its user has logged is closed with its error, in short."""
    server.max_body_bytes = 100_000
    guard = make_guard(linger=60)
    with contextlib.suppress(ValueError), guard.invocation("root") as invocation:
        invocation.span.log(metadata={"large": "x" * 200_000})
        raise LARGE
    root = root_of(server)
    assert "ValueError: ('begins'" in root["error"]
    assert root["error"].rstrip().endswith("'ends')")
    assert root["metadata"]["trace_guard"]["payload_dropped"] is True
    assert root["metrics"]["end"]


def test_an_error_that_is_refused_itself_does_not_keep_the_span_open(
    server: BraintrustServer, make_guard: MakeGuard
) -> None:
    """If the server takes no form of the error, the span is closed without it."""
    server.fail("/logs3", Fault.refuse_rows(lambda row: row.get("error")))
    guard = make_guard(linger=60)
    with contextlib.suppress(ValueError), guard.invocation("root"):
        raise ValueError("refused")
    assert "error" not in root_of(server)
    assert server.open_spans() == []


@pytest.mark.parametrize("reduce", [without_payload, lifecycle])
@pytest.mark.parametrize(("error", "begins", "ends"), [
    ("Traceback:\n  line\n" + "x" * 100_000 + "\nValueError: no", "Traceback:\n  line\nxxx", "\nValueError: no"),
    ({"message": "no", "more": "x" * 100_000}, '{"message": "no", "more": "xxx', 'x"}'),
    ("a\x00b\ud800", r"a\x00b\ud800", r"\ud800"),
])
def test_each_reduced_row_keeps_its_error(reduce: Any, error: Any, begins: str, ends: str) -> None:
    """However a row is reduced, the error stays as plain text: its beginning and its end."""
    row = {**start_row("root"), "error": error, "input": "x", "metrics": {"start": 1.0, "end": 2.0}}
    reduced = reduce(row)
    assert reduced["error"].startswith(begins)
    assert reduced["error"].endswith(ends)
    assert len(reduced["error"]) < 5000
    assert "input" not in reduced


def test_each_closing_row_has_a_bounded_error() -> None:
    """Whoever closes a span, the error of the closing row is bounded."""
    row = closing_row(
        start_row("root"), end=2.0, outcome=Outcome.ERROR, closed_by=ClosedBy.SUPERVISOR, error="a" * 100_000 + "b"
    )
    assert len(row["error"]) < ERROR_LIMIT + 100
    assert row["error"].endswith("b")
