"""A coroutine function of the v1 programming model."""

import azure.functions as func
from contract import user_code

from trace_guard_azure import guard_handler


@guard_handler(name="root")
async def main(order: func.QueueMessage):
    return getattr(user_code, order.get_body().decode())()
