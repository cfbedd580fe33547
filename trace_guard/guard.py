"""The configured entry point of the library."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from .backends.base import Backend
from .contain import contain, logger
from .deadline import Deadline, Seconds
from .errors import SettingsError
from .invocation.flush_hooks import FlushHooks
from .invocation.invocation import NOTHING, Invocation
from .invocation.misuse import check_decorated
from .invocation.wrap import guarded
from .jobs.heartbeat import HEARTBEAT_SECONDS
from .outcome import FlushPolicy
from .payload import Payload
from .runtime.pipeline import Pipeline
from .runtime.state import PROCESS
from .settings import Capture, Settings, checked

if TYPE_CHECKING:
    from .jobs.failing import FailIf
    from .jobs.job import Job
    from .jobs.parallel import Processing
    from .jobs.steps import Step

__all__ = ["Guard", "Options", "configure", "default_guard", "guard_for", "watch"]

_SPAN_TIMEOUT_SECONDS = 3600.0

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D", bound=Callable[[], object])
T = TypeVar("T")
R = TypeVar("R")


class Guard:
    """Makes guarded invocations and jobs with one set of settings.

    One guard per process is enough. Several guards with the same destination share one journal and one courier.

    Args:
        settings: read from the environment by default.
        backend: a name as in ``TRACE_GUARD_BACKEND``. In tests, an object that receives the rows.
        keywords: single settings, which override the environment. See :class:`Settings`.

    Raises:
        SettingsError: a value is not accepted.
    """

    def __init__(
        self, settings: Settings | None = None, *, backend: Backend | str | None = None, **keywords: Any
    ) -> None:
        if settings is not None and keywords:
            raise TypeError("give either settings or single keywords, not both")
        if backend is not None and (isinstance(backend, type) or not isinstance(backend, Backend)):
            name, backend = checked("backend", backend), None
            if settings is None:
                keywords["backend"] = name
            else:
                settings = replace(settings, backend=name)
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
        """The pipeline of the next invocation's rows: that of the settings, or of a login by the program. It is
        created on first use."""
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
        return PROCESS.logins.of(pipeline)

    @property
    def _origin(self) -> Guard:
        return self if self._base is None else self._base._origin

    def with_settings(self, settings: Settings) -> Guard:
        """A guard with other settings for its invocations. It shares the journal, the courier and the flush hooks."""
        guard = Guard(settings)
        guard._base = self
        guard.flush_hooks = self.flush_hooks
        return guard

    def before_flush(self, function: D) -> D:
        """Call ``function`` at the end of each invocation, before its rows are delivered. Usable as a decorator.

        This is for libraries that buffer spans in their own threads, queues or batches: see
        :mod:`trace_guard.drains`. The function is called without arguments, on a thread, with the root span current.
        An exception from it is logged. Its time is bounded by the time for the delivery. Where the platform allows it,
        it runs after the response.

        Raises:
            TypeError: the function is a coroutine function or is not callable.
        """
        self.flush_hooks.add(function)
        return function

    def start(self, *, defer_recovery: bool = False) -> Guard:
        """Do the work of the first invocation now: install the gateway, recover the journals of dead processes, and
        start the project look-up. Never raises, and never waits for the network.

        Args:
            defer_recovery: leave out a recovery that would take long, because a request may be waiting. The adapter
                calls :meth:`Pipeline.recover_rest` later.
        """
        self._origin._defer_recovery = defer_recovery
        if not self.settings.disabled:
            with contain("start"):
                # The pipeline first, because the installed gateway answers the SDK from it.
                _ = self.pipeline
                PROCESS.sdk.install()
                lookup, settings = self.pipeline.lookup, self.settings
                is_ours = PROCESS.sdk.loggers.prepare(lookup, settings.project, settings.project_id)
                lookup.start(settings.project if is_ours and not settings.project_id else None)
        return self

    def invocation(
        self,
        name: str,
        *,
        deadline: Deadline | Seconds | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        platform: Mapping[str, Any] | None = None,
    ) -> Invocation:
        """A guarded unit of work, for ``with`` and ``async with``.

        Args:
            name: of the root span.
            deadline: when the platform ends the invocation: a :class:`Deadline`, or seconds or a timedelta from now.
                The watchdog closes all spans shortly before.
            parent: an exported span, or headers with ``traceparent``. Headers are used as the parent only if their
                ``baggage`` has ``braintrust.parent``; otherwise their ids are kept as metadata.
            input: logged on the root span, redacted and cut.
            metadata: logged on the root span.
            tags: of the trace.
            platform: facts about the platform, written with the start of the span.
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
        """Make each call of a function an invocation.

        The result keeps the signature and the kind of the function: plain, coroutine, generator or async generator.

        Raises:
            TypeError: it is not a function or another object that can be called.
        """
        check_decorated(function, "Guard.wrap")
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
        grace: Seconds | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        heartbeat: Seconds = HEARTBEAT_SECONDS,
        progress: bool = True,
        fail_if: FailIf | None = None,
    ) -> Job:
        """A batch job, for ``with`` and ``async with``. It detects its platform, and closes in time on a signal.

        Args:
            name: of the root span. The default is the platform's name for the job, else the program's name.
            grace, parent, heartbeat, progress, fail_if: as in :func:`trace_guard.guard_job`.
            input, metadata, tags: as in :meth:`invocation`.
        """
        from .jobs.job import Job

        return Job(
            self, name, grace=grace, parent=parent, input=input, metadata=metadata, tags=tags, heartbeat=heartbeat,
            progress=progress, fail_if=fail_if,
        )

    def step(self, name: str, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None) -> Step:
        """Deprecated. Use :func:`trace_guard.step`, which works on the running job of any guard."""
        from .jobs.functions import step

        _warn_deprecated("Guard.step", "trace_guard.step")
        return step(name, input=input, metadata=metadata)

    def process(
        self, items: Iterable[T], function: Callable[[T], R], *, workers: int = 8, name: str | None = None,
        on_error: str = "continue", in_order: bool = True,
    ) -> Processing[T, R]:
        """Deprecated. Use :func:`trace_guard.process`, which works on the running job of any guard."""
        from .jobs.functions import process

        _warn_deprecated("Guard.process", "trace_guard.process")
        return process(items, function, workers=workers, name=name, on_error=on_error, in_order=in_order)

    def flush(self, timeout: Seconds | None = None) -> bool:
        """Deliver everything. Returns True if nothing is left.

        Args:
            timeout: how many seconds to wait at most; ``exit_timeout`` by default.
        """
        deadline = Deadline.after(self.settings.exit_timeout if timeout is None else timeout)
        with contain("flush"):
            PROCESS.wait_for_closing(deadline)
            drained = not PROCESS.sdk.installed or PROCESS.sdk.drain(deadline)
            return self.pipeline.flush(deadline) and drained
        return False

    def close(self, timeout: Seconds | None = None) -> None:
        """Close the spans that no invocation owns, deliver, and release the journal and the gateway.

        A normal exit of the process does this automatically.

        Args:
            timeout: how many seconds to deliver at most; ``exit_timeout`` by default.
        """
        with self._lock:
            pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            PROCESS.close(pipeline, Deadline.after(self.settings.exit_timeout if timeout is None else timeout))


