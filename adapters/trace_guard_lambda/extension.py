"""Lambda's internal extension: a thread in the runtime's process that the freeze waits for.

The environment freezes "when the runtime and each extension have completed and there are no pending events". The caller
gets the response "as soon as the function code is complete without waiting for the included extensions". Delivery
between the two adds no latency.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html and
https://aws.amazon.com/blogs/compute/performance-and-functionality-improvements-for-aws-lambda-extensions/
"""

from __future__ import annotations

import _thread
import contextlib
import json
import threading
import time
import types
from typing import TYPE_CHECKING, Any

from trace_guard import Deadline
from trace_guard.contain import contain, logger, report, warn_once
from trace_guard.system.threads import QuietThread

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable

__all__ = ["Extension", "register"]

# Differs from the name of the layer's extension, as the service rejects a name that is registered already.
_NAME = "trace-guard-internal"
_REGISTER = "/2020-01-01/extension/register"
_NEXT = "/2020-01-01/extension/event/next"
# An extension that still works when the function times out bills the whole timeout and resets the environment.
_MARGIN_SECONDS = 0.3
# Once the service has accepted a registration, the init waits for that extension to ask for an event, for up to 10 s.
# The request needs the identifier in the answer, so giving up on a slow answer fails the init. This limit is for an
# answer that will never come.
_REGISTER_SECONDS = 5.0
_REGISTER_ATTEMPTS = 3
# The most seconds from the first byte of an answer to its last.
_ANSWER_SECONDS = 5.0
# Longer than any function may run. A later deadline in an event is not believed.
_LONGEST_SECONDS = 86_400.0
_LATEST_MILLISECONDS = 1e15
# The pause between attempts while the service answers with errors. The thread never gives up, as every invocation would
# then be billed up to its timeout.
_RETRY_SECONDS = 0.05
# The runtime and the thread receive an event at the same moment. This allows for a thread that is scheduled late.
_ARRIVAL_SECONDS = 0.1


class Extension:
    """Calls ``work`` with a deadline after each response, and delays the freeze meanwhile.

    Its thread waits until the runtime asks for its next event, which it does right after the response, but no longer
    than until shortly before the deadline. The thread is started before the registration, because a registered
    extension that never asks for events fails the init.

    Args:
        address: host and port of the runtime API, as in ``AWS_LAMBDA_RUNTIME_API``.
        work: delivers until the deadline that it is called with.

    Raises:
        RuntimeError: the thread can't be started.
    """

    def __init__(self, address: str, work: Callable[[Deadline], object]) -> None:
        self._address = address
        self._work = work
        self._changed = threading.Condition()
        self._identifier: str | None = None
        self._decided = False
        # Request ids of the event that the runtime handles, of the one before it, and of the event whose end the
        # thread waits for.
        self._current: str | None = None
        self._finished: str | None = None
        self._awaited: str | None = None
        # True while the thread has not received the runtime's current or next event yet.
        self._expects_event = False
        self._thread = QuietThread(target=self._run, name="trace-guard-extension", daemon=True)
        self._thread.start()

    def begin(self, identifier: str | None) -> None:
        """Ask for events from now on, or end the thread if there is no registration.

        Args:
            identifier: from the answer to the registration; None without one.
        """
        with self._changed:
            self._identifier, self._decided = identifier, True
            self._changed.notify_all()

    def end(self) -> None:
        """Ask for no more events. The thread ends with the next answer."""
        self.begin(None)

    @property
    def will_deliver(self) -> bool:
        """True if ``work`` is expected to run after the current event; False if the thread gave up waiting for its end
        or did not receive the event."""
        with self._changed:
            return self._expects_event or self._awaited is not None

    def event_came(self, request_id: str | None) -> None:
        """Record that the runtime has received this event."""
        with self._changed:
            self._current = request_id

    def runtime_polls(self) -> bool:
        """Record that the runtime asks for its next event, so the response to the current one is on its way.

        Returns:
            True if the thread calls ``work`` now; False if the caller has to do that work.
        """
        with self._changed:
            if self._current is not None:
                self._changed.wait_for(lambda: not self._expects_event, _ARRIVAL_SECONDS)
            delivers = self._awaited is not None
            self._finished, self._current, self._awaited = self._current, None, None
            self._expects_event = True
            self._changed.notify_all()
            return delivers

    def _run(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._decided)
        if self._identifier is None:
            return
        import http.client

        connection = http.client.HTTPConnection(self._address, timeout=None)
        _bound_answers(connection, Deadline.never())
        while (identifier := self._identifier) is not None:
            # User code that runs here may raise SystemExit. The thread must survive it: without the thread, every
            # invocation would time out.
            try:
                self._turn(connection, identifier)
            except BaseException as fault:  # noqa: BLE001
                with contextlib.suppress(BaseException):
                    report("go on as an extension without a fault", fault)
        connection.close()

    def _turn(self, connection: http.client.HTTPConnection, identifier: str) -> None:
        """Ask for an event and handle it."""
        event: dict[str, Any] | None = None
        try:
            with contain("wait for the next event as an extension"):
                event = _next_event(connection, identifier)
        finally:
            if event is None:
                self._lost()
                connection.close()
                time.sleep(_RETRY_SECONDS)
        if event is not None and event.get("eventType") == "INVOKE":
            with contain("deliver after the response"):
                self._serve(event)

    def _lost(self) -> None:
        """Stop expecting an event after an answer without one. The service regards any lost event as handled."""
        with self._changed:
            self._expects_event = False
            self._changed.notify_all()

    def _serve(self, event: dict[str, Any]) -> None:
        request_id, deadline = event.get("requestId"), _deadline(event)
        with self._changed:
            if request_id is not None and request_id == self._finished:
                return  # the runtime has gone on without waiting for this thread
            self._expects_event, self._awaited = False, request_id
            self._changed.notify_all()
            # Any poll ends this event: the runtime can't receive a later event before this thread asks for one.
            is_over = request_id is not None and self._changed.wait_for(
                lambda: self._awaited is None, deadline.remaining
            )
            self._awaited = None
        if is_over:
            self._work(deadline)


