"""Helpers for tests of functions in this process."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from trace_guard.backends.memory import MemoryBackend
from trace_guard.rows import Row

__all__ = ["AsgiClient", "root_of"]


class AsgiClient:
    """A client for Starlette with the part of Flask's test client that these tests use."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str, **keywords: Any) -> httpx.Response:
        return self.open(path, method="GET", **keywords)

    def post(self, path: str, **keywords: Any) -> httpx.Response:
        return self.open(path, method="POST", **keywords)

    def open(self, path: str, *, method: str, data: Any = None, **keywords: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, content=data, **keywords)

        return asyncio.run(send())


def root_of(backend: MemoryBackend) -> Row:
    """The only span, which is closed."""
    (row,) = backend.rows()
    assert row["metrics"]["end"] >= row["metrics"]["start"]
    return row
