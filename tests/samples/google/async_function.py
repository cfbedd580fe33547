"""A function on the event loop."""

import functions_framework.aio
from fake_model import complete

from trace_guard_gcf import guard_handler


@functions_framework.aio.http
@guard_handler
async def main(request):
    fields = await request.json()
    return {"answer": complete(fields["prompt"])}
