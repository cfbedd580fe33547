"""Answers in the way that the path names, without a framework."""

import json
import os

from background import counted, until_released


class Endless:
    """A body without an end, which reports when it is closed."""

    def __iter__(self):
        return self

    def __next__(self):
        return b"x" * 1024

    def close(self):
        print("the client has gone", flush=True)


def echo(environ):
    headers = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    found = {
        "method": environ["REQUEST_METHOD"], "query": environ["QUERY_STRING"], "headers": headers, "body": body,
        "client": environ["REMOTE_PORT"], "environment": dict(os.environ),
    }
    yield json.dumps(found).encode()


def count(environ):
    yield json.dumps({"pid": os.getpid(), "count": counted()}).encode()


def stream(environ):
    for number in range(3):
        yield b"%d" % number
        until_released(f"{environ['QUERY_STRING']}-{number}")


def wait(environ):
    print("waiting", flush=True)
    until_released(environ["QUERY_STRING"])
    yield b"told"


def die(environ):
    os._exit(5)


def die_inside(environ):
    yield b"begun"
    os._exit(5)


def sized(environ):
    yield b"a" * 10
    yield b"b" * 10


def nothing(environ):
    return ()


WAYS = {
    "echo": (echo, []),
    "count": (count, []),
    "stream": (stream, []),
    "wait": (wait, []),
    "die": (die, []),
    "die_inside": (die_inside, []),
    "sized": (sized, [("Content-Length", "20")]),
    "short": (sized, [("Content-Length", "30")]),
    "cookies": (sized, [("Content-Length", "20"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
    "nothing": (nothing, []),
    "endless": (lambda environ: Endless(), []),
}


def app(environ, start_response):
    way, headers = WAYS[environ["PATH_INFO"].strip("/")]
    start_response("204 No Content" if way is nothing else "200 OK", headers)
    return way(environ)


if os.environ.get("FAIL"):
    raise RuntimeError("no configuration")
