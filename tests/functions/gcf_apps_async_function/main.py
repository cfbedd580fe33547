"""A guarded function on the framework's event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import braintrust
import functions_framework.aio

from trace_guard_gcf import guard_handler


@functions_framework.aio.http
@guard_handler
async def main(request: Any) -> str:
    with braintrust.start_span(name="work"):
        if request.url.path.startswith("/sleeps/"):
            await asyncio.sleep(float(request.url.path.rpartition("/")[2]))
    return "done"
