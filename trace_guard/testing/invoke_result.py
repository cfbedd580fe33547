"""The result of an invocation, in the service's wording."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .execution_environment import Environment
from .runtime_api import Invocation

__all__ = ["InvokeResult", "Status", "result_of"]

Status: TypeAlias = Literal["ok", "error", "timed_out", "crashed"]


@dataclass(frozen=True)
class InvokeResult:
    """What came of one invocation. Lengths are in seconds, points in time in seconds since the epoch.

    Attributes:
        status: ``ok``; ``error``: the handler raised, or could not be imported; ``timed_out``; ``crashed``:
            the process, or an external extension, ended before it had answered.
        payload: what the caller gets: the result, or an object with ``errorType`` and ``errorMessage``.
        seconds: from the handing over of the event to the response, or to death. 0.0 if the init failed.
        billed_seconds: from the handing over of the event to the wish for the next one, of the function and of
            all extensions, or to death. How long the service then takes to end all processes does not count.
        init_seconds: from the start of the process to its readiness or death; 0.0 if it was running already.
        cold: True if the process was started for this invocation.
        log: what the process wrote to stdout and stderr meanwhile, a cold one's init included.
        pid: the runtime's; 0 if an extension failed before it was started.
        returned_at: when the caller got the payload.
        frozen_at: when all had asked for the next event, upon which they are frozen; None if the process died.
        exit_status: what the process ended with, negative for a signal; None if it lives, or was not started.
    """

    status: Status
    payload: Any
    seconds: float
    billed_seconds: float
    init_seconds: float
    cold: bool
    request_id: str
    pid: int
    returned_at: float
    frozen_at: float | None
    exit_status: int | None
    log: str = field(repr=False)


def result_of(
    invocation: Invocation, environment: Environment, *, cold: bool, timed_out: bool, log: str
) -> InvokeResult:
    """The result of an invocation that has ended, as the function is frozen or dead.

    An answered invocation has succeeded or failed for its caller, even if the function was killed afterwards.
    """
    api, runtime = environment.api, environment.runtime
    ended_at = environment.ended_at
    handed_at = invocation.handed_at or ended_at
    finished_at = invocation.finished_at or ended_at
    returned_at = invocation.returned_at or ended_at
    status, payload = _answer(invocation, environment, timed_out)
    return InvokeResult(
        status=status,
        payload=payload,
        seconds=returned_at - handed_at,
        billed_seconds=finished_at - handed_at,
        init_seconds=(api.ready_at or ended_at) - environment.started_at if cold else 0.0,
        cold=cold,
        request_id=invocation.request_id,
        pid=runtime.pid if runtime else 0,
        returned_at=_epoch(returned_at),
        frozen_at=None if invocation.finished_at is None else _epoch(invocation.finished_at),
        exit_status=runtime.exit_status if runtime else None,
        log=log,
    )


def _answer(invocation: Invocation, environment: Environment, timed_out: bool) -> tuple[Status, Any]:
    if invocation.returned_at is not None:
        return "error" if invocation.failed else "ok", _parsed(invocation.result)
    if environment.api.init_error is not None:
        return "error", _parsed(environment.api.init_error)
    prefix = f"RequestId: {invocation.request_id} Error: "
    if timed_out:
        init = invocation.handed_at is None
        what = "Init timed out" if init else f"Task timed out after {invocation.timeout:.2f} seconds"
        return "timed_out", {"errorType": "Sandbox.Timedout", "errorMessage": prefix + what}
    name, dead = environment.first_dead or (None, environment.runtime)
    exit_status = dead.exit_status or 0 if dead else 0
    if name is None:
        return "crashed", {"errorType": "Runtime.ExitError", "errorMessage": prefix + _death_of_runtime(exit_status)}
    kind = next((each.error for each in environment.api.extensions if each.name == name), None) or "Extension.Crash"
    return "crashed", {"errorType": kind, "errorMessage": prefix + _end(exit_status)}


def _death_of_runtime(exit_status: int) -> str:
    if exit_status == 0:
        return "Runtime exited without providing a reason"
    return f"Runtime exited with error: {_end(exit_status)}"


def _end(exit_status: int) -> str:
    if exit_status == 0:
        return "exit code 0"
    if exit_status > 0:
        return f"exit status {exit_status}"
    killed = -exit_status == signal.SIGKILL
    return "signal: " + ("killed" if killed else (signal.strsignal(-exit_status) or str(-exit_status)).lower())


def _parsed(body: bytes) -> Any:
    """The JSON that the function sent; a string if it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _epoch(moment: float) -> float:
    return time.time() - (time.monotonic() - moment)
