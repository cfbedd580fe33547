"""AWS's own emulator of the Lambda service, ``aws-lambda-rie``, run without Docker.

It ships in the wheel of ``aws-sam-cli`` and shares its core with the service. So registration, signals, SHUTDOWN events
and the init after a death are AWS's, not ours. It does not freeze, and it delays an answer until every extension has
asked for its next event, so it can't measure latency.

https://github.com/aws/aws-lambda-runtime-interface-emulator
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import A_WHILE, REPOSITORY, until

from trace_guard.testing.lambda_function import Function, runtime_command, runtime_variables

__all__ = ["Answer", "Emulator", "binary", "needs_opt"]

WHEEL = "aws-sam-cli==1.170.0"
HOME = REPOSITORY / ".venv-emulator"
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}

# The service creates this header for each invocation. The emulator only passes it on.
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"

# The machine's own /opt stays visible, because it may contain Python.
OPT = 'mount -t overlay overlay -o lowerdir="$0":/opt /opt'
NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c"]


def binary() -> Path:
    """The emulator for this machine, from the wheel, which is kept for the next run.

    Skips the test that asks if the wheel can't be had.
    """
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        pytest.skip(f"there is no emulator for {sys.platform} on {platform.machine()}")
    member = f"samcli/local/rapid/aws-lambda-rie-{ARCHITECTURES[platform.machine()]}"
    kept = HOME / f"{WHEEL}-{Path(member).name}"
    if not kept.exists() and not _fetch(member, kept):
        pytest.skip(f"the wheel of {WHEEL} can't be had here")
    return kept


@functools.cache  # without a network each attempt takes its time
def _fetch(member: str, kept: Path) -> bool:
    """Extract the emulator from the wheel. Returns False if the wheel can't be fetched."""
    HOME.mkdir(exist_ok=True)
    # In a separate directory, because other tests may fetch it at the same time. The last rename wins.
    with tempfile.TemporaryDirectory(dir=HOME) as place:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--ignore-requires-python", "--only-binary", ":all:", "--dest", place, WHEEL]
        fetched = subprocess.run(pip, capture_output=True, text=True)
        if "No matching distribution found" in fetched.stderr:
            return False
        assert fetched.returncode == 0, fetched.stderr
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            extracted = Path(archive.extract(member, place))
        extracted.chmod(0o755)
        extracted.replace(kept)
    return True


@functools.cache
def needs_opt() -> None:
    """Skip the test if this machine does not allow mounting a directory over ``/opt``."""
    try:
        tried = subprocess.run([*NAMESPACE, OPT, str(REPOSITORY)], capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"external extensions are looked for in /opt, which needs a mount namespace: {error}")
    if tried.returncode != 0:
        pytest.skip(f"external extensions are looked for in /opt, which can't be laid over here: {tried.stderr}")


@dataclass(frozen=True)
class Answer:
    """The caller's answer.

    Attributes:
        payload: the body's JSON value, or its text.
        request_id: of the invocation.
        seconds: how long the caller waited.
    """

    status: int
    payload: Any
    request_id: str
    seconds: float


class Emulator:
    """A function in the emulator, which restarts it after each death.

    Args:
        handler: as in the function's configuration, ``module.function``.
        code: the module's directory, which is also the working directory.
        directory: for the log, ``TMPDIR`` and ``TRACE_GUARD_DIR``.
        env: environment variables besides Lambda's own. No others of this process are passed on.
        timeout: the timeout of an invocation in whole seconds.
        opt: a directory to mount over ``/opt``; see :func:`needs_opt`.
    """

    def __init__(
        self,
        handler: str,
        *,
        code: Path,
        directory: Path,
        env: Mapping[str, str] | None = None,
        timeout: int = 3,
        opt: Path | None = None,
    ) -> None:
        self.tmp = directory / "tmp"
        self.tmp.mkdir(parents=True, exist_ok=True)
        self.trace_guard_dir = self.tmp / "trace-guard"
        self._log = directory / "emulator.log"
        self._function = Function(
            name="function", handler=handler, code=code, memory_mb=512, python=sys.executable, tmp=self.tmp,
            trace_guard_dir=self.trace_guard_dir, opt=opt,
        )
        self._env = {**(env or {}), "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout)}
        self._process, self._port = self._start()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """The whole output of the emulator, the function and its extensions."""
        return self._log.read_text(errors="replace")

    @property
    def processes(self) -> list[int]:
        """The ids of the emulator's running processes. All belong to its session."""
        return [pid for pid, session in _sessions() if session == self._process.pid != pid]

    def invoke(self, event: Any, *, client_context: Mapping[str, Any] | None = None) -> Answer:
        """Send an event to the function and wait for the answer. The first event starts the function."""
        headers = {"X-Amzn-Trace-Id": TRACE}
        if client_context is not None:
            headers["X-Amz-Client-Context"] = base64.b64encode(json.dumps(client_context).encode()).decode()
        log_from, began = len(self.log), time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=A_WHILE)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event), headers)
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        seconds = time.monotonic() - began
        with contextlib.suppress(ValueError):
            body = json.loads(body)
        (request_id,) = re.findall(r"START RequestId: (\S+)", self.log[log_from:])
        return Answer(response.status, body, request_id, seconds)

    def shut_down(self) -> None:
        """End the environment as the service does with an idle one, and wait for its end."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(A_WHILE)

    def close(self) -> None:
        """End everything at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP)  # so that it starts no new process
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(A_WHILE)

    def _start(self) -> tuple[subprocess.Popen[bytes], int]:
        for _ in range(3):
            ports = _free_ports()
            process = self._run(*ports)
            until(lambda process=process, port=ports[0]: process.poll() is not None or _listens(port))
            if process.poll() is None:
                return process, ports[0]
        raise AssertionError(f"the emulator does not start: {self.log}")

    def _run(self, port: int, runtime_api_port: int) -> subprocess.Popen[bytes]:
        runtime_api = f"127.0.0.1:{runtime_api_port}"
        command = [
            str(binary()), "--log-level", "debug", "--runtime-interface-emulator-address", f"127.0.0.1:{port}",
            "--runtime-api-address", runtime_api, *runtime_command(self._function, self._env),
        ]
        if self._function.opt is not None:
            command = [*NAMESPACE, f'{OPT} && exec "$@"', str(self._function.opt), *command]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self._function.code, env=runtime_variables(self._function, runtime_api, self._env),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as another:
        for each in (one, another):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, another)]


def _listens(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), A_WHILE):
        return True
    return False


def _sessions() -> list[tuple[int, int]]:
    """The processes of this machine: id and session."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            stat = (directory / "stat").read_text()
            found.append((int(directory.name), int(stat.rpartition(")")[2].split()[3])))
    return found
