"""The promises that every way of guarding keeps, on every platform.

To test an adapter, subclass :class:`Contract` with a fixture ``subject``, see :class:`Subject`. If it can be called
within the test's process, subclass :class:`ContractInProcess`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from contract import user_code
from support import without_place

from trace_guard.rows import Row

__all__ = ["Contract", "ContractInProcess", "Seen", "Subject", "outcomes", "parents"]


@dataclass
class Seen:
    """The result of one guarded call.

    Attributes:
        value: the result that the caller got.
        error: the name of the error that the caller got, or None.
        rows: the spans that the server has after the call.
    """

    value: Any = None
    error: BaseException | None = None
    rows: list[Row] = field(default_factory=list)


class Subject(Protocol):
    """One way to guard a function. ``captures_output`` is False for kinds without a single result."""

    captures_output: bool

    def run(self, code: Callable[[], Any]) -> Seen:
        """Run a function of :mod:`contract.user_code` under guard, with a root span called ``root``."""
        ...

    def tells(self, error: type[BaseException]) -> str:
        """The name of the error that the caller sees when user code raises this error."""
        ...


def outcomes(rows: list[Row]) -> dict[str, dict[str, Any] | None]:
    """The guard's metadata of each span, by name. Each span must be closed."""
    assert [row for row in rows if not row["metrics"].get("end", 0) >= row["metrics"]["start"] > 0] == []
    return {
        row["span_attributes"]["name"]: without_place(row) for row in rows
    }


def parents(rows: list[Row]) -> dict[str, str | None]:
    """The name of each span's parent, by the span's name."""
    names = {row["span_id"]: row["span_attributes"]["name"] for row in rows}
    assert len({row["root_span_id"] for row in rows}) == 1
    return {
        row["span_attributes"]["name"]: names[row["span_parents"][0]] if row["span_parents"] else None
        for row in rows
    }


FORCED = {"outcome": "ok", "closed_by": "guard", "reason": "left_open"}
ERRORS = {
    "raises_exception": ValueError,
    "raises_from_another": ValueError,
    "raises_while_handling": ValueError,
    "exits": SystemExit,
    "exits_the_usual_way": SystemExit,
    "is_interrupted": KeyboardInterrupt,
}


