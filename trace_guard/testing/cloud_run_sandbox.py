"""Runs a server as Cloud Run does: with the CPU only while a request is in flight, ended by SIGTERM and SIGKILL.

::

    with CloudRunSandbox("gunicorn --bind :$PORT app:app", code="services/support_bot") as sandbox:
        response = sandbox.request("POST", "/ask", body=b"why?")
        assert (response.status, sandbox.frozen) == (200, True)

The program is started by its real command; only the surrounding service is simulated. Of the container the environment
and the signals are simulated, not the file system.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from .cloud_run_instance import Instance
from .cloud_run_service import Service, forwarded
from .http_client import request_bytes
from .http_response import HttpResponse
from .response_stream import ResponseStream
from .server_process import Termination

__all__ = ["CloudRunSandbox"]


class CloudRunSandbox:
    """One instance of a service, from :meth:`start`, which the ``with`` statement does, to its end.

    "CPU is allocated when instances are processing requests" is how the service bills by default, and afterwards
    it is "disabled or severely limited": https://cloud.google.com/run/docs/configuring/billing-settings. Here the
    whole process group is stopped when the last byte of the last response has been read, and continued when the
    next request comes. A method that ends a request returns when every thread is stopped.

    Args:
        command: what starts the server, in one line or in words; ``$PORT`` and other variables are filled in, as
            by the shell of a Dockerfile. It is found first beside ``python``.
        code: the working directory.
        env: environment variables on top of Cloud Run's own, which have ``FUNCTION_TARGET`` and
            ``FUNCTION_SIGNATURE_TYPE`` if the command has ``--target`` and ``--signature-type``. Of this process
            only PATH, HOME, LANG and PYTHONPATH are handed on.
        timeout: whole seconds that a request may take, which is answered with 504 then; the server is not told.
            Cloud Run's default (https://cloud.google.com/run/docs/configuring/request-timeout).
        tmp: what the server finds under ``TMPDIR``; it outlives the instance, as only a volume would. A temporary
            directory, removed by :meth:`close`, unless given.
        python: the interpreter whose commands are run.
        throttle: False leaves the CPU to the instance for all of its life, as instance-based billing does.
        service: its name.
        cloud_trace: False passes ``traceparent`` on as the client has sent it. Google's front end does not: it
            sets the header on every request, and of one that is there it replaces the span id by that of its own
            span (https://cloud.google.com/run/docs/trace).

    Attributes:
        tmp: that directory.
        trace_guard_dir: what the server finds as ``TRACE_GUARD_DIR``; below ``tmp`` unless ``env`` sets it.
    """

    startup_timeout = 60.0
    """Seconds until the port must be open; Cloud Run's default probe allows 240
    (https://cloud.google.com/run/docs/configuring/healthchecks)."""

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        code: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: int = 300,
        tmp: str | Path | None = None,
        python: str = sys.executable,
        throttle: bool = True,
        service: str = "service",
        cloud_trace: bool = True,
    ) -> None:
        # Kept outside the server's own directory, so that the server can't delete its log.
        self._outside = Path(tempfile.mkdtemp(prefix="cloud-run-sandbox-"))
        self._log = self._outside / "log"
        self._log.touch()
        self.tmp = Path(tmp).resolve() if tmp is not None else self._outside / "tmp"
        self.tmp.mkdir(parents=True, exist_ok=True)
        self.trace_guard_dir = Path((env or {}).get("TRACE_GUARD_DIR") or self.tmp / "trace-guard")
        self._service = Service(
            name=service,
            command=command,
            code=Path(code).resolve(),
            python=python,
            timeout=timeout,
            tmp=self.tmp,
            trace_guard_dir=self.trace_guard_dir,
            env=dict(env or {}),
        )
        self._throttle, self._cloud_trace = throttle, cloud_trace
        self._instance: Instance | None = None

    def __enter__(self) -> CloudRunSandbox:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The id of the server's first process, which leads the group; None if the server is not running."""
        return self._instance.process.pid if self._instance and self._instance.process.exit_status is None else None

    @property
    def pids(self) -> list[int]:
        """The ids of all processes of the instance, the first process first."""
        return self._instance.process.pids if self._instance else []

    @property
    def frozen(self) -> bool:
        """True while every thread of every process is stopped."""
        return self._instance is not None and self._instance.process.stopped

    @property
    def exit_status(self) -> int | None:
        """The exit status of the first process, negative for a signal; None before the start and while it runs."""
        return self._instance.process.exit_status if self._instance else None

    @property
    def log(self) -> str:
        """Everything that the server wrote to stdout and stderr, including earlier instances."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start the server and wait until it serves. Does nothing while it runs; starts another instance after its end.

        Raises:
            FileNotFoundError: the command does not exist; the message has the line that installs it.
            RuntimeError: the server ended, or did not serve within ``startup_timeout``; the message has its output.
        """
        if self.pid is not None:
            return
        self._end()
        self._instance = Instance(self._service, log=self._log, throttle=self._throttle)
        self._instance.await_readiness(self.startup_timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        read_at_most: int | None = None,
        give_up_after: float | None = None,
        timeout: float | None = None,
    ) -> HttpResponse:
        """Send a request and read the whole response. Thread-safe; requests may run in parallel.

        A failing server does not raise: see :attr:`.HttpResponse.end`.

        Args:
            path: the path with its query.
            headers: added to those of the front end.
            read_at_most: the client disconnects after this many bytes of the body.
            give_up_after: the client disconnects after this many seconds.
            timeout: the request timeout in seconds; by default the service's.

        Raises:
            RuntimeError: the instance has ended or is ending.
        """
        with self.stream(
            method,
            path,
            headers=headers,
            body=body,
            read_at_most=read_at_most,
            give_up_after=give_up_after,
            timeout=timeout,
        ) as stream:
            for _ in stream:
                pass
        return stream.response()

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        read_at_most: int | None = None,
        give_up_after: float | None = None,
        timeout: float | None = None,
    ) -> Iterator[ResponseStream]:
        """Send a request, and return the response once its head has arrived, to be iterated chunk by chunk.

        Leaving the block before the end disconnects the client. Arguments and errors are those of :meth:`request`.
        """
        if self._instance is None:
            raise RuntimeError("the instance is not started: use `with`, or start()")
        sent = forwarded(headers or {}, f"127.0.0.1:{self._instance.port}", cloud_trace=self._cloud_trace)
        stream = self._instance.stream(
            method,
            request_bytes(method, path, sent, body),
            timeout=self._service.timeout if timeout is None else timeout,
            patience=give_up_after,
            read_at_most=read_at_most,
        )
        with contextlib.closing(stream):
            yield stream

    def terminate(self, grace: float = 10.0) -> Termination:
        """End the instance as the service does, and wait until all processes are gone.

        The instance gets the CPU and SIGTERM, and after ``grace`` seconds SIGKILL; requests in flight continue
        meanwhile
        (https://cloud.google.com/run/docs/container-contract#lifecycle). Only the first process gets SIGTERM. In a
        container it has the id 1 and without a handler would ignore the signal; here it ends.

        Raises:
            RuntimeError: there is no instance.
        """
        if self._instance is None:
            raise RuntimeError("there is no instance to be terminated")
        return self._instance.terminate(grace)

    def kill(self) -> None:
        """End every process by SIGKILL, frozen or not, and wait until they are gone."""
        if self._instance is not None:
            self._instance.process.kill()

    def close(self) -> None:
        """End the instance, and remove the temporary directory if it is the sandbox's own."""
        self._end()
        shutil.rmtree(self._outside, ignore_errors=True)

    def _end(self) -> None:
        if self._instance is not None:
            self._instance.close()
            self._instance = None
