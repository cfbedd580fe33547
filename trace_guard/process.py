"""The one thing of which a process has one: the SDK with the gateway in place, and the runtimes behind it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import contain as containment
from .backends.base import Backend
from .contain import contain
from .deadline import Deadline
from .identity import Organisation
from .rows import Row
from .runtime import Runtime
from .settings import DEFAULT_API_URL, Settings

if TYPE_CHECKING:
    from .sdk import Sdk

__all__ = ["PROCESS"]


class _Process:
    """Hands what the SDK says to the right runtime. Most processes have one runtime: then that is it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runtimes: list[Runtime] = []
        self._sdk: Sdk | None = None
        self._hooked = False
        self.in_invocation: Callable[[], bool] = lambda: False

    @property
    def sdk(self) -> Sdk:
        """The SDK, imported when it is first needed."""
        if self._sdk is None:
            with self._lock:
                if self._sdk is None:
                    from .sdk import Sdk

                    self._sdk = Sdk(self)
        return self._sdk

    def runtime(self, settings: Settings, backend: Backend | None = None) -> Runtime:
        """The runtime for these settings: an existing one if it goes to the same place by the same way."""
        with self._lock:
            self._hook()
            key = _key(settings)
            for runtime in self._runtimes:
                if backend is None and runtime.key == key:
                    return runtime
            runtime = Runtime(settings, backend)
            runtime.key = key if backend is None else None
            runtime.on_resolved(lambda: self.sdk.resolved(runtime.identity))
            runtime.on_moved(lambda: self.sdk.moved())
            self._runtimes.append(runtime)
        with contain("start"):  # it is in use from here on: whoever asked for it must get it
            runtime.start()
        return runtime

    def close(self, runtime: Runtime, deadline: Deadline) -> None:
        """Drain the SDK, close a runtime, and take the gateway out with the last one."""
        with self._lock:
            if runtime not in self._runtimes:
                return
        self._settle(runtime, deadline)
        with self._lock:
            self._runtimes.remove(runtime)
            if not self._runtimes and self._sdk is not None:
                with contain("take the gateway out"):
                    self._sdk.uninstall()
                self._sdk = None

    def _hook(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _settle(self, runtime: Runtime, deadline: Deadline) -> None:
        with contain("empty the SDK's queue"):
            if self._sdk is not None and self._sdk.installed:
                self._sdk.drain(deadline)
        with contain("close"):
            runtime.close(deadline)

    def _at_exit(self) -> None:
        # The gateway stays: what later exit handlers still log goes to a journal, for the next start.
        for runtime in list(self._runtimes):
            self._settle(runtime, Deadline.after(runtime.settings.exit_timeout))

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        containment.forget()
        with contain("begin anew after a fork"):
            for runtime in self._runtimes:
                runtime.after_fork()
            if self._sdk is not None:
                self._sdk.after_fork()

    # What the gateway asks (GatewayHost). The runtime made last is the one that look-ups are for.

    def _latest(self) -> Runtime | None:
        return self._runtimes[-1] if self._runtimes else None

    def ingest(self, rows: list[tuple[Row, bytes]]) -> None:
        if len(self._runtimes) == 1:
            self._runtimes[0].ingest(rows)
            return
        shares: dict[int, list[tuple[Row, bytes]]] = {}
        for row, encoded in rows:
            owner = next((one for one in self._runtimes if one.spans.knows(row)), self._latest())
            if owner is not None:
                shares.setdefault(self._runtimes.index(owner), []).append((row, encoded))
        for index, share in shares.items():
            self._runtimes[index].ingest(share)

    def key_given(self, api_key: str, app_url: str, org_name: str | None) -> None:
        runtime = self._latest()
        if runtime is not None:
            runtime.key_given(api_key, app_url, org_name)

    def organisation_given(self, organisation: Organisation) -> None:
        runtime = self._latest()
        if runtime is not None:
            runtime.identity.learn_organisation(organisation)

    def flushed(self) -> None:
        if self.in_invocation():
            return  # its end delivers
        for runtime in list(self._runtimes):
            if not runtime.spans.live():
                runtime.flush(Deadline.after(runtime.settings.exit_timeout))

    def organisation(self) -> Organisation | None:
        runtime = self._latest()
        return runtime.organisation() if runtime else None

    def project_id(self, name: str) -> str | None:
        runtime = self._latest()
        return runtime.project_id(name) if runtime else None

    def project_name(self, project_id: str) -> str | None:
        runtime = self._latest()
        return runtime.project_name(project_id) if runtime else None

    def find_out(self, name: str | None) -> None:
        runtime = self._latest()
        if runtime is not None:
            runtime.find_out(name)

    def api_url(self) -> str:
        runtime = self._latest()
        return runtime.api_url() if runtime else DEFAULT_API_URL

    def passes_through(self) -> bool:
        runtime = self._latest()
        return runtime is not None and runtime.settings.backend_name == "braintrust"


def _key(settings: Settings) -> Any:
    return (settings.dir, *sorted(settings.destination.items()), settings.max_journal_bytes, settings.sync,
            settings.linger)


PROCESS = _Process()
"""This process."""
