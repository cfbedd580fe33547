"""Runs a Lambda handler as AWS does: under its own runtime client, frozen between events, killed in time.

::

    with LambdaSandbox("app.handler", code="functions/support_bot", timeout=3.0) as sandbox:
        result = sandbox.invoke({"question": "why?"})
        assert result.status == "ok"

The program is the real ``awslambdaric``; only the service around it is stood in for, with its API for extensions.
What the service does on a timeout, a crash and a failed init, and in which words, follows AWS's documentation
and its emulator.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from .execution_environment import Environment
from .extensions_api import ExtensionsApi, Registration
from .invocation_watch import InvocationWatch
from .invoke_result import InvokeResult, result_of
from .lambda_function import Function
from .runtime_api import Invocation
from .snapstart_api import SnapStartApi

__all__ = ["LambdaSandbox"]

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
        opt: a directory that stands for ``/opt``. The executable files in its ``extensions`` are started as
            external extensions, its ``python`` is importable, and ``AWS_LAMBDA_EXEC_WRAPPER`` in ``env`` may
            name a script in it by a path below ``/opt``.
        registration: ``open``: extensions may register; ``closed``: none may; ``managed``: as on managed
            instances, where nobody can subscribe to INVOKE.

    Attributes:
        tmp: that directory.
        trace_guard_dir: what the function finds as ``TRACE_GUARD_DIR``; below ``tmp`` unless ``env`` sets it.
    """

    api_class: ClassVar[type[ExtensionsApi]] = SnapStartApi

    init_timeout = 10.0
    """Seconds (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html). The service then
    tries the init again inside the invocation; here the invocation fails."""

    shutdown_seconds = 2.0
    """What the service allows for the end of an environment that has extensions, from the same page."""

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
        opt: str | Path | None = None,
        registration: Registration = "open",
    ) -> None:
        self.timeout = timeout
        # Kept outside the function's own directory, so that the function can't delete its log.
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
            opt=None if opt is None else Path(opt).resolve(),
        )
        self._registration = registration
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
        """The runtime's process id; None before the first invocation and after a noticed death."""
        environment = self._environment
        return environment.runtime.pid if environment and environment.runtime and not environment.first_dead else None

    @property
    def frozen(self) -> bool:
        """True while every thread of the function and its extensions is stopped."""
        return self._environment is not None and self._environment.frozen

    @property
    def exit_status(self) -> int | None:
        """The exit status of the process, negative for a signal; None before the start and while it runs."""
        runtime = self._environment and self._environment.runtime
        return runtime.exit_status if runtime else None

    @property
    def log(self) -> str:
        """Everything that the function and its extensions wrote to stdout and stderr, including earlier processes."""
        return self._log_since(0)

    def start(self) -> None:
        """Initialise the function before any event, and wait until it is frozen.

        This happens for provisioned concurrency, and before a snapshot from which the function is restored with its
        next event. ``AWS_LAMBDA_INITIALIZATION_TYPE`` in ``env`` selects one.

        Raises:
            RuntimeError: the init failed; the message has the output.
        """
        with self._invoking:
            environment = self._anew()
            environment.start_runtime(self.init_timeout)
            if not environment.wait_idle(self.init_timeout, freeze=self._freeze):
                raise RuntimeError(f"the init has failed: {self.log}")

    def invoke(
        self,
        event: Any,
        *,
        kill_after: float | None = None,
        kill_when: Callable[[], Any] | None = None,
        deadline: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> InvokeResult:
        """Hand an event to the function, and wait until it is frozen or dead. One call at a time.

        The result says when the caller got the answer, which extensions do not delay.

        Args:
            event: any JSON value.
            kill_after: SIGKILL the function this many seconds after it got the event, if it is still running.
            kill_when: called every millisecond while the function runs; SIGKILL when it returns True.
            deadline: the time limit of this invocation in seconds; by default ``timeout``.
            client_context: the content of ``context.client_context``.

        Raises:
            ModuleNotFoundError: ``python`` has no awslambdaric.
        """
        with self._invoking:
            log_from = self._log.stat().st_size
            cold = self.pid is None
            environment = self._anew() if cold or self._environment is None else self._environment
            invocation = Invocation(
                event=json.dumps(event).encode(),
                timeout=self.timeout if deadline is None or deadline < 0 else deadline,
                function_arn=self._function.arn,
                client_context=None if client_context is None else json.dumps(client_context),
            )
            environment.api.offer(invocation)
            watch = InvocationWatch(
                environment,
                invocation,
                changed=self._changed,
                freeze=self._freeze,
                init_timeout=self.init_timeout,
                reset=lambda: environment.shut_down("timeout", self.shutdown_seconds),
                kill_after=None if kill_after is None or kill_after < 0 else kill_after,
                kill_when=kill_when,
            )
            if environment.runtime is None:
                environment.start_runtime(self.init_timeout)
            timed_out = watch.until_over()
            if environment.first_dead:
                environment.shut_down("failure", self.shutdown_seconds)
            log = self._log_since(log_from)
            if environment.api.ready_at is None and "No module named awslambdaric" in log.replace("'", ""):
                raise ModuleNotFoundError(_INSTALL.format(python=self._function.python), name="awslambdaric")
            return result_of(invocation, environment, cold=cold, timed_out=timed_out, log=log)

    def wait_frozen(self, timeout: float) -> None:
        """Wait until every thread of the function and its extensions is stopped.

        Raises:
            TimeoutError: they did not stop within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.frozen, timeout):
                raise TimeoutError(f"process {self.pid} is not frozen after {timeout:g} s")

    def kill(self) -> None:
        """End the function and its extensions by SIGKILL, frozen or not, and wait until they are gone."""
        if self._environment is not None:
            self._environment.kill()

    def shutdown(self) -> None:
        """End an idle environment as the service does: thaw, SIGTERM, SHUTDOWN events, then SIGKILL."""
        environment = self._environment
        if environment is None:
            return
        if environment.runtime is not None and not environment.api.extensions:
            # The service is stricter: it kills a function without extensions at once.
            environment.thaw()
            environment.runtime.terminate(self.shutdown_seconds)
        environment.shut_down("spindown", self.shutdown_seconds)

    def close(self) -> None:
        """End the function, and remove the temporary directory if it is the sandbox's own."""
        self._end()
        shutil.rmtree(self._outside, ignore_errors=True)

    def _anew(self) -> Environment:
        if self._environment is not None and self._environment.first_dead:
            # It died between invocations, so its extensions still need the shutdown event.
            self._environment.shut_down("failure", self.shutdown_seconds)
        self._end()
        self._environment = Environment(
            self._function,
            self.api_class,
            env=self._env,
            log=self._log,
            changed=self._changed,
            freeze=self._freeze,
            registration=self._registration,
        )
        return self._environment

    def _end(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _log_since(self, offset: int) -> str:
        with self._log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")
