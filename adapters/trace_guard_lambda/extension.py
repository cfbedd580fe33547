"""Lambda's internal extension: a thread of the runtime's own process that the freeze waits for.

The environment freezes "when the runtime and each extension have completed and there are no pending events",
while the caller gets the response "as soon as the function code is complete without waiting for the included
extensions": between the two there is time to deliver that costs nobody's latency.

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

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable

__all__ = ["Extension", "register"]

# Not that of the layer's extension: two of one name are not accepted.
_NAME = "trace-guard-internal"
_REGISTER = "/2020-01-01/extension/register"
_NEXT = "/2020-01-01/extension/event/next"
# An extension that is still at it when the function's time is up bills the whole timeout and resets the
# environment.
_MARGIN_SECONDS = 0.3
# From when the service has accepted a registration it waits for that extension, whose identifier is in the answer
# alone: nobody who has stopped waiting for it can ask for events, and the init, which may take 10 s, fails. So this
# is for an answer that will not come any more, not for one that is slow.
_REGISTER_SECONDS = 5.0
_REGISTER_ATTEMPTS = 3
# From the first byte of an answer to its last.
_ANSWER_SECONDS = 5.0
# More than any function may take: what an event says beyond that is no deadline.
_LONGEST_SECONDS = 86_400.0
_LATEST_MILLISECONDS = 1e15
# Between two attempts if the service does not answer as it should; a thread that gave up would bill every
# invocation to its timeout.
_RETRY_SECONDS = 0.05
# The runtime and the thread are told of an event at the same moment: this is for a thread that the system lets wait.
_ARRIVAL_SECONDS = 0.1


class Extension:
    """Calls ``work`` with a deadline after each response, and holds the freeze back meanwhile.

    Its thread waits until the runtime asks for its next event, which it does right after the response, or
    until shortly before the deadline, whichever is first, and never longer. It is there before the registration, as
    an extension that does not ask for events is waited for in vain.

    Args:
        address: host and port of the runtime API, as in ``AWS_LAMBDA_RUNTIME_API``.

    Raises:
        RuntimeError: no thread can be had.
    """

    def __init__(self, address: str, work: Callable[[Deadline], object]) -> None:
        self._address = address
        self._work = work
        self._changed = threading.Condition()
        self._identifier: str | None = None
        self._decided = False
        # Request ids: of the event that the runtime is at, of the one that it was at before it asked for the next,
        # and of the one whose end the thread waits for.
        self._at: str | None = None
        self._finished: str | None = None
        self._serves: str | None = None
        # Whether the thread is still to be told of the event that the runtime is at, or gets next.
        self._expects = False
        self._thread = threading.Thread(target=self._run, name="trace-guard-extension", daemon=True)
        self._thread.start()

    def begin(self, identifier: str | None) -> None:
        """Ask for events from now on; or end, if there was no registration.

        Args:
            identifier: what the registration was answered with.
        """
        with self._changed:
            self._identifier, self._decided = identifier, True
            self._changed.notify_all()

    def end(self) -> None:
        """Ask for no more events. The thread ends with the next answer."""
        self.begin(None)

    @property
    def comes_after(self) -> bool:
        """True if, as far as is known, the event that the runtime is at will be followed by ``work``; False if the
        thread had to leave it before its end, or was not told of it."""
        with self._changed:
            return self._expects or self._serves is not None

    def event_came(self, request_id: str | None) -> None:
        """The runtime has got this event."""
        with self._changed:
            self._at = request_id

    def runtime_polls(self) -> bool:
        """The runtime asks for its next event, so that the response to the one before is on its way.

        Returns:
            True if ``work`` will be called now; if False, nobody does what is to be done but the caller.
        """
        with self._changed:
            if self._at is not None:
                self._changed.wait_for(lambda: not self._expects, _ARRIVAL_SECONDS)
            takes = self._serves is not None
            self._finished, self._at, self._serves = self._at, None, None
            self._expects = True
            self._changed.notify_all()
            return takes

    def _run(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._decided)
        if self._identifier is None:
            return
        import http.client

        connection = http.client.HTTPConnection(self._address, timeout=None)
        _bound_answers(connection, Deadline.never())
        while (identifier := self._identifier) is not None:
            # What users hand in is called here too, and may say that the program is to exit: a registered extension
            # without a thread would have every invocation time out.
            try:
                self._turn(connection, identifier)
            except BaseException as fault:  # noqa: BLE001
                with contextlib.suppress(BaseException):
                    report("go on as an extension without a fault", fault)
        connection.close()

    def _turn(self, connection: http.client.HTTPConnection, identifier: str) -> None:
        """Ask for an event, and see it through."""
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
        """There was no event in an answer: if there should have been, the service takes it for done with."""
        with self._changed:
            self._expects = False
            self._changed.notify_all()

    def _serve(self, event: dict[str, Any]) -> None:
        request_id, deadline = event.get("requestId"), _deadline(event)
        with self._changed:
            if request_id is not None and request_id == self._finished:
                return  # the runtime could not wait for us
            self._expects, self._serves = False, request_id
            self._changed.notify_all()
            # Whatever it is at as it asks for the next one: it can't have got a later one meanwhile.
            over = request_id is not None and self._changed.wait_for(
                lambda: self._serves is None, deadline.remaining
            )
            self._serves = None
        if over:
            self._work(deadline)


def _bound_answers(connection: http.client.HTTPConnection, deadline: Deadline) -> None:
    """Read answers until the deadline, and no longer than some seconds once they have begun."""
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
    """Become an internal extension; None if the service won't have it, as inside a handler, on managed
    instances, and in emulators, or if there is no thread for it.

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
    """False where gevent or eventlet have replaced them: a greenlet does not run while the runtime waits for its next
    event, as it does so in C."""
    return isinstance(_thread.start_new_thread, types.BuiltinFunctionType)


def _identifier(address: str) -> str | None:
    """What a registration is answered with; None if it is refused, or nobody answers."""
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
                return identifier  # what may be wrong with the rest of the answer does not matter
            body = answer.read(MOST_BYTES)
        except TimeoutError:
            warn_once(
                "registration", "trace-guard's registration as an extension was not answered in %g s: if the init "
                "times out, this is why", _REGISTER_SECONDS,
            )
            return None
        except (OSError, http.client.HTTPException, AnswerTooLong, ValueError) as error:
            # It may not have been accepted yet; if it was, the same name is refused now.
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
