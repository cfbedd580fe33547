"""The part that the WSGI and ASGI middleware share: it opens an exchange for each request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain, contained, warn_once
from trace_guard.guard import Options
from trace_guard.http.captures import RequestCopy, has_body
from trace_guard.http.content import fields_of
from trace_guard.http.exchange import Exchange
from trace_guard.http.exclude import Exclude, Excluded
from trace_guard.http.framing import Framing
from trace_guard.http.requests import HttpRequest, NameOf, default_name, facts_of_request, header_facts
from trace_guard.invocation.invocation import NOTHING, current_invocation
from trace_guard.settings import Capture

from . import environment
from .propagation import carrier_of
from .shutdown import prepare_for_shutdown

__all__ = ["Guarding"]


class Guarding:
    """Opens the exchanges of a middleware.

    Args:
        keywords: of the middleware, see :class:`.middleware.GuardMiddleware`.

    Raises:
        SettingsError: a keyword's value is not accepted.
    """

    def __init__(
        self,
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
        self._excluded = Excluded(exclude)
        self._name: NameOf = default_name if name is None else name if callable(name) else _always(name)
        self._guard: Guard | None = None
        options = Options(
            guard=guard, project=project, project_id=project_id, name=None if callable(name) else name,
            capture_input=capture_input, capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
        )
        self._tags, self._metadata = options.tags, options.metadata
        chosen = options.make_guard()
        if chosen is not None:
            with contain("prepare to guard requests"):
                _check_gevent(chosen)
                self._guard = chosen.start()
                chosen.pipeline.is_serving = True
                prepare_for_shutdown()

    def begin(
        self, method: str, path: str, query: str, headers: Callable[[], Mapping[str, str]]
    ) -> Exchange | None:
        """Open the exchange of a request; None if the request is excluded or belongs to another invocation.

        Args:
            path: decoded, without the query.
            headers: returns the headers by their names in lower case.
        """
        guard = self._guard
        if guard is None or current_invocation() is not None:
            return None
        request = HttpRequest(method, path, None, headers(), query)
        if self._excluded and self._excluded.matches(request, lambda: path):
            return None
        prepare_for_shutdown(is_serving=True)
        capture = guard.settings.capture_input
        waits_for_body = callable(capture) and has_body(request.headers)
        exchange = Exchange(
            guard.invocation(
                contained("name a request", lambda: self._name(request), None) or default_name(request),
                deadline=environment.deadline(),
                parent=carrier_of(request.headers),
                input=_input(request, guard) if not callable(capture) else NOTHING if waits_for_body else request,
                metadata=self._metadata,
                tags=self._tags,
                platform={**environment.facts(), **_facts(request)},
            ),
            Framing(method), request=request, name=self._name,
        ).open()
        if capture:
            exchange.request_copy = RequestCopy(exchange.invocation, request, is_due=waits_for_body)
        return exchange


def _input(request: HttpRequest, guard: Guard) -> dict[str, Any]:
    """What is logged of a request before its body is read."""
    query = fields_of(request.query, guard.settings.max_payload_bytes)
    return {"method": request.method, "path": request.path, "query": query}


def _facts(request: HttpRequest) -> dict[str, Any]:
    return {
        **facts_of_request(request.method, request.path, request.route, request.headers),
        "faas.trigger": "http", **header_facts(request.headers),
    }


def _check_gevent(guard: Guard) -> None:
    """Warn if gunicorn's gevent worker will replace ``ssl`` after this import: each https request then fails.

    https://github.com/gevent/gevent/issues/1016
    """
    monkey = sys.modules.get("gevent.monkey")
    is_late = "gunicorn.workers.ggevent" in sys.modules and monkey is not None and not monkey.is_module_patched("ssl")
    if is_late and guard.settings.backend_name == "braintrust" and not str(guard.settings.api_url).startswith("http:"):
        warn_once("gevent", "gunicorn has imported the application with --preload before its gevent worker patches the "
                  "ssl module: all https requests of the service fail, with RecursionError. Remove --preload, or put "
                  "`from gevent import monkey; monkey.patch_all()` at the top of gunicorn's configuration file")


def _always(name: str) -> NameOf:
    return lambda request: name