class Contract:
    """The promises that the caller and the server can see."""

    @pytest.mark.parametrize("code", ["returns", "returns_nothing"])
    def test_a_result_is_returned(self, subject: Subject, code: str) -> None:
        """A result reaches the caller, and the only root is closed with the outcome ok."""
        seen = subject.run(getattr(user_code, code))
        expected = getattr(user_code, code)()
        assert (seen.value, seen.error) == (expected, None)
        assert outcomes(seen.rows) == {"root": {"outcome": "ok"}}
        assert parents(seen.rows) == {"root": None}
        if subject.captures_output:
            assert seen.rows[0].get("output") == expected

    @pytest.mark.parametrize("code", ERRORS)
    def test_an_error_is_tagged_and_raised_on(self, subject: Subject, code: str) -> None:
        """An exception of any kind reaches the caller, and the closed root has it with its traceback."""
        kind = ERRORS[code]
        seen = subject.run(getattr(user_code, code))
        assert type(seen.error).__name__ == subject.tells(kind)
        assert outcomes(seen.rows) == {"root": {"outcome": "error"}}
        (root,) = seen.rows
        lines = root["error"].strip().splitlines()
        assert lines[0].startswith(("Traceback (most recent call last):", "KeyError"))
        assert any(f"in {code}" in line for line in lines)
        assert lines[-1].startswith(kind.__name__)
        assert "output" not in root

    def test_an_error_that_cant_be_formatted_is_raised(self, subject: Subject) -> None:
        """An exception that raises when it is looked at reaches the caller, and its kind stands on the root."""
        seen = subject.run(user_code.raises_an_error_that_has_no_text)
        assert type(seen.error).__name__ in ("Silent", "Runtime.ExitError")
        assert outcomes(seen.rows) == {"root": {"outcome": "error"}}
        assert "Silent" in seen.rows[0]["error"]

    def test_the_root_is_on_disk_before_user_code_runs(self, subject: Subject) -> None:
        """When user code runs, the journal on disk has the invocation and one open span, its root."""
        assert subject.run(user_code.reads_the_journal).value == {"invocations": 1, "open": ["root"]}

    def test_spans_of_user_code_lie_below_the_root(self, subject: Subject) -> None:
        """Spans of user code are below the root and are unchanged."""
        seen = subject.run(user_code.traces_steps)
        assert seen.value == "CBA"
        assert parents(seen.rows) == {"root": None, "by hand": "root", "step": "root", "step_within": "step"}
        assert outcomes(seen.rows) == {
            "root": {"outcome": "ok"}, "by hand": None, "step": None, "step_within": None,
        }

    def test_a_span_that_raised_keeps_its_error(self, subject: Subject) -> None:
        """A span that an exception passes has the error as the SDK wrote it, and so has the root."""
        seen = subject.run(user_code.raises_within_a_step)
        errors = {row["span_attributes"]["name"]: row["error"] for row in seen.rows}
        assert set(errors) == {"root", "by hand"}
        assert all("ValueError" in error and "no such order" in error for error in errors.values())

    def test_spans_left_open_are_closed(self, subject: Subject) -> None:
        """Spans that user code leaves open are closed with the invocation, are marked, and have no error."""
        seen = subject.run(user_code.leaves_spans_open)
        assert seen.value == user_code.RESULT
        assert outcomes(seen.rows) == {
            "root": {"outcome": "ok"}, "outer": FORCED, "inner": FORCED, "innermost": FORCED, "closed": None,
            "below a closed one": FORCED,
        }
        assert [row["error"] for row in seen.rows if "error" in row] == []

    def test_spans_left_open_by_an_error_have_its_outcome(self, subject: Subject) -> None:
        """A span left open takes the outcome of its invocation, and only the root has the error."""
        seen = subject.run(user_code.leaves_spans_open_and_raises)
        forced = {**FORCED, "outcome": "error"}
        assert outcomes(seen.rows) == {"root": {"outcome": "error"}, "outer": forced, "inner": forced}
        assert [row["span_attributes"]["name"] for row in seen.rows if "error" in row] == ["root"]

    def test_spans_left_open_in_threads_are_closed(self, subject: Subject) -> None:
        """Spans that threads of the invocation leave open are closed with it."""
        seen = subject.run(user_code.leaves_spans_open_in_threads)
        assert outcomes(seen.rows) == {
            "root": {"outcome": "ok"}, "one": FORCED, "below one": FORCED, "two": FORCED, "below two": FORCED,
        }
        assert parents(seen.rows) == {
            "root": None, "one": "root", "below one": "one", "two": "root", "below two": "two",
        }

    def test_flush_within_is_harmless(self, subject: Subject) -> None:
        """``braintrust.flush()`` within an invocation does not change the delivered rows."""
        seen = subject.run(user_code.flushes_and_goes_on)
        assert outcomes(seen.rows) == {"root": {"outcome": "ok"}, "flushed": None}

    def test_a_nested_invocation_is_a_span(self, subject: Subject) -> None:
        """An invocation within an invocation is a span of the same trace with its own outcome."""
        seen = subject.run(user_code.nests_an_invocation)
        assert parents(seen.rows) == {"root": None, "nested": "root", "below nested": "nested"}
        assert outcomes(seen.rows) == {
            "root": {"outcome": "ok"}, "nested": {"outcome": "ok"}, "below nested": None,
        }
        (nested,) = [row for row in seen.rows if row["span_attributes"]["name"] == "nested"]
        assert (nested["input"], nested["output"]) == (1, 2)

    def test_a_nested_error_has_its_traceback(self, subject: Subject) -> None:
        """An error of a nested invocation is on that invocation only, with its traceback."""
        seen = subject.run(user_code.fails_in_a_nested_invocation)
        assert outcomes(seen.rows) == {"root": {"outcome": "ok"}, "nested": {"outcome": "error"}}
        errors = {row["span_attributes"]["name"]: row["error"] for row in seen.rows if "error" in row}
        assert list(errors) == ["nested"]
        assert errors["nested"].startswith("Traceback")
        assert errors["nested"].rstrip().endswith("LookupError: nothing there")

    def test_a_nested_guarded_function_opens_no_root(self, subject: Subject) -> None:
        """A guarded function that is called by a guarded function opens no root."""
        seen = subject.run(user_code.calls_a_guarded_function)
        assert seen.value == "CBA"
        assert parents(seen.rows) == {"root": None, "step": "root", "step_within": "step"}

    def test_one_invocation_leaves_nothing_for_the_next(self, subject: Subject) -> None:
        """Each invocation has its own trace, whatever the previous one left behind."""
        first = subject.run(user_code.leaves_spans_open)
        second = subject.run(user_code.traces_steps)
        assert parents(second.rows) == {"root": None, "by hand": "root", "step": "root", "step_within": "step"}
        assert not {row["root_span_id"] for row in first.rows} & {row["root_span_id"] for row in second.rows}


class ContractInProcess(Contract):
    """The promises that only a caller in the same process can see."""

    def test_the_result_is_the_same_object(self, subject: Subject) -> None:
        """The caller gets the same object that user code returned."""
        assert subject.run(user_code.returns).value is user_code.RESULT

    @pytest.mark.parametrize(
        "code",
        ["raises_exception", "raises_from_another", "raises_while_handling", "exits", "is_interrupted", "is_cancelled"],
    )
    def test_the_error_is_the_same_object(self, subject: Subject, code: str) -> None:
        """The caller gets the same exception that user code raised, with its frames, cause and context."""
        function = getattr(user_code, code)
        with pytest.raises(BaseException) as plain:  # noqa: PT011 - what it is without a guard
            function()
        expected = _shape(plain.value)
        error = subject.run(function).error
        if code == "is_cancelled" and sys.version_info < (3, 11):
            return  # there a cancelled task raises a new CancelledError in its waiters, guarded or not
        assert error is user_code.raised[0]
        assert _shape(error) == expected
        if len(user_code.raised) > 1:
            assert error.__context__ is user_code.raised[1]
            assert (error.__cause__ is user_code.raised[1]) == (code == "raises_from_another")

    def test_cancellation_is_an_error_that_is_raised_on(self, subject: Subject) -> None:
        """A CancelledError of user code ends the invocation as an error and is re-raised."""
        seen = subject.run(user_code.is_cancelled)
        assert outcomes(seen.rows) == {"root": {"outcome": "error"}}
        assert "CancelledError" in seen.rows[0]["error"].splitlines()[-1]


def _shape(error: BaseException | None) -> Any:
    """The frames of user code that an exception passed, and those of its causes."""
    if error is None:
        return None
    frames = [
        (frame.name, frame.line) for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == user_code.__file__
    ]
    return (
        type(error), error.args, frames, error.__suppress_context__, _shape(error.__cause__),
        _shape(error.__context__),
    )
