"""Flask, mounted twice, and Django in one WSGI application."""

from __future__ import annotations

from typing import Any

import django_app  # noqa: F401
from django.core.wsgi import get_wsgi_application
from flask import Blueprint, Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from trace_guard_gcf import GuardMiddleware

shop = Blueprint("shop", __name__, url_prefix="/shop")


@shop.get("/items/<number>")
def item(number: str) -> str:
    return number


@shop.get("/bad/<number>")
def bad(number: str) -> str:
    raise ValueError("no such order")


versions = {}
for version in ("/v1", "/v2"):
    versions[version] = Flask("shop")
    versions[version].register_blueprint(shop)

django, flask = get_wsgi_application(), DispatcherMiddleware(Flask("none"), versions)


def router(environ: Any, start_response: Any) -> Any:
    return (django if environ["PATH_INFO"].startswith("/django/") else flask)(environ, start_response)


app = GuardMiddleware(router)
