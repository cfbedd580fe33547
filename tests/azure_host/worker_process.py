"""A worker process, forked by the template (:mod:`template`)."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from azure_host.installation import azure_python

__all__ = ["WorkerProcess"]

HERE = Path(__file__).parent
A_WHILE = 30.0


class _Template:
    """The template process of this test process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path = ""
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self) -> socket.socket:
        with self._lock:
            if self._process is None:
                self._start()
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(A_WHILE)
        connection.connect(self._path)
        return connection

    def _start(self) -> None:
        python = azure_python()
        assert python is not None
        self._path = os.path.join(tempfile.mkdtemp(prefix="azure-host-"), "template")
        self._process = subprocess.Popen(
            [str(python), str(HERE / "template.py"), self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            start_new_session=True,
        )
        atexit.register(self._end)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def _end(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(A_WHILE)
        self._process.stdout.close()
        os.unlink(self._path)
        os.rmdir(os.path.dirname(self._path))


_TEMPLATE = _Template()


class WorkerProcess:
    """A process that runs :mod:`worker`.

    Args:
        env: all its variables.

    Attributes:
        pid: its process id.
        stdin, stdout, stderr: the other ends of its standard streams.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        (in_read, in_write), (out_read, out_write), (error_read, error_write) = os.pipe(), os.pipe(), os.pipe()
        self._connection = _TEMPLATE.connect()
        socket.send_fds(self._connection, [json.dumps(dict(env)).encode()], [in_read, out_write, error_write])
        self._lines = self._connection.makefile("r")
        for end in (in_read, out_write, error_write):
            os.close(end)
        self.stdin = os.fdopen(in_write, "wb")
        self.stdout = os.fdopen(out_read, "rb")
        self.stderr = os.fdopen(error_read, "rb")
        self.pid = int(self._lines.readline())
        self._connection.settimeout(None)
        self._status: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def runs(self) -> bool:
        return not self._ended.is_set()

    def wait(self, seconds: float = A_WHILE) -> int:
        """Wait for its end. Returns its exit status; negative for a signal."""
        assert self._ended.wait(seconds), f"the worker still runs after {seconds:g} s"
        assert self._status is not None
        return self._status

    def signal(self, number: int) -> None:
        """Send a signal to this process only, if it is running."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> int:
        """SIGKILL the process and its children, and wait for its end."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):  # it has ended without reading everything
                stream.close()

    def _watch(self) -> None:
        self._status = int(self._lines.readline())
        self._lines.close()
        self._connection.close()
        self._ended.set()
