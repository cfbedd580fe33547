"""One Cloud Run instance: its processes, its connections, and its CPU allocation."""

from __future__ import annotations

import contextlib
import shlex
import socket
import threading
import time
from pathlib import Path

from .cloud_run_service import Service, free_port
from .connection_pool import ConnectionPool
from .cpu_allocation import CpuAllocation
from .response_stream import ResponseStream
from .server_process import ServerProcess, Termination

__all__ = ["Instance"]

_BETWEEN_PROBES = 0.01
_LAST_WORDS = 4000


class Instance:
    """Starts the server at once. :meth:`await_readiness` waits until it serves.

    Args:
        log: the server's output is appended to this file.

    Raises:
        FileNotFoundError: the command does not exist; the message has the line that installs it.
    """

    def __init__(self, service: Service, *, log: Path, throttle: bool) -> None:
        self._log, self._log_from = log, log.stat().st_size
        self.port = free_port()
        variables = service.variables(self.port)
        command = service.words(variables)
        self._command = shlex.join([Path(command[0]).name, *command[1:]])
        self._pool = ConnectionPool(self.port)
        self._retired = False
        self.process = ServerProcess(
            command, env=variables, cwd=service.code, log=log, changed=threading.Condition(threading.RLock())
        )
        self._cpu = CpuAllocation(self.process, throttle=throttle)

    def await_readiness(self, timeout: float) -> None:
        """Wait until a worker serves. From then on the instance has the CPU only for requests.

        The service only needs an open port (https://cloud.google.com/run/docs/configuring/healthchecks), which gunicorn
        opens before it has a worker. So this waits until a connection without a request is accepted and closed.

        Raises:
            RuntimeError: the server ended, or took longer than ``timeout`` seconds; the message has its output.
        """
        deadline = time.monotonic() + timeout
        self._cpu.acquire()
        while not self._serves(deadline):
            if self.process.exit_status is not None:
                raise RuntimeError(self._failed(f"has ended with exit status {self.process.exit_status}"))
            if time.monotonic() > deadline:
                raise RuntimeError(self._failed(f"does not serve on port {self.port} after {timeout:g} s"))
            time.sleep(_BETWEEN_PROBES)
        self._cpu.release()

    def stream(
        self, method: str, request: bytes, *, timeout: float, patience: float | None, read_at_most: int | None
    ) -> ResponseStream:
        """Send a request, and wait for the head of the response or for a failure.

        Raises:
            RuntimeError: the instance no longer takes requests.
        """
        if self.process.exit_status is not None:
            raise RuntimeError(self._failed(f"has ended with exit status {self.process.exit_status}; start it again"))
        if self._retired:
            raise RuntimeError("an instance that shuts down gets no more requests")
        self._cpu.acquire()
        stream = ResponseStream(
            method,
            timeout=timeout,
            patience=patience,
            read_at_most=read_at_most,
            pool=self._pool,
            over=self._cpu.release,
        )
        try:
            stream.begin(request)
        except BaseException:
            stream.close()
            raise
        return stream

    def terminate(self, grace: float) -> Termination:
        """See :meth:`.CloudRunSandbox.terminate`."""
        self._retired = True
        self._cpu.keep()
        # No more requests will come, and gunicorn's threads would wait for them on idle connections.
        self._pool.close()
        return self.process.terminate_politely(grace)

    def close(self) -> None:
        """End every process, and close every idle connection."""
        self.process.kill()
        self._pool.close()

    def _serves(self, deadline: float) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline and self.process.exit_status is None:
                with contextlib.suppress(TimeoutError):
                    return connection.recv(1) == b""
        return False

    def _failed(self, how: str) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_from)
            written = log.read().decode(errors="replace")
        return f"`{self._command}` {how}. It wrote:\n{written[-_LAST_WORDS:]}"
