"""The worker process: Microsoft's runtime for Python, run as by their proxy worker, but with another wire format.

No package index has the proxy worker, so this program replaces it. Like the proxy worker, it chooses the runtime by the
files in the app's folder (v2 with ``function_app.py``, else v1), runs it on an asyncio loop on the main thread, makes a
task of each request, and installs no signal handler. Requests and answers are lines of JSON over standard input and
output. Each line is a message of :mod:`messages`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf import json_format
from messages import PROTOS, StreamingMessage

# The app must not be able to import these modules.
sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]

ANSWERS = {
    "worker_init_request": "worker_init_response",
    "functions_metadata_request": "function_metadata_response",
    "function_load_request": "function_load_response",
    "invocation_request": "invocation_response",
    "function_environment_reload_request": "function_environment_reload_response",
}


class Worker:
    """Answers requests.

    Args:
        channel: a file descriptor that the answers go to.
    """

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._runtime: Any = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="requests", daemon=True).start()
        await loop.create_future()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = b""
        # Not sys.stdin, whose lock this thread would hold while the interpreter ends.
        while chunk := os.read(0, 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                message = json_format.Parse(line, StreamingMessage())
                loop.call_soon_threadsafe(loop.create_task, self._answer(message))
        os._exit(0)  # the host has ended

    async def _answer(self, message: Any) -> None:
        kind = message.WhichOneof("content")
        for request in (message.worker_init_request, message.function_environment_reload_request):
            if request.function_app_directory:
                self._choose(request.function_app_directory)
        handle = getattr(self._runtime, kind)
        properties = {"protos": PROTOS, "host": "127.0.0.1"}
        answer = await handle(SimpleNamespace(name=kind, request=message, properties=properties))
        message = StreamingMessage(request_id=message.request_id, **{ANSWERS[kind]: answer})
        said = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
        os.write(self._channel, said.encode() + b"\n")

    def _choose(self, directory: str) -> None:
        if directory not in sys.path:
            sys.path.insert(0, directory)
        if (Path(directory) / "function_app.py").exists():
            import azure_functions_runtime as runtime
        else:
            import azure_functions_runtime_v1 as runtime
        if runtime is not self._runtime:
            runtime.start_threadpool_executor()
            self._runtime = runtime


def main() -> None:
    faulthandler.register(signal.SIGUSR1)
    channel = os.dup(1)
    os.dup2(2, 1)  # keep the app's output apart from the answers
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(Worker(channel).run())


if __name__ == "__main__":
    main()
