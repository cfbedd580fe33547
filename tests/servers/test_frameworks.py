"""Routes and exceptions, read where each framework leaves them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gcf.services import Service, roots
from servers.installation import needs_servers
from servers.services import serve

pytestmark = needs_servers

SERVERS = {
    "wsgi": "gunicorn --bind :$PORT --threads 4 frameworks_wsgi:app",
    "asgi": "uvicorn --port $PORT frameworks_asgi:guarded",
}
REQUESTS = [
    ("wsgi", "/v1/shop/items/7", "/v1/shop/items/<number>", 200),
    ("wsgi", "/v2/shop/items/7", "/v2/shop/items/<number>", 200),
    ("wsgi", "/v2/shop/bad/7", "/v2/shop/bad/<number>", 500),
    ("wsgi", "/django/orders/7/", "/django/orders/<int:number>/", 200),
    ("wsgi", "/django/shop/bad/7", "/django/shop/bad/(?P<number>[^/]+)", 500),
    ("wsgi", "/django/shop/later", "/django/shop/later", 500),
    ("wsgi", "/django/none", None, 404),
    ("asgi", "/v1/shop/items/7", "/v1/shop/items/{number}", 200),
    ("asgi", "/v2/shop/bad/7", "/v2/shop/bad/{number}", 500),
    ("asgi", "/api/shop/items/7", "/api/shop/items/{number}", 200),
    ("asgi", "/api/shop/bad/7", "/api/shop/bad/{number}", 500),
    ("asgi", "/shielded/acme/bad/key", "/shielded/{tenant}/bad/{kind}", 500),
    ("asgi", "/shielded/acme/bad/handled", "/shielded/{tenant}/bad/{kind}", 500),
    ("asgi", "/shielded/acme/bad/http", "/shielded/{tenant}/bad/{kind}", 502),
    ("asgi", "/shielded/acme/bad/value", "/shielded/{tenant}/bad/{kind}", 500),
    ("asgi", "/quart/bad/7", "/quart/bad/<number>", 500),
    ("asgi", "/django/orders/7/", "/django/orders/<int:number>/", 200),
    ("asgi", "/django/shop/bad/7", "/django/shop/bad/(?P<number>[^/]+)", 500),
    ("asgi", "/django/shop/later", "/django/shop/later", 500),
]


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, Service]]:
    with serve(SERVERS["wsgi"]) as wsgi, serve(SERVERS["asgi"]) as asgi:
        yield {"wsgi": wsgi, "asgi": asgi}


@pytest.mark.parametrize(("protocol", "path", "route", "status"), REQUESTS)
def test_routes_and_exceptions(
    services: dict[str, Service], protocol: str, path: str, route: str | None, status: int
) -> None:
    """The root is named after the route with the prefixes of mounts, and has the traceback of an exception that became
    a 500."""
    # uvicorn closes the connection after an exception.
    response, rows = services[protocol].ask(path, headers={"Connection": "close"})
    assert response.status == status
    (root,) = roots(rows)
    assert root["span_attributes"]["name"] == f"GET {route or path}"
    assert root["metadata"].get("http.route") == route
    error = root.get("error") or ""
    assert (status >= 500) == ("no such order" in error) == ("Traceback" in error)
