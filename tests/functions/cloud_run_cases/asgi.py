"""The same service for an event loop."""

import asyncio
import json
import os

from background import counted, directory


async def until_released(what):
    while not (directory / what).exists():
        await asyncio.sleep(0.002)


async def count(query):
    yield json.dumps({"pid": os.getpid(), "count": counted()}).encode()


async def stream(query):
    for number in range(3):
        yield b"%d" % number
        await until_released(f"{query}-{number}")


async def wait(query):
    print("waiting", flush=True)
    await until_released(query)
    yield b"told"


WAYS = {"count": count, "stream": stream, "wait": wait}


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            print("an orderly end", flush=True)
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async for chunk in WAYS[scope["path"].strip("/")](scope["query_string"].decode()):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
