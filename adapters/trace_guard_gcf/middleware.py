"""The middleware for WSGI applications: Flask, Django, Bottle, and functions of the Functions Framework."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain, contained
from trace_guard.http import frameworks
from trace_guard.http.body import Body, UnreadBody
from trace_guard.http.exchange import Exchange
from trace_guard.http.exclude import Exclude
from trace_guard.http.passing import pairs_of, shared, status_in, text_of
from trace_guard.http.requests import NameOf
from trace_guard.settings import Capture

from .applications import check_wsgi
from .guarding import Guarding
from .wsgi_input import CopiedInput

__all__ = ["GuardMiddleware"]

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[Any]]


class GuardMiddleware:
    """Guards each request of a WSGI application: one trace, closed and delivered before the response is complete::

        app.wsgi_app = GuardMiddleware(app.wsgi_app)

    In the module of a function, the application of the Functions Framework is ``flask.current_app``::

        flask.current_app.wsgi_app = GuardMiddleware(flask.current_app.wsgi_app)

    The trace includes a streamed body to its end, but not work after the response such as Flask's ``call_on_close``.

    Args:
        app: the application.
        guard: by default the process's own, see :func:`trace_guard.configure`.
        project, project_id: the Braintrust project; by default that of the settings, else the service's name.
        name: of the root spans, or a function that returns it for an :class:`.requests.HttpRequest`; by default the
            method and the route, such as ``GET /orders/<id>``.
        exclude: requests that are not traced, such as health checks: paths such as ``("/healthz", "/internal/*")``, or
            a function that is called with the :class:`.requests.HttpRequest` and returns True for them. If it raises,
            the request is traced. A function with the decorator is still traced.
        capture_input, capture_output: whether requests and responses are logged, with their bodies as far as the
            application reads and sends them; see docs/capture.md. Functions get the :class:`.requests.HttpRequest` or
            :class:`.captures.HttpResponse` and return what is logged. By default as configured in the settings.
        tags, metadata: logged on the root spans.
        flush: when rows are delivered. By default the last byte of the response waits for delivery, because the
            platform may give a service no CPU after it. With ``after-response``, for instance-based billing only, it
            does not: https://cloud.google.com/run/docs/configuring/billing-settings

    Raises:
        TypeError: the application is not of this kind; the message says what to do.
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as that
            would take the service down: it is reported, and requests go unguarded.
    """

    def __init__(
        self,
        app: Application,
        *,
        guard: Guard | None = None,
        project: str | None = None,
        project_id: str | None = None,
        name: str | NameOf | None = None,
        exclude: Exclude = (),
        capture_input: Capture | None = None,
        capture_output: Capture | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        flush: FlushPolicy | str | None = None,
    ) -> None:
        check_wsgi(app)
        self._app = app
        self._guarding = Guarding(
            guard=guard, project=project, project_id=project_id, name=name, exclude=exclude,
            capture_input=capture_input, capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
        )

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[Any]:
        exchange = contained("begin a request", lambda: self._begin(environ), None)
        if exchange is None:
            return self._app(environ, start_response)
        start = _Start(exchange, start_response)
        try:
            items = self._app(environ, start)
        except BaseException as error:
            exchange.close(error)
            raise
        return contained("guard a response", lambda: self._guarded(items, environ, exchange, start), items)

    def _begin(self, environ: Environ) -> Exchange | None:
        frameworks.connect()
        exchange = self._guarding.begin(
            text_of(environ.get("REQUEST_METHOD")) or "GET", _path_of(environ), text_of(environ.get("QUERY_STRING")),
            lambda: _headers_of(environ),
        )
        copy = None if exchange is None else exchange.request_copy
        if copy is not None and copy.is_announced and "wsgi.input" in environ:
            environ["wsgi.input"] = CopiedInput(environ["wsgi.input"], copy)
        return exchange

    def _guarded(
        self, items: Iterable[Any], environ: Environ, exchange: Exchange, start: _Start
    ) -> Iterable[Any]:
        file_wrapper = environ.get("wsgi.file_wrapper")
        is_file = isinstance(file_wrapper, type) and isinstance(items, file_wrapper)
        if not start.held and (is_file or isinstance(items, (list, tuple))):
            # The application has no code left to run, and the server may handle a list or file more efficiently.
            if is_file:
                exchange.sends_file()
            else:
                for item in items:
                    exchange.sends(item)
            exchange.close()
            return items
        if start.is_called and exchange.framing.is_bodyless:
            # A server may neither iterate nor close it.
            exchange.close()
            return UnreadBody(items, exchange)
        return Body(items, exchange, start.held)


class _Start:
    """The ``start_response`` of a request.

    Attributes:
        held: the data given to ``write`` that completes the response. It is sent before all chunks.
        is_called: True once the application has given a status.
    """

    def __init__(self, exchange: Exchange, start_response: Callable[..., Any]) -> None:
        self._exchange = exchange
        self._start_response = start_response
        self.held: deque[Any] = deque()
        self.is_called = False

    def __call__(self, *args: Any, **keywords: Any) -> Callable[[Any], object]:
        """Forward the call as it is: status, headers and perhaps ``exc_info``, whose names differ between servers."""
        given = list(args)
        with contain("record a status"):
            self._record(given, keywords)
        plain = self._start_response(*given, **keywords)

        def write(data: Any) -> object:
            self._exchange.sends(data)
            completes = contained("count a chunk", lambda: self._exchange.framing.completes(data), False)
            if not completes:
                return plain(data)
            self.held.append(data)
            return None

        return write

    def _record(self, args: list[Any], keywords: dict[str, Any]) -> None:
        self.is_called = True
        given: Any = args if len(args) > 1 else keywords
        place: Any = 1 if len(args) > 1 else next((name for name in keywords if "headers" in name), None)
        headers: Any = ()
        if place is not None:
            headers, given[place] = shared(given[place])  # the server reads them too
        self._exchange.responds(status_in(args[0] if args else keywords.get("status")), pairs_of(headers))
        exc_info = args[2] if len(args) > 2 else keywords.get("exc_info")
        if exc_info:
            self._exchange.caught(exc_info[1])


def _path_of(environ: Environ) -> str:
    path = text_of(environ.get("SCRIPT_NAME")) + text_of(environ.get("PATH_INFO"))
    # https://peps.python.org/pep-3333/#unicode-issues
    return path.encode("latin-1", "replace").decode("utf-8", "replace") or "/"


def _headers_of(environ: Environ) -> dict[str, str]:
    headers = {
        name[5:].replace("_", "-").lower(): text_of(value)
        for name, value in environ.items() if isinstance(name, str) and name.startswith("HTTP_")
    }
    for variable, name in (("CONTENT_LENGTH", "content-length"), ("CONTENT_TYPE", "content-type")):
        if environ.get(variable):
            headers[name] = text_of(environ[variable])
    return headers
