"""The contract for tasks on their workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from contract import user_code
from contract.suite import Contract, Seen, outcomes
from ray_.driver import Driver


class AsTask:
    """A task that is submitted outside of any span."""

    captures_output = True

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def run(self, code: Callable[[], Any]) -> Seen:
        before = {row["root_span_id"] for row in self._driver.server.span_rows()}
        self._driver.program.tell(f"contract {code.__name__}")
        told = self._driver.hears()
        error = type(told["error"], (Exception,), {})() if "error" in told else None
        rows = [row for row in self._driver.server.span_rows() if row["root_span_id"] not in before]
        return Seen(told.get("value"), error, rows)

    def tells(self, error: type[BaseException]) -> str:
        # A worker that exits loses its exit status.
        return {SystemExit: "WorkerCrashedError", KeyboardInterrupt: "TaskCancelledError"}.get(error, error.__name__)


@pytest.fixture
def subject(driver: Driver) -> AsTask:
    return AsTask(driver)


class TestTasks(Contract):
    """Tasks, each delivered before its result is available."""

    def test_an_error_that_cant_be_formatted_is_raised(self, subject: AsTask) -> None:
        """The root has the type of an exception that raises when it is formatted. Ray, which formats it too, raises
        another exception for the caller."""
        seen = subject.run(user_code.raises_an_error_that_has_no_text)
        assert type(seen.error).__name__ == "RuntimeError"
        assert outcomes(seen.rows) == {"root": {"outcome": "error"}}
        assert "Silent" in seen.rows[0]["error"]
