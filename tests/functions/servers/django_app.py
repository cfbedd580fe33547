"""A project in Django, for WSGI and ASGI."""

from __future__ import annotations

from typing import Any

import braintrust
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import include, path, re_path

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[], LOGGING_CONFIG=None
)
django.setup()


def order(request: Any, number: int) -> HttpResponse:
    with braintrust.start_span(name="look up"):
        return HttpResponse("fine")


def fails(request: Any, number: str) -> HttpResponse:
    raise ValueError("no such order")


async def fails_later(request: Any) -> HttpResponse:
    raise ValueError("no such order")


urlpatterns = [
    path("django/orders/<int:number>/", order),
    path("django/shop/", include([re_path(r"^bad/(?P<number>[^/]+)$", fails), path("later", fails_later)])),
]
