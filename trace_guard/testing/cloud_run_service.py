"""The configuration of a Cloud Run service, and what its container and requests receive."""

from __future__ import annotations

import os
import random
import re
import secrets
import shlex
import shutil
import socket
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Service", "forwarded", "free_port"]

_INSTALL = (
    "CloudRunSandbox can't find the command {command!r}. If it is a server's, install it where {python} is: "
    "{python} -m pip install {command}"
)
_OPTIONS_OF_FUNCTIONS = {"--target": "FUNCTION_TARGET", "--signature-type": "FUNCTION_SIGNATURE_TYPE"}

# Below the ports that Linux uses for outgoing connections, so that none of them takes the port.
_PORTS = range(20000, 32768)


@dataclass(frozen=True)
class Service:
    """The configuration of a service; see :class:`.CloudRunSandbox`."""

    name: str
    command: str | Sequence[str]
    code: Path
    python: str
    timeout: int
    tmp: Path
    trace_guard_dir: Path
    env: Mapping[str, str]

    def variables(self, port: int) -> dict[str, str]:
        """The container's environment variables.

        https://cloud.google.com/run/docs/container-contract, and for functions
        https://cloud.google.com/functions/docs/configuring/env-var
        """
        path = [os.path.dirname(os.path.abspath(self.python)), os.environ.get("PATH", os.defpath)]
        return {
            **{name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ},
            **self._python_path(),
            "PATH": os.pathsep.join(path),
            "PORT": str(port),
            "K_SERVICE": self.name,
            "K_REVISION": f"{self.name}-00001-abc",
            "K_CONFIGURATION": self.name,
            "CLOUD_RUN_TIMEOUT_SECONDS": str(self.timeout),
            "TMPDIR": str(self.tmp),
            "TRACE_GUARD_DIR": str(self.trace_guard_dir),
            # As in Google's own images. Without it the log is delayed.
            "PYTHONUNBUFFERED": "1",
            **self._function(),
            **self.env,
        }

    def words(self, variables: Mapping[str, str]) -> list[str]:
        """The command with its variables filled in, as a shell does, but without a shell process.

        Raises:
            FileNotFoundError: the program does not exist; the message has the line that installs it.
        """
        words = [string.Template(word).safe_substitute(variables) for word in self._command()]
        program = shutil.which(words[0], path=variables.get("PATH"))
        if program is None:
            raise FileNotFoundError(_INSTALL.format(command=words[0], python=self.python))
        return [program, *words[1:]]

    def _command(self) -> list[str]:
        words = shlex.split(self.command) if isinstance(self.command, str) else list(self.command)
        if words[:1] == ["exec"]:
            del words[0]
        if not words:
            raise ValueError("CloudRunSandbox needs the command that starts the server")
        return words

    def _function(self) -> dict[str, str]:
        found: dict[str, str] = {}
        words = self._command()
        for word, following in zip(words, [*words[1:], ""], strict=True):
            option, has_value, value = word.partition("=")
            if option in _OPTIONS_OF_FUNCTIONS:
                found[_OPTIONS_OF_FUNCTIONS[option]] = value if has_value else following
        return found

    def _python_path(self) -> dict[str, str]:
        # The server runs in another directory, so relative entries must become absolute.
        entries = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        return {"PYTHONPATH": os.pathsep.join(entries)} if entries else {}


def forwarded(headers: Mapping[str, str], host: str, *, cloud_trace: bool) -> dict[str, str]:
    """The headers of a request as the container receives them.

    Google's front end starts its own span for every request and sends it in ``traceparent`` and
    ``X-Cloud-Trace-Context``. Of the client's headers it keeps only the trace id
    (https://cloud.google.com/run/docs/trace, https://cloud.google.com/trace/docs/trace-context).
    """
    given = {name.lower(): (name, value) for name, value in headers.items()}
    if cloud_trace:
        sent = [given.get(name, ("", ""))[1] for name in ("traceparent", "x-cloud-trace-context")]
        given |= {name.lower(): (name, value) for name, value in _trace_headers(*sent).items()}
    added = {
        "Host": host,
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "https",
        "Forwarded": 'for="127.0.0.1";proto=https',
    }
    return {**{name: value for name, value in added.items() if name.lower() not in given}, **dict(given.values())}


def _trace_headers(traceparent: str, cloud_context: str) -> dict[str, str]:
    found = re.fullmatch(r"..-([0-9a-f]{32})-[0-9a-f]{16}-(..)", traceparent)
    flags = found[2] if found else "00"
    found = found or re.match(r"([0-9a-f]{32})", cloud_context)
    trace, span = found[1] if found else secrets.token_hex(16), secrets.randbits(63) + 1
    return {
        "traceparent": f"00-{trace}-{span:016x}-{flags}",
        "X-Cloud-Trace-Context": f"{trace}/{span};o={int(flags == '01')}",
    }


def free_port() -> int:
    """A port that is not in use.

    Raises:
        OSError: there is none.
    """
    for port in random.sample(_PORTS, 100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                # On every address, as the server will. The socket does not listen, so no client can connect.
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise OSError("none of a hundred ports is free")