def _warn_deprecated(old: str, new: str) -> None:
    import warnings

    message = f"trace-guard: {old} is deprecated and will be removed in the next version: use {new}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


_default: Guard | None = None
_default_lock = threading.Lock()


def configure(settings: Settings | None = None, **keywords: Any) -> Guard:
    """Set the default guard, which is used wherever no guard is given.

    Raises:
        SettingsError: a value is not accepted.
    """
    global _default
    guard = Guard(settings, **keywords)
    with _default_lock:
        _default = guard
    return guard


def default_guard() -> Guard:
    """The guard set with :func:`configure`, else one with the settings of the environment.

    Raises:
        SettingsError: the value of a variable is not accepted.
    """
    global _default
    with _default_lock:
        if _default is None:
            _default = Guard()
        return _default


def watch(guard: Guard | None = None, **keywords: Any) -> Guard:
    """Guard the spans of this process without opening a root: one line at the start of a service.

    Rows go to the journal first, journals of dead processes are recovered, and spans without activity for the span
    timeout are closed. Never waits for the network.

    Args:
        guard: by default :func:`default_guard`.
        keywords: settings of a new default guard, as for :func:`configure`. ``span_timeout`` is one hour unless it is
            given or set with ``TRACE_GUARD_SPAN_TIMEOUT``; 0 for none.

    Raises:
        SettingsError: a value is not accepted.
        TypeError: both a guard and keywords are given, or a keyword is not a setting.
    """
    if guard is not None and keywords:
        raise TypeError("give either a guard or single settings, not both")
    if guard is None:
        guard = configure(**keywords) if keywords else default_guard()
    guard.start()
    if not guard.settings.disabled:
        with contain("watch"):
            guard.pipeline.announce()
            if guard.settings.span_timeout is None:
                PROCESS.watch(_SPAN_TIMEOUT_SECONDS)
    return guard


@dataclass(frozen=True)
class Options:
    """The keywords that the decorators of all platforms take.

    Attributes:
        guard: None for :func:`default_guard`.
        project, project_id, capture_input, capture_output, flush: settings that override those of the guard. The two
            of capturing are also functions that get what would be logged, and return what is.
        name, tags, metadata: of the root span.

    Raises:
        SettingsError: guard, name, tags or metadata are of the wrong kind.
    """

    guard: Guard | None = None
    project: str | None = None
    project_id: str | None = None
    name: str | None = None
    capture_input: Capture | None = None
    capture_output: Capture | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    flush: FlushPolicy | str | None = None

    def __post_init__(self) -> None:
        if self.guard is not None and not isinstance(self.guard, Guard):
            raise SettingsError(
                f"guard={self.guard!r} is not accepted: it takes a Guard, such as the result of trace_guard.configure()"
            )
        if self.name is not None and not isinstance(self.name, str):
            raise SettingsError(f"name={self.name!r} is not accepted: it takes a text")
        if self.metadata is not None and not isinstance(self.metadata, Mapping):
            raise SettingsError(f"metadata={self.metadata!r} is not accepted: it takes a dictionary")
        object.__setattr__(self, "tags", _tags(self.tags))

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


def _tags(given: Any) -> Sequence[str] | None:
    """The tags as a list, of which one may be given as a text."""
    if given is None:
        return None
    tags = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(tag, str) for tag in tags):
        raise SettingsError(f"tags={given!r} is not accepted: it takes a list of texts")
    return tags


def guard_for(guard: Guard | None, *, flush: FlushPolicy | str | None = None, **keywords: Any) -> Guard | None:
    """The given or the default guard, with the settings of a decorator's keywords. It shares journal and courier.

    Returns None if the settings of the environment are not accepted. The error is logged, and the user's function runs
    unguarded.

    Raises:
        SettingsError: a keyword is not accepted. A test that imports the module finds this error.
    """
    given = {name: checked(name, value) for name, value in keywords.items() if value is not None}
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
        except Exception as error:  # noqa: BLE001 - the user's module must load in any case
            with contextlib.suppress(Exception):
                logger.error("no traces are recorded: %s", error)
            return None
    return guard.with_settings(replace(guard.settings, **given)) if given else guard
