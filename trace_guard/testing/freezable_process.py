"""A program in its own process group, which is stopped, continued and killed as a whole. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["FreezableProcess"]


class FreezableProcess:
    """Runs from its creation.

    Args:
        log: the output is appended to this file. A pipe would block the program if its reader is slow.
        changed: notified when the program has stopped or ended.

    Attributes:
        frozen: True once the kernel reports *every* thread as stopped, until :meth:`thaw`.
        exit_status: the exit status, negative for a signal as in :mod:`subprocess`; None while it runs.
        ended_at: when the end was noticed, on the monotonic clock; None while it runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        changed: threading.Condition,
    ) -> None:
        self.frozen = False
        self.exit_status: int | None = None
        self.ended_at: float | None = None
        self._changed = changed
        # Held while the process is reaped, so that no signal hits another process with the same id.
        self._signalling = threading.Lock()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._watcher = threading.Thread(target=self._watch, name=f"watcher of {self.pid}", daemon=True)
        self._watcher.start()

    def freeze(self) -> None:
        """Stop the whole group. Returns at once; :attr:`frozen` is True when the last thread has stopped."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        with self._changed:
            self.frozen = False
            self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; does nothing once the program has ended."""
        with self._signalling:
            if self.exit_status is None:
                os.killpg(self.pid, number)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False if it does not come within ``timeout`` seconds."""
        self._watcher.join(timeout)
        return not self._watcher.is_alive()

    def terminate(self, grace: float) -> None:
        """Send SIGTERM to the whole group, and :meth:`kill` it after ``grace`` seconds."""
        self.signal(signal.SIGTERM)
        self.wait(grace)
        self.kill()

    def kill(self) -> None:
        """End the whole group, even a stopped one, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def _watch(self) -> None:
        while True:
            # WNOWAIT does not reap: an ended program keeps its id until the lock is held.
            seen = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if seen is not None and seen.si_code == os.CLD_STOPPED:
                # The program may have been continued or killed meanwhile, so that there is no status to take.
                with self._changed, contextlib.suppress(ChildProcessError):
                    if os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG) is not None:
                        self.frozen = True
                        self._changed.notify_all()
                continue
            with self._changed, self._signalling:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)  # Its child processes end with it.
                self.ended_at = time.monotonic()
                self.exit_status = self._process.wait()
                self.frozen = False
                self._changed.notify_all()
            return
