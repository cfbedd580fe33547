"""The pages: the list of traces, one trace, and the health of this machine's state."""

from __future__ import annotations

import json
import mimetypes
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

import anyio
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..backends.store_schema import column
from ..backends.summaries import root_id_of, summarize
from ..errors import BackendError
from ..rows import Row
from . import words
from .filters import PERIODS, STATES, TraceFilter
from .health import Health
from .local_only import LocalOnly
from .payload_text import attachments_of, payload, readable
from .source import TraceSource
from .waterfall import WIDTH, Bar, lay_out

__all__ = ["PAYLOADS", "make_app", "span_panel", "templates"]

PAYLOADS = ("error", "input", "output", "expected", "scores", "metadata", "metrics", "tags")
"""The fields of a span that its panel shows, in this order."""

_LOOK_SECONDS = 0.5
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_MOST_FORM_BYTES = 64 * 1024


def templates() -> Environment:
    """The templates, which escape everything that they are given."""
    environment = Environment(
        loader=PackageLoader("trace_guard.ui"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        readable=readable, clock=words.clock, duration=words.duration, age=words.age, outcome=words.outcome_class,
        moment=words.moment, parameter=_parameter,
    )
    environment.globals.update(STATES=STATES, PERIODS=PERIODS, WIDTH=WIDTH, is_file=False)
    return environment


def _parameter(text: str) -> str:
    """An id as a parameter of an address. Broken Unicode is written as in the local store's columns."""
    if _PLAIN.fullmatch(text):
        return text
    return quote(text.encode("utf-8", "backslashreplace"), safe="")


def span_panel(root: str, row: Row, bar: Bar | None = None) -> Mapping[str, Any]:
    """What the template ``_span.html`` shows of a span."""
    return {
        "root": root, "bar": bar or lay_out([row], root, time.time()).bars[0], "attachments": attachments_of(row),
        "fields": [(name, payload(row[name])) for name in PAYLOADS if row.get(name)],
    }


class Pages:
    """The handlers of the page's addresses.

    Args:
        source: where traces are read.
        health: what the health page shows, and closes.
        is_ending: true once the server is to end, which waits for open connections.
    """

    def __init__(self, source: TraceSource, health: Health, is_ending: Callable[[], bool]) -> None:
        self._source = source
        self._is_ending = is_ending
        self._health = health
        self._templates = templates()

    async def traces(self, request: Request) -> Response:
        """The list; only its table with ``fragment`` in the address."""
        wanted = TraceFilter.of(request.query_params)
        # Read before the traces: what comes in between shows as a change.
        version = await run_in_threadpool(self._source.version, None)
        page = await run_in_threadpool(self._source.page, wanted)
        values = {"page": page, "filter": wanted, "now": time.time(), "version": version}
        if "fragment" in request.query_params:
            return self._html("_traces.html", values)
        projects = await run_in_threadpool(self._source.projects)
        return self._html("traces.html", {**values, "projects": projects, "title": self._source.title})

    async def trace(self, request: Request) -> Response:
        """The waterfall of a trace; only that with ``fragment`` in the address."""
        version = await run_in_threadpool(self._source.version, request.query_params.get("root", ""))
        root, rows = await self._rows(request)
        now = time.time()
        (summary,) = await run_in_threadpool(summarize, rows)
        values: dict[str, Any] = {
            "trace": summary, "now": now, "fall": await run_in_threadpool(lay_out, rows, root, now),
            "address": self._source.address(rows[0]), "version": version,
        }
        if "fragment" in request.query_params:
            return self._html("_waterfall.html", values)
        span = request.query_params.get("span")
        chosen = next((row for row in rows if column(str(row.get("span_id"))) == span), None)
        return self._html("trace.html", {**values, "panel": None if chosen is None else span_panel(root, chosen)})

    async def span(self, request: Request) -> Response:
        """The panel of a span."""
        root, row = await self._row(request)
        return self._html("_span.html", {"panel": span_panel(root, row)})

    async def field(self, request: Request) -> Response:
        """A field of a span, whole, as plain text or JSON."""
        _, row = await self._row(request)
        name = request.query_params.get("name", "")
        if name not in PAYLOADS or name not in row:
            raise HTTPException(404, "The span has no such field.")
        value = row[name]
        return PlainTextResponse(
            value.encode("utf-8", "backslashreplace") if isinstance(value, str) else json.dumps(value, indent=2)
        )

    async def trace_json(self, request: Request) -> Response:
        """The rows of a trace as JSON."""
        _, rows = await self._rows(request)
        return Response(json.dumps({"rows": rows}, indent=2), media_type="application/json")

    async def attachment(self, request: Request) -> Response:
        """An attachment's file. Only images that can't hold a script are shown in the page."""
        path = await run_in_threadpool(self._source.attachment, request.query_params.get("key", ""))
        if path is None:
            raise HTTPException(404, "This attachment is not here.")
        kind = mimetypes.guess_type(path.name)[0] or ""
        if kind in ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"):
            return FileResponse(path, media_type=kind)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    async def events(self, request: Request) -> Response:
        """Server-sent events: one whenever the trace changes, or any trace if none is named."""
        return StreamingResponse(self._changes(request.query_params.get("trace")), media_type="text/event-stream")

    async def health(self, request: Request) -> Response:
        """What undermines tracing on this machine, and what can be repaired."""
        return await self._health_page(search="search" in request.query_params)

    async def close(self, request: Request) -> Response:
        """Close one stuck trace, then show the health page again."""
        form = dict(parse_qsl((await _body(request)).decode("utf-8", "replace")))
        root, token = form.get("trace"), form.get("token", "")
        if not self._health.is_token(token):
            raise HTTPException(403, "The page is out of date. Load it again, then close the trace.")
        if not root:
            raise HTTPException(400, "The request names no trace.")
        said = await run_in_threadpool(self._health.close, root)
        return await self._health_page(said=said)

    async def _health_page(self, *, search: bool = False, said: str | None = None) -> Response:
        report = await run_in_threadpool(self._health.report, search=search)
        return self._html("health.html", {"report": report, "token": self._health.token, "said": said})

    async def _changes(self, root: str | None) -> AsyncIterator[str]:
        seen = None
        while not self._is_ending():
            try:
                version = await run_in_threadpool(self._source.version, root)
            except BackendError:
                version = seen or ""
            # A comment keeps the connection alive, and shows when the page has gone.
            yield f"data: {version}\n\n" if version != seen else ":\n\n"
            seen = version
            await anyio.sleep(_LOOK_SECONDS)

    async def _rows(self, request: Request) -> tuple[str, list[Row]]:
        root = request.query_params.get("root", "")
        rows = await run_in_threadpool(self._source.rows, root)
        if not rows:
            raise HTTPException(404, "There is no such trace. It may have been deleted.")
        return root_id_of(rows[0]) or root, rows

    async def _row(self, request: Request) -> tuple[str, Row]:
        root, rows = await self._rows(request)
        for row in rows:
            if column(str(row.get("span_id"))) == request.query_params.get("span"):
                return root, row
        raise HTTPException(404, "The trace has no such span.")

    def _html(self, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        page = self._templates.get_template(template).render(values)
        return HTMLResponse(page.encode("utf-8", "replace"), status)

    async def error(self, request: Request, error: Exception) -> Response:
        """An error as a page."""
        if isinstance(error, HTTPException):
            return self._html("error.html", {"message": error.detail}, error.status_code)
        return self._html("error.html", {"message": str(error)}, 503)


async def _body(request: Request) -> bytes:
    """The body of a form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM_BYTES:
            raise HTTPException(413, "The form is too large.")
    return bytes(body)


def make_app(
    source: TraceSource, health: Health, port: int, is_ending: Callable[[], bool] = lambda: False
) -> Starlette:
    """The application.

    Args:
        port: the port of its address; requests to any other address are refused.
        is_ending: see :class:`Pages`.
    """
    pages = Pages(source, health, is_ending)
    return Starlette(
        routes=[
            Route("/", pages.traces),
            # Ids are parameters, as they may hold any character.
            Route("/trace", pages.trace),
            Route("/trace/rows.json", pages.trace_json),
            Route("/trace/span", pages.span),
            Route("/trace/field", pages.field),
            Route("/attachment", pages.attachment),
            Route("/events", pages.events),
            Route("/health", pages.health),
            Route("/health/close", pages.close, methods=["POST"]),
            Mount("/static", StaticFiles(packages=[("trace_guard.ui", "static")])),
        ],
        middleware=[Middleware(LocalOnly, port=port)],
        exception_handlers={HTTPException: pages.error, BackendError: pages.error},
    )


