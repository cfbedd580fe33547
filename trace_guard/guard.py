"""The configured object that everything goes through."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from .backends.base import Backend
from .contain import contain, logger
from .deadline import Deadline
from .errors import SettingsError
from .invocation.flush_hooks import FlushHooks
from .invocation.invocation import NOTHING, Invocation
from .invocation.wrap import guarded
from .jobs.heartbeat import HEARTBEAT_SECONDS
from .outcome import FlushPolicy
from .payload import Payload
from .runtime.pipeline import Pipeline
from .runtime.state import PROCESS
from .settings import Settings

if TYPE_CHECKING:
    from .jobs.job import Job
    from .jobs.parallel import Processing
    from .jobs.steps import Step

__all__ = ["Guard", "Options", "configure", "default_guard", "guard_for"]

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D", bound=Callable[[], object])
T = TypeVar("T")
R = TypeVar("R")


class Guard:
    """Settings and the means to carry them out. One for each process is enough; several may share one
    journal and one courier.

    Args:
        settings: by default those of the environment.
        backend: where rows go, instead of the one that the settings name; for tests.
        keywords: single settings, which beat the environment; see :class:`Settings`.

    Raises:
        SettingsError: a value is not accepted.
    """

    def __init__(self, settings: Settings | None = None, *, backend: Backend | None = None, **keywords: Any) -> None:
        if settings is not None and keywords:
            raise TypeError("give either settings or single keywords, not both")
        self.settings = settings or Settings.from_env(**keywords)
        self.payload = Payload(self.settings.redact, self.settings.max_payload_bytes)
        self.flush_policy = FlushPolicy.BEFORE_RESPONSE
        if self.settings.flush is FlushPolicy.AFTER_RESPONSE:
            self.flush_policy = FlushPolicy.AFTER_RESPONSE
        self.flush_hooks = FlushHooks()
        self._backend = backend
        self._base: Guard | None = None
        self._defer_recovery = False
        self._pipeline: Pipeline | None = None
        self._lock = threading.Lock()

    @property
    def pipeline(self) -> Pipeline:
        """The mechanism behind it; made when it is first needed."""
        if self._base is not None:
            return self._base.pipeline
        pipeline = self._pipeline
        if pipeline is None:
            with self._lock:
                pipeline = self._pipeline
                if pipeline is None:
                    pipeline = self._pipeline = PROCESS.pipeline(
                        self.settings, self._backend, quick=self._defer_recovery
                    )
        return pipeline

    @property
    def _origin(self) -> Guard:
        return self if self._base is None else self._base._origin

    def with_settings(self, settings: Settings) -> Guard:
        """A guard with other settings for its invocations, on the same journal and courier."""
        guard = Guard(settings)
        guard._base = self
        guard.flush_hooks = self.flush_hooks
        return guard

    def before_flush(self, function: D) -> D:
        """Call ``function`` at the end of each invocation, before its rows are delivered; also as a decorator.

        For libraries that hold spans back in threads, queues or batches of their own: see
        :mod:`trace_guard.drains`. It is called on a thread, without parameters, with the root span current; what
        it raises is logged, and what it takes is bounded by the time that the delivery has. After the response
        where the platform allows that.

        Raises:
            TypeError: it is a coroutine function, or can't be called.
        """
        self.flush_hooks.add(function)
        return function

    def start(self, *, defer_recovery: bool = False) -> Guard:
        """Do now what would else be done at the first invocation: put the gateway in, recover what dead
        processes left behind, begin to look up the project. Never raises; no network is waited for.

        Args:
            defer_recovery: somebody may be waiting already. A recovery that would take long is left to the
                adapter, which has :meth:`Pipeline.recover_rest` called when nobody is.
        """
        self._origin._defer_recovery = defer_recovery
        if not self.settings.disabled:
            with contain("start"):
                # The pipeline first: the SDK is answered from it as soon as the gateway is in place.
                pipeline = self.pipeline
                PROCESS.sdk.install()
                if PROCESS.sdk.loggers.prepare(self.settings.project, self.settings.project_id):
                    pipeline.look_up(None if self.settings.project_id else self.settings.project)
                else:
                    pipeline.look_up(None)
        return self

    def invocation(
        self,
        name: str,
        *,
        deadline: Deadline | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        platform: Mapping[str, Any] | None = None,
    ) -> Invocation:
        """A guarded unit of work, for ``with`` and ``async with``.

        Args:
            name: of the root span.
            deadline: when the platform will end it; the watchdog closes all spans shortly before.
            parent: an exported span, or headers with ``traceparent``. Headers are followed only if their
                ``baggage`` has ``braintrust.parent``; other ids are kept as metadata.
            input: logged on the root span, redacted and cut.
            metadata: logged on the root span.
            tags: of the trace.
            platform: facts of the platform, which are written with the start of the span.
        """
        return Invocation(
            self, name, deadline=deadline, parent=parent, input=input, metadata=metadata, tags=tags,
            platform=platform,
        )

    def wrap(
        self,
        function: F,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> F:
        """A function each of whose calls is an invocation. It keeps its signature and its kind: a plain
        function, a coroutine function, a generator or an async generator."""
        if self.settings.disabled:
            return function
        chosen = name or getattr(function, "__qualname__", None) or "invocation"

        def begin(args: tuple[Any, ...], keywords: dict[str, Any]) -> Invocation:
            return self.invocation(
                chosen, input={"args": args, "kwargs": keywords} if args or keywords else NOTHING,
                metadata=metadata, tags=tags,
            )

        return guarded(function, begin)

    def job(
        self,
        name: str | None = None,
        *,
        grace: float | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
        progress: bool = True,
    ) -> Job:
        """A batch job, for ``with`` and ``async with``. It knows where it runs, and signals close it in time.

        Args:
            name: of the root span; by default what the platform calls the job, else the program's.
            grace, parent, heartbeat, progress: as in :func:`trace_guard.guard_job`.
            input, metadata, tags: as in :meth:`invocation`.
        """
        from .jobs.job import Job

        return Job(
            self, name, grace=grace, parent=parent, input=input, metadata=metadata, tags=tags, heartbeat=heartbeat,
            progress=progress,
        )

    def step(self, name: str, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None) -> Step:
        """Deprecated: :func:`trace_guard.step`, which works on the running job, whichever guard it has."""
        from .jobs.functions import step

        _warn_deprecated("Guard.step", "trace_guard.step")
        return step(name, input=input, metadata=metadata)

    def process(
        self, items: Iterable[T], function: Callable[[T], R], *, workers: int = 8, name: str | None = None,
        on_error: str = "continue", in_order: bool = True,
    ) -> Processing[T, R]:
        """Deprecated: :func:`trace_guard.process`, which works on the running job, whichever guard it has."""
        from .jobs.functions import process

        _warn_deprecated("Guard.process", "trace_guard.process")
        return process(items, function, workers=workers, name=name, on_error=on_error, in_order=in_order)

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver everything; True if nothing is left. Waits at most ``timeout`` seconds, by default
        ``exit_timeout``."""
        deadline = Deadline.after(self.settings.exit_timeout if timeout is None else timeout)
        with contain("flush"):
            if PROCESS.sdk.installed:
                PROCESS.sdk.drain(deadline)
            return self.pipeline.flush(deadline)
        return False

    def close(self, timeout: float | None = None) -> None:
        """Deliver what can be delivered within ``timeout`` seconds (default: ``exit_timeout``), close the
        spans that no invocation owns, and let go of journal and gateway. A normal exit does this by itself."""
        with self._lock:
            pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            PROCESS.close(pipeline, Deadline.after(self.settings.exit_timeout if timeout is None else timeout))


