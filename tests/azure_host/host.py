"""A stand-in for the Functions host: it starts a Python worker, has it index an app, and invokes functions."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from collections.abc import Mapping
from concurrent import futures
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from azure_host.answer import Answer, WorkerEnded
from azure_host.function_json import read_function_json
from azure_host.worker_process import WorkerProcess

__all__ = ["FunctionsHost"]

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
A_WHILE = 30.0
Message = dict[str, Any]


class FunctionsHost:
    """A worker with an app. After the worker's end, :meth:`start` starts another, as the host does.

    Args:
        app: the folder with ``function_app.py``, or in the v1 model with a folder with ``function.json`` for each
            function.
        env: variables for the worker, besides a few of this process's.
        path: folders that the worker imports from, besides its own.

    Attributes:
        functions: the metadata that the worker has indexed, by the functions' names.
        capabilities: the capabilities that the worker has announced.
    """

    def __init__(self, app: Path, env: Mapping[str, str], *, path: tuple[Path, ...] = ()) -> None:
        self.app = app
        self.functions: dict[str, Message] = {}
        self.capabilities: dict[str, str] = {}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        places = [REPOSITORY, REPOSITORY / "adapters", *path]
        self._env = {
            **kept, "PYTHONPATH": os.pathsep.join(map(str, places)), "FUNCTIONS_WORKER_RUNTIME": "python", **env,
        }
        self._process: WorkerProcess | None = None
        self._lock = threading.Lock()
        self._log: list[bytes] = []
        self._pending: dict[str, Future[Message]] = {}
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> FunctionsHost:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """The standard output and error of its workers."""
        return b"".join(self._log).decode(errors="replace")

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.runs

    # The worker process

    def boot(self) -> FunctionsHost:
        """Start the worker process without sending it any request."""
        self._end()
        self._process = process = WorkerProcess(self._env)
        self._readers = [
            threading.Thread(target=read, args=(process,), daemon=True)
            for read in (self._read_answers, self._read_log)
        ]
        for reader in self._readers:
            reader.start()
        return self

    def start(self) -> FunctionsHost:
        """Start a worker if none is running, and let it index and load the app."""
        if self.runs:
            return self
        self.boot()
        try:
            answer = self.ask("worker_init_request", {
                "host_version": "4.1040.0", "worker_directory": str(HERE), "function_app_directory": str(self.app),
            })["worker_init_response"]
            self._succeeded(answer, "index the app")
            self.capabilities = answer.get("capabilities", {})
            self.load()
        except BaseException:
            self.kill()
            raise
        return self

    def load(self) -> None:
        """Let the worker index and load the functions."""
        found = self.ask("functions_metadata_request", {"function_app_directory": str(self.app)})
        metadata = found["function_metadata_response"]
        self._succeeded(metadata, "list the functions")
        listed = metadata.get("function_metadata_results", [])
        if metadata.get("use_default_metadata_indexing"):
            listed = [read_function_json(path) for path in sorted(self.app.glob("*/function.json"))]
        for each in listed:
            loaded = self.ask("function_load_request", {"function_id": each["function_id"], "metadata": each})
            self._succeeded(loaded["function_load_response"], f"load {each['name']}")
            self.functions[each["name"]] = each

    def specialize(self, env: Mapping[str, str]) -> None:
        """Turn a placeholder into a worker of this app: clear and set its environment before it loads the app."""
        answer = self.ask("function_environment_reload_request", {
            "environment_variables": dict(env), "function_app_directory": str(self.app),
        })["function_environment_reload_response"]
        self._succeeded(answer, "reload the environment")
        self.load()

    def signal(self, number: int) -> None:
        """Send the worker a signal if it is running."""
        if self._process is not None:
            self._process.signal(number)

    def wait(self, seconds: float = A_WHILE) -> int:
        """Wait for the worker's end. Returns its exit status; negative for a signal."""
        assert self._process is not None
        status = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(seconds)
        return status

    def kill(self) -> None:
        """SIGKILL the worker if it is running, as the host ends workers, and wait for its end."""
        if self._process is not None:
            self._process.kill()
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self.wait()
            self._process.close()
            self._process = None

    # Requests

    def ask(self, kind: str, content: Message) -> Message:
        """Send a request and wait for its answer.

        Raises:
            WorkerEnded: the worker ended instead.
        """
        return self._wait(self._send(kind, content))

    def begin(
        self,
        name: str,
        fired: tuple[Message, Mapping[str, Message]],
        *,
        trace: Mapping[str, Any] | None = None,
        retry: Mapping[str, Any] | None = None,
        more: Mapping[str, Message] | None = None,
        invocation_id: str | None = None,
    ) -> Future[Message]:
        """Invoke a function without waiting.

        Args:
            fired: what its trigger gives, see :mod:`triggers`.
            trace: ``trace_parent``, ``trace_state`` and ``attributes`` of the host.
            retry: ``retry_count`` and ``max_retry_count``.
            more: data of other input bindings.
        """
        function = self.functions[name]
        data, metadata = fired
        given = {self._trigger_of(function): data, **(more or {})}
        return self._send("invocation_request", {
            "invocation_id": invocation_id or str(uuid.uuid4()), "function_id": function["function_id"],
            "input_data": [{"name": each, "data": value} for each, value in given.items()],
            "trigger_metadata": dict(metadata), "trace_context": dict(trace or {}), "retry_context": dict(retry or {}),
        })

    def result(self, begun: Future[Message]) -> Answer:
        """Wait for the answer of an invocation.

        Raises:
            WorkerEnded: the worker ended instead.
        """
        return Answer.read(self._wait(begun)["invocation_response"])

    def invoke(self, name: str, *args: Any, **keywords: Any) -> Answer:
        """:meth:`begin` and :meth:`result`."""
        return self.result(self.begin(name, *args, **keywords))

    # Internals

    def _wait(self, begun: Future[Message]) -> Message:
        try:
            return begun.result(A_WHILE)
        except futures.TimeoutError:
            self.signal(signal.SIGUSR1)  # let it print where it hangs
            self._readers[-1].join(0.5)
            raise AssertionError(f"no answer in {A_WHILE:g} s; log: {self.log[-8000:]}") from None

    def _send(self, kind: str, content: Message) -> Future[Message]:
        process, request_id = self._process, str(uuid.uuid4())
        assert process is not None
        begun: Future[Message] = Future()
        with self._lock:
            self._pending[request_id] = begun
        line = json.dumps({"request_id": request_id, kind: content}).encode() + b"\n"
        try:
            with self._lock:
                process.stdin.write(line)
                process.stdin.flush()
        except OSError:  # the worker has just ended, and its waiting requests fail
            self._abandon(process)
        return begun

    def _read_answers(self, process: WorkerProcess) -> None:
        for line in process.stdout:
            message = json.loads(line)
            with self._lock:
                begun = self._pending.pop(message["request_id"], None)
            if begun is not None:
                begun.set_result(message)
        self._abandon(process)

    def _abandon(self, process: WorkerProcess) -> None:
        status = process.wait(A_WHILE)
        with self._lock:
            pending, self._pending = self._pending, {}
        for begun in pending.values():
            begun.set_exception(WorkerEnded(status, self.log))

    def _read_log(self, process: WorkerProcess) -> None:
        self._log.extend(process.stderr)

    def _succeeded(self, answer: Message, what: str) -> None:
        status = answer["result"]
        if status.get("status") != "Success":
            raise RuntimeError(f"could not {what}: {status.get('exception', {}).get('message')}\n{self.log[-4000:]}")

    def _trigger_of(self, function: Message) -> str:
        bindings: dict[str, Message] = {name: dict(each) for name, each in function["bindings"].items()}
        inputs = [name for name, each in bindings.items() if each.get("direction", "in") == "in"]
        (trigger,) = [name for name in inputs if bindings[name]["type"].lower().endswith("trigger")] or inputs
        return trigger