def _bound_answers(connection: http.client.HTTPConnection, deadline: Deadline) -> None:
    """Limit the time for reading answers: until the deadline, and a few seconds from their first byte."""
    from trace_guard.backends.bounded_answer import Bound, BoundedAnswer

    def answer(*args: Any, **keywords: Any) -> BoundedAnswer:
        return BoundedAnswer(*args, bound=Bound(deadline, once_begun=_ANSWER_SECONDS), **keywords)

    connection.response_class = answer  # type: ignore[assignment]


def _next_event(connection: http.client.HTTPConnection, identifier: str) -> dict[str, Any] | None:
    import http.client

    from trace_guard.backends.bounded_answer import MOST_BYTES, AnswerTooLong

    try:
        connection.request("GET", _NEXT, headers={"Lambda-Extension-Identifier": identifier})
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES)
        if answer.status != 200:
            logger.debug("the extensions API answered %s: %r", answer.status, body[:200])
            return None
        event = json.loads(body)
    except (OSError, http.client.HTTPException, AnswerTooLong, ValueError, RecursionError) as error:
        logger.debug("the extensions API did not answer with an event: %r", error)
        return None
    return event if isinstance(event, dict) else None


def register(address: str, work: Callable[[Deadline], object]) -> Extension | None:
    """Register as an internal extension.

    Returns None if the service refuses, as it does inside a handler, on managed instances and in emulators, or if no
    thread can be started.

    Args:
        address: host and port of the runtime API, as in ``AWS_LAMBDA_RUNTIME_API``.
        work: called with a deadline after each response.
    """
    if not _threads_are_real():
        logger.debug("no extension is registered: threads are greenlets here")
        return None
    try:
        extension = Extension(address, work)
    except RuntimeError as error:
        logger.debug("no extension is registered: %s", error)
        return None
    identifier: str | None = None
    try:
        identifier = _identifier(address)
    finally:
        extension.begin(identifier)
    return extension if identifier else None


def _threads_are_real() -> bool:
    """False if gevent or eventlet have replaced threads. The runtime waits for its next event in C, and no greenlet
    runs meanwhile."""
    return isinstance(_thread.start_new_thread, types.BuiltinFunctionType)


def _identifier(address: str) -> str | None:
    """The identifier from the answer to a registration; None if it is refused or not answered."""
    import http.client

    from trace_guard.backends.bounded_answer import MOST_BYTES, AnswerTooLong

    for attempt in range(_REGISTER_ATTEMPTS):
        connection = http.client.HTTPConnection(address, timeout=_REGISTER_SECONDS)
        _bound_answers(connection, Deadline.after(_REGISTER_SECONDS))
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            logger.debug("no extension could be registered: %s", error)
            return None
        try:
            connection.request(
                "POST", _REGISTER, json.dumps({"events": ["INVOKE"]}), {"Lambda-Extension-Name": _NAME}
            )
            answer = connection.getresponse()
            identifier = answer.getheader("Lambda-Extension-Identifier")
            if answer.status == 200 and identifier:
                return identifier  # the rest of the answer is not needed
            body = answer.read(MOST_BYTES)
        except TimeoutError:
            warn_once(
                "registration", "trace-guard's registration as an extension was not answered in %g s: if the init "
                "times out, this is why", _REGISTER_SECONDS,
            )
            return None
        except (OSError, http.client.HTTPException, AnswerTooLong, ValueError) as error:
            # The service may have accepted it or not. If it did, the next attempt is refused for its name.
            logger.debug("a registration was not answered: %s", error)
            continue
        finally:
            connection.close()
        if attempt:
            warn_once(
                "registration", "the answer to trace-guard's registration as an extension was lost, and the next one "
                "was %s %r: if the init times out, this is why", answer.status, body[:200],
            )
        logger.debug("no extension could be registered: %s %r", answer.status, body[:200])
        return None
    return None


def _deadline(event: dict[str, Any]) -> Deadline:
    milliseconds = event.get("deadlineMs")
    if not isinstance(milliseconds, (int, float)) or not 0 <= milliseconds < _LATEST_MILLISECONDS:
        return Deadline.after(0)
    return Deadline.after(min(milliseconds / 1000 - time.time() - _MARGIN_SECONDS, _LONGEST_SECONDS))
