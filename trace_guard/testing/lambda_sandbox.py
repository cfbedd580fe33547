"""Runs a Lambda handler as AWS does: under its own runtime client, frozen between events, killed in time.

::

    with LambdaSandbox("app.handler", code="functions/support_bot", timeout=3.0) as sandbox:
        result = sandbox.invoke({"question": "why?"})
        assert result.status == "ok"

The program is the real ``awslambdaric``; only the service around it is stood in for. What the service does on
a timeout, a crash and a failed init, and in which words, follows AWS's documentation and its emulator.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from .execution_environment import Environment, Function, start_environment
from .invoke_result import InvokeResult, result_of
from .runtime_api import Invocation, RuntimeApi

__all__ = ["LambdaSandbox"]

# An upper bound of a wait that a notification ends.
_A_WHILE = 60.0
_INSTALL = 'LambdaSandbox runs awslambdaric, which {python} does not have: pip install "trace-guard[testing]"'


class LambdaSandbox:
    """One execution environment of a function, started at the first :meth:`invoke` and anew after each death.

    Args:
        handler: as in the function's configuration, ``module.function``.
        code: the directory that holds the module; also the working directory.
        env: environment variables on top of Lambda's own. Of this process only PATH, HOME, LANG and
            PYTHONPATH are handed on.
        timeout: seconds that an invocation may take.
        tmp: what the function finds under ``TMPDIR``; it outlives the process. A temporary directory, removed
            by :meth:`close`, unless given.
        python: the interpreter that runs the function.
        freeze: False lets the process go on between invocations.

    Attributes:
        tmp: that directory.
        trace_guard_dir: what the function finds as ``TRACE_GUARD_DIR``; below ``tmp`` unless ``env`` sets it.
    """

    api_class: ClassVar[type[RuntimeApi]] = RuntimeApi

    init_timeout = 10.0
    """Seconds (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html). The service then
    tries the init again inside the invocation; here the invocation fails."""

    shutdown_seconds = 2.0
    """What the service allows for a shutdown, from the same page."""

    def __init__(
        self,
        handler: str,
        *,
        code: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 3.0,
        memory_mb: int = 512,
        tmp: str | Path | None = None,
        python: str = sys.executable,
        freeze: bool = True,
        function_name: str = "function",
    ) -> None:
        self.timeout = timeout
        # Out of the function's sight: its log, whatever it may clean up in its own directory.
        self._outside = Path(tempfile.mkdtemp(prefix="lambda-sandbox-"))
        self._log = self._outside / "log"
        self._log.touch()
        self.tmp = Path(tmp).resolve() if tmp is not None else self._outside / "tmp"
        self.tmp.mkdir(parents=True, exist_ok=True)
        self.trace_guard_dir = Path((env or {}).get("TRACE_GUARD_DIR") or self.tmp / "trace-guard")
        self._function = Function(
            name=function_name,
            handler=handler,
            code=Path(code).resolve(),
            memory_mb=memory_mb,
            python=python,
            tmp=self.tmp,
            trace_guard_dir=self.trace_guard_dir,
        )
        self._env = dict(env or {})
        self._freeze = freeze
        self._changed = threading.Condition(threading.RLock())
        self._invoking = threading.Lock()
        self._environment: Environment | None = None

    def __enter__(self) -> LambdaSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's id; None before the first invocation, and after a death that was noticed."""
        environment = self._environment
        return environment.process.pid if environment and environment.process.exit_status is None else None

    @property
    def frozen(self) -> bool:
        """True while every thread of the function is stopped."""
        return self._environment is not None and self._environment.process.frozen

    @property
    def exit_status(self) -> int | None:
        """What the process ended with, negative for a signal; None while it lives, and before it was started."""
        return None if self._environment is None else self._environment.process.exit_status

    @property
    def log(self) -> str:
        """Everything that the function wrote to stdout and stderr, in all of its lives."""
        return self._log_since(0)

    def invoke(
        self,
        event: Any,
        *,
        kill_after: float | None = None,
        kill_when: Callable[[], Any] | None = None,
        deadline: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> InvokeResult:
        """Hand an event to the function, and wait until it is frozen again, or dead. One at a time.

        Args:
            event: anything that JSON can say.
            kill_after: SIGKILL the function this many seconds after it got the event, if it is still at it.
            kill_when: asked every millisecond while the function is at it; SIGKILL when it says true.
            deadline: seconds that this invocation may take, if not ``timeout``.
            client_context: what ``context.client_context`` is made from.

        Raises:
            ModuleNotFoundError: ``python`` has no awslambdaric.
        """
        with self._invoking:
            log_from = self._log.stat().st_size
            cold = self.pid is None
            environment = self._start() if cold or self._environment is None else self._environment
            invocation = Invocation(
                event=json.dumps(event).encode(),
                timeout=self.timeout if deadline is None or deadline < 0 else deadline,
                function_arn=self._function.arn,
                client_context=None if client_context is None else json.dumps(client_context),
            )
            environment.api.offer(invocation)
            kill_after = None if kill_after is None or kill_after < 0 else kill_after
            timed_out = self._wait(environment, invocation, kill_after, kill_when)
            log = self._log_since(log_from)
            if environment.api.ready_at is None and "No module named awslambdaric" in log.replace("'", ""):
                raise ModuleNotFoundError(_INSTALL.format(python=self._function.python), name="awslambdaric")
            return result_of(invocation, environment, cold=cold, timed_out=timed_out, log=log)

    def wait_frozen(self, timeout: float) -> None:
        """Wait until every thread of the function is stopped.

        Raises:
            TimeoutError: that was not so within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.frozen, timeout):
                raise TimeoutError(f"process {self.pid} is not frozen after {timeout:g} s")

    def kill(self) -> None:
        """End the function by SIGKILL, frozen or not, and wait until it is gone."""
        if self._environment is not None:
            self._environment.process.kill()

    def shutdown(self) -> None:
        """End the environment as the service does in quiet times: thaw, SIGTERM, and soon SIGKILL."""
        if self._environment is not None:
            process = self._environment.process
            process.thaw()
            process.signal(signal.SIGTERM)
            process.wait(self.shutdown_seconds)
            process.kill()

    def close(self) -> None:
        """End the function, and remove the temporary directory if it is the sandbox's own."""
        self._end()
        shutil.rmtree(self._outside, ignore_errors=True)

    def _start(self) -> Environment:
        self._end()
        self._environment = start_environment(
            self._function,
            self.api_class,
            env=self._env,
            log=self._log,
            changed=self._changed,
            freeze=self._freeze,
        )
        return self._environment

    def _end(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _wait(
        self,
        environment: Environment,
        invocation: Invocation,
        kill_after: float | None,
        kill_when: Callable[[], Any] | None,
    ) -> bool:
        """Wait for the end of an invocation, kill the function when it is time; True if its time was up."""
        process, timed_out = environment.process, False
        while True:
            with self._changed:
                finished = invocation.finished_at is not None
                if process.exit_status is not None or (finished and (process.frozen or not self._freeze)):
                    return timed_out
                limit = kill_at = self._limit(environment, invocation)
                if kill_after is not None and invocation.handed_at is not None and not finished:
                    kill_at = min(limit, invocation.handed_at + kill_after)
                now = time.monotonic()
                asks = kill_when is not None and invocation.handed_at is not None and not finished
                if now < kill_at:
                    self._changed.wait(min(kill_at - now, 0.001 if asks else _A_WHILE))
            # Without the lock, which the end of the process needs in order to become known.
            if now >= kill_at or (asks and kill_when and kill_when() and invocation.finished_at is None):
                timed_out = now >= limit
                process.kill()

    def _limit(self, environment: Environment, invocation: Invocation) -> float:
        """When the function is to be killed, as things stand, on the monotonic clock."""
        if invocation.finished_at is not None:
            return math.inf
        if invocation.handed_at is not None:
            return invocation.handed_at + invocation.timeout
        return environment.started_at + self.init_timeout if environment.api.ready_at is None else math.inf

    def _log_since(self, offset: int) -> str:
        with self._log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")
