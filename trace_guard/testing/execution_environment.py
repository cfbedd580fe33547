"""One life of a Lambda function: its process, the API that it talks to, and its environment variables."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .freezable_process import FreezableProcess
from .runtime_api import RuntimeApi

__all__ = ["REGION", "Environment", "Function", "start_environment"]

REGION = "us-east-1"


@dataclass(frozen=True)
class Function:
    """What is configured of a function; see :class:`.LambdaSandbox`."""

    name: str
    handler: str
    code: Path
    memory_mb: int
    python: str
    tmp: Path
    trace_guard_dir: Path

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:123456789012:function:{self.name}"


@dataclass(frozen=True)
class Environment:
    """A running process and its API; ``started_at`` is on the monotonic clock."""

    process: FreezableProcess
    api: RuntimeApi
    started_at: float

    def close(self) -> None:
        self.process.kill()
        self.api.close()


def start_environment(
    function: Function,
    api_class: type[RuntimeApi],
    *,
    env: Mapping[str, str],
    log: Path,
    changed: threading.Condition,
    freeze: bool,
) -> Environment:
    """Start a function; ``env`` goes on top of the variables that Lambda sets."""
    api = api_class(changed)
    started_at = time.monotonic()
    try:
        process = FreezableProcess(
            [function.python, "-m", "awslambdaric", function.handler],
            env=_variables(function, api.address, env),
            cwd=function.code,
            log=log,
            changed=changed,
        )
    except BaseException:
        api.close()
        raise
    if freeze:
        api.freeze, api.thaw = process.freeze, process.thaw
    return Environment(process, api, started_at)


def _variables(function: Function, runtime_api: str, env: Mapping[str, str]) -> dict[str, str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    python_path = env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    # The function runs in another directory, where relative entries would mean something else.
    entries = [
        str(function.code),
        *(os.path.abspath(entry) for entry in python_path.split(os.pathsep) if entry),
    ]
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
        **env,
        "PYTHONPATH": os.pathsep.join(entries),
    }
