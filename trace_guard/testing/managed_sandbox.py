"""Runs a Lambda handler as on managed instances: several workers of one environment, which is never frozen.

::

    with ManagedSandbox("app.handler", code="functions/support_bot", workers=2) as sandbox:
        results = list(ThreadPoolExecutor().map(sandbox.invoke, events))

The program is the real ``awslambdaric``, which forks the workers; only the service around it is stood in for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from .freezable_process import FreezableProcess
from .lambda_function import Function, runtime_command, runtime_variables
from .managed_api import ManagedApi
from .runtime_api import Invocation

__all__ = ["ManagedResult", "ManagedSandbox"]

_INIT_SECONDS = 20.0


@dataclass(frozen=True)
class ManagedResult:
    """What a function's caller received.

    Attributes:
        status: ``ok``, ``error``, or ``timed_out``, after which the function continues.
        payload: the result, or the error that the runtime posted; None after a timeout.
        seconds: from handing over the event to the answer.
    """

    status: Literal["ok", "error", "timed_out"]
    payload: Any
    seconds: float
    request_id: str


class ManagedSandbox:
    """One execution environment of a function, started at once.

    Args:
        handler, code, env, tmp, python: as of :class:`.LambdaSandbox`.
        workers: how many processes take events, ``AWS_LAMBDA_MAX_CONCURRENCY``.
        timeout: seconds after which a caller is told that the time is up.

    Raises:
        RuntimeError: not every worker has asked for an event in 20 seconds.
    """

    def __init__(
        self,
        handler: str,
        *,
        code: str | Path,
        env: Mapping[str, str] | None = None,
        workers: int = 2,
        timeout: float = 3.0,
        tmp: str | Path | None = None,
        python: str = sys.executable,
    ) -> None:
        self.timeout = timeout
        self._outside = Path(tempfile.mkdtemp(prefix="managed-sandbox-"))
        self._log = self._outside / "log"
        self._log.touch()
        tmp = self._outside / "tmp" if tmp is None else Path(tmp).resolve()
        tmp.mkdir(parents=True, exist_ok=True)
        self.trace_guard_dir = Path((env or {}).get("TRACE_GUARD_DIR") or tmp / "trace-guard")
        self._function = Function(
            name="function", handler=handler, code=Path(code).resolve(), memory_mb=2048, python=python, tmp=tmp,
            trace_guard_dir=self.trace_guard_dir,
        )
        self._changed = threading.Condition(threading.RLock())
        self._api = ManagedApi(self._changed, function=self._function.metadata)
        variables = {
            "AWS_LAMBDA_MAX_CONCURRENCY": str(workers), "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
            # Makes the runtime ask for events on a thread. Managed instances need Python 3.13.
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", **(env or {}),
        }
        self._process = FreezableProcess(
            runtime_command(self._function, variables),
            env=runtime_variables(self._function, self._api.address, variables),
            cwd=self._function.code, log=self._log, changed=self._changed,
        )
        with self._changed:
            # The service waits for the first worker only, but tests need to know that all are running.
            self._changed.wait_for(lambda: self._api.asked >= workers or self._process.ended_at, _INIT_SECONDS)
        if self._api.asked < workers:
            log = self.log
            self.close()
            raise RuntimeError(f"not every worker has asked for an event: {log}")

    def __enter__(self) -> ManagedSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def log(self) -> str:
        """Everything that the workers wrote to stdout and stderr."""
        return self._log.read_text(errors="replace")

    def invoke(self, event: Any) -> ManagedResult:
        """Hand an event to a worker, and wait for the answer or the timeout. Thread-safe."""
        invocation = Invocation(
            event=json.dumps(event).encode(), timeout=self.timeout, function_arn=self._function.arn,
        )
        self._api.offer(invocation)
        with self._changed:
            self._changed.wait_for(lambda: invocation.handed_at or self._process.ended_at, _INIT_SECONDS)
            handed_at = invocation.handed_at or time.monotonic()
            self._changed.wait_for(
                lambda: invocation.returned_at or self._process.ended_at,
                max(0.0, handed_at + self.timeout - time.monotonic()),
            )
            if invocation.returned_at is None:
                return ManagedResult("timed_out", None, time.monotonic() - handed_at, invocation.request_id)
            status: Literal["ok", "error"] = "error" if invocation.failed else "ok"
            payload = json.loads(invocation.result)
            return ManagedResult(status, payload, invocation.returned_at - handed_at, invocation.request_id)

    def kill_worker(self, pid: int) -> None:
        """Kill one worker with SIGKILL. The others continue, and it is not replaced."""
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the workers, and remove the temporary directory if it is the sandbox's own."""
        self._process.kill()
        self._api.close()
        shutil.rmtree(self._outside, ignore_errors=True)