def _warn_deprecated(old: str, new: str) -> None:
    import warnings

    warnings.warn(f"trace-guard: {old} goes in the next version: use {new}", DeprecationWarning, stacklevel=3)


_default: Guard | None = None
_default_lock = threading.Lock()


def configure(settings: Settings | None = None, **keywords: Any) -> Guard:
    """Make the guard that everything uses which is not given one.

    Raises:
        SettingsError: a value is not accepted.
    """
    global _default
    guard = Guard(settings, **keywords)
    with _default_lock:
        _default = guard
    return guard


def default_guard() -> Guard:
    """The guard of :func:`configure`, or one with the settings of the environment.

    Raises:
        SettingsError: a variable has a value that is not accepted.
    """
    global _default
    with _default_lock:
        if _default is None:
            _default = Guard()
        return _default


@dataclass(frozen=True)
class Options:
    """The keywords that the decorators of all platforms take.

    Attributes:
        guard: None for :func:`default_guard`.
        project, project_id, capture_input, capture_output, flush: settings that override those of the guard.
        name, tags, metadata: of the root span.
    """

    guard: Guard | None = None
    project: str | None = None
    project_id: str | None = None
    name: str | None = None
    capture_input: bool | None = None
    capture_output: bool | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    flush: FlushPolicy | str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The keywords that override settings."""
        return {
            "project": self.project, "project_id": self.project_id, "capture_input": self.capture_input,
            "capture_output": self.capture_output, "flush": self.flush,
        }

    def make_guard(self) -> Guard | None:
        """The guard with these settings, see :func:`guard_for`; None if it is disabled.

        Raises:
            SettingsError: a keyword is not accepted.
        """
        guard = guard_for(self.guard, **self.settings)
        return None if guard is None or guard.settings.disabled else guard


def guard_for(guard: Guard | None, *, flush: FlushPolicy | str | None = None, **keywords: Any) -> Guard | None:
    """The given or the default guard, with the settings of a decorator's keywords. It shares journal and courier.

    None if the settings of the environment are not accepted. That is reported and must not take the user's function
    down.

    Raises:
        SettingsError: a keyword is not accepted, which shows as soon as a test imports the module.
    """
    given = {key: value for key, value in keywords.items() if value is not None}
    if flush is not None:
        try:
            given["flush"] = FlushPolicy(flush.lower() if isinstance(flush, str) else flush)
        except ValueError as error:
            raise SettingsError(
                f"flush={flush!r} is not accepted: it takes auto, before-response or after-response"
            ) from error
    if guard is None:
        try:
            guard = default_guard()
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's module must load
            with contextlib.suppress(Exception):
                logger.error("trace-guard is off: %s", error)
            return None
    return guard.with_settings(replace(guard.settings, **given)) if given else guard
