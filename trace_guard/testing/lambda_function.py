"""The configuration of a Lambda function, and the environment of its processes."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REGION", "Function", "extension_variables", "runtime_command", "runtime_variables"]

REGION = "us-east-1"

# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html: variables not given to extensions.
_OF_THE_RUNTIME_ONLY = (
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
)


@dataclass(frozen=True)
class Function:
    """The configuration of a function; see :class:`.LambdaSandbox`."""

    name: str
    handler: str
    code: Path
    memory_mb: int
    python: str
    tmp: Path
    trace_guard_dir: Path
    opt: Path | None = None

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:123456789012:function:{self.name}"

    @property
    def metadata(self) -> dict[str, str]:
        """The data that an extension receives when it registers."""
        return {"functionName": self.name, "functionVersion": "$LATEST", "handler": self.handler}

    def extensions(self) -> list[Path]:
        """The programs of its external extensions."""
        directory = self.opt and self.opt / "extensions"
        if directory is None or not directory.is_dir():
            return []
        return sorted(path for path in directory.iterdir() if path.is_file() and os.access(path, os.X_OK))


def runtime_command(function: Function, env: Mapping[str, str]) -> list[str]:
    """The command of the runtime, with the wrapper that
    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html describes."""
    command = [function.python, "-m", "awslambdaric", function.handler]
    wrapper = env.get("AWS_LAMBDA_EXEC_WRAPPER")
    if not wrapper:
        return command
    if function.opt is not None and wrapper.startswith("/opt/"):
        wrapper = str(function.opt / wrapper.removeprefix("/opt/"))
    return [wrapper, *command]


def runtime_variables(function: Function, runtime_api: str, env: Mapping[str, str]) -> dict[str, str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
    layer = [] if function.opt is None else [str(function.opt / "python")]
    entries = [str(function.code), *layer, *_python_path(env)]
    return {**_variables(function, runtime_api), **env, "PYTHONPATH": os.pathsep.join(entries)}


def extension_variables(function: Function, runtime_api: str, env: Mapping[str, str]) -> dict[str, str]:
    """The runtime's variables except its private ones. Extensions must find layer packages themselves."""
    found = {**_variables(function, runtime_api), **env}
    if entries := _python_path(env):
        found["PYTHONPATH"] = os.pathsep.join(entries)
    return {name: value for name, value in found.items() if name not in _OF_THE_RUNTIME_ONLY}


def _python_path(env: Mapping[str, str]) -> list[str]:
    python_path = env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    # The function runs in another directory, so relative entries must become absolute.
    return [os.path.abspath(entry) for entry in python_path.split(os.pathsep) if entry]


def _variables(function: Function, runtime_api: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **inherited,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{time.strftime('%Y/%m/%d')}/[$LATEST]{uuid.uuid4().hex}",
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "LAMBDA_TASK_ROOT": str(function.code),
        "TMPDIR": str(function.tmp),
        "TRACE_GUARD_DIR": str(function.trace_guard_dir),
        "_HANDLER": function.handler,
    }
