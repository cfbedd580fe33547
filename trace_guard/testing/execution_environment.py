"""One Lambda execution environment: its processes and the API that they use."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .extensions_api import ExtensionsApi, Registration, ShutdownReason
from .freezable_process import FreezableProcess
from .lambda_function import Function, extension_variables, runtime_command, runtime_variables

__all__ = ["Environment"]

# Seconds that the runtime may take to end, as documented for each kind of extension.
_GRACE, _GRACE_WITH_INTERNAL = 0.3, 0.5


class Environment:
    """A runtime and its external extensions, which are frozen, thawed and ended together.

    The life cycle follows https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html, and its end
    follows aws-lambda-runtime-interface-emulator.

    Args:
        env: added to the variables that Lambda sets.
        log: the output of all processes is appended to this file.
        changed: notified when a process has stopped or ended, or has called the API.

    Attributes:
        runtime: None until :meth:`start_runtime`.
        started_at: when the first process was started. All points in time are on the monotonic clock.
    """

    def __init__(
        self,
        function: Function,
        api_class: type[ExtensionsApi],
        *,
        env: Mapping[str, str],
        log: Path,
        changed: threading.Condition,
        freeze: bool,
        registration: Registration,
    ) -> None:
        paths = function.extensions()
        self._function, self._env, self._log, self._changed = function, env, log, changed
        self.runtime: FreezableProcess | None = None
        self.extensions: dict[str, FreezableProcess] = {}
        self._reset_at: float | None = None
        self.api = api_class(
            changed, function=function.metadata, external=[path.name for path in paths], registration=registration
        )
        if freeze:
            self.api.freeze, self.api.thaw = self.freeze, self.thaw
        self.started_at = time.monotonic()
        try:
            for path in paths:
                self.extensions[path.name] = self._start([str(path)], extension_variables, Path("/"))
        except BaseException:
            self.close()
            raise

    def start_runtime(self, timeout: float) -> None:
        """Start the runtime once every external extension has registered, unless one fails.

        Args:
            timeout: the most seconds since the start of the first process.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.api.everyone_registered() or self.first_dead,
                self.started_at + timeout - time.monotonic(),
            )
            if not self.api.everyone_registered() or self.first_dead:
                return
        command = runtime_command(self._function, self._env)
        self.runtime = self._start(command, runtime_variables, self._function.code)

    def wait_idle(self, timeout: float, *, freeze: bool) -> bool:
        """Wait for the end of the init and the freeze after it; False if that does not happen."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.first_dead or (self.api.ready_at is not None and (self.frozen or not freeze)), timeout
            )
            return self.api.ready_at is not None and self.first_dead is None

    @property
    def frozen(self) -> bool:
        """True while every thread of every process is stopped."""
        return self.runtime is not None and all(process.frozen for process in self._processes())

    @property
    def first_dead(self) -> tuple[str | None, FreezableProcess] | None:
        """The process that ended first, and so ended the environment, and its name if it is an extension."""
        dead: list[tuple[float, str | None, FreezableProcess]] = []
        for name, process in ((None, self.runtime), *self.extensions.items()):
            if process is not None and process.ended_at is not None:
                dead.append((process.ended_at, name, process))
        return min(dead, key=lambda each: each[0])[1:] if dead else None

    @property
    def ended_at(self) -> float:
        """When the environment began to end: by the service, or by the death of a process."""
        dead = self.first_dead
        ends = (self._reset_at, dead and dead[1].ended_at)
        return min((end for end in ends if end is not None), default=time.monotonic())

    def freeze(self) -> None:
        for process in self._processes():
            process.freeze()

    def thaw(self) -> None:
        for process in self._processes():
            process.thaw()

    def shut_down(self, reason: ShutdownReason, seconds: float) -> None:
        """End all processes as the service does: at once without extensions, else gracefully and in order.

        Does nothing the second time.

        Args:
            seconds: the time limit for everything.
        """
        if self._reset_at is not None:
            return
        self._reset_at = time.monotonic()
        self.api.retire()
        if self.api.extensions:
            end = self._reset_at + seconds
            self.thaw()
            if self.runtime is not None:
                internal = any(not each.external for each in self.api.extensions)
                self.runtime.terminate(min(_GRACE_WITH_INTERNAL if internal else _GRACE, seconds))
            told = self.api.announce_shutdown(reason, int((time.time() + end - time.monotonic()) * 1000))
            for name in self.extensions.keys() - told:
                self.extensions[name].kill()
            for name in told:
                self.extensions[name].wait(max(0.0, end - time.monotonic()))
        self.kill()

    def kill_runtime(self) -> None:
        """End the runtime alone by SIGKILL, and wait until it is gone."""
        if self.runtime is not None:
            self.runtime.kill()

    def kill(self) -> None:
        """End all processes by SIGKILL, and wait until they are gone."""
        for process in self._processes():
            process.signal(signal.SIGKILL)
        for process in self._processes():
            process.kill()

    def close(self) -> None:
        self.kill()
        self.api.close()

    def _processes(self) -> list[FreezableProcess]:
        runtime = [] if self.runtime is None else [self.runtime]
        return [*runtime, *self.extensions.values()]

    def _start(
        self,
        command: list[str],
        variables: Callable[[Function, str, Mapping[str, str]], dict[str, str]],
        directory: Path,
    ) -> FreezableProcess:
        return FreezableProcess(
            command,
            env=variables(self._function, self.api.address, self._env),
            cwd=directory,
            log=self._log,
            changed=self._changed,
        )
