"""An async handler that a schedule starts. It asks the model several times at once."""

import asyncio

from fake_model import complete

from trace_guard_lambda import guard_handler

TOPICS = ("tea", "rain")


async def ask(topic):
    await asyncio.sleep(0)
    return complete(topic)


@guard_handler
async def handler(event, context):
    return {"digest": await asyncio.gather(*map(ask, TOPICS))}
