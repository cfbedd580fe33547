"""The layer, built by the command line and unpacked as the service does."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, ClassVar

from planted_keys import PLANTED_KEY
from support import PROJECT_ID, REPOSITORY

from trace_guard.testing import BraintrustServer, LambdaSandbox
from trace_guard.testing.extensions_api import Extension, ExtensionsApi
from trace_guard.testing.http_wire import Response
from trace_guard.testing.runtime_api import refusal

FUNCTIONS = REPOSITORY / "tests" / "functions"
WRAPPER = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/trace-guard-exec"}


def built(output: Path, *options: str) -> str:
    """Build a layer at ``output``. Returns the command's output."""
    command = [sys.executable, "-m", "trace_guard", "layer", "--output", str(output), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def unpacked(archive: Path, place: Path) -> Path:
    """The directory that takes the place of /opt."""
    with zipfile.ZipFile(archive) as layer:
        for entry in layer.infolist():
            os.chmod(layer.extract(entry, place), entry.external_attr >> 16)
    return place


def sandbox(
    server: BraintrustServer, opt: Path | None, *, code: str | Path = "layer_cases", **more: Any
) -> LambdaSandbox:
    """A function with the layer, whose external extension runs on this Python."""
    server.add_project("project", PROJECT_ID)
    env = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    kind = OnlyExternal if more.pop("only_external", False) else LambdaSandbox
    handler = more.pop("handler", "app.handler")
    code = FUNCTIONS / code if isinstance(code, str) else code
    return kind(handler, code=code, opt=opt, env={**env, **more.pop("env", {})}, **more)


class _OnlyExternalApi(ExtensionsApi):
    def _why_not(self, extension: Extension, events: Any) -> Response | None:
        if not extension.external:
            return refusal(403, "Extension.TooManyExtensions", "Extension limit (10) reached")
        return super()._why_not(extension, events)


class OnlyExternal(LambdaSandbox):
    """A sandbox that refuses internal extensions, because the limit of registrations is reached."""

    api_class: ClassVar[type[ExtensionsApi]] = _OnlyExternalApi
