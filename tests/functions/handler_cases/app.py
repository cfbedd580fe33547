"""Handlers of every kind, and results of every kind."""

import asyncio
import collections
import dataclasses
import datetime
import decimal

from trace_guard import current_invocation
from trace_guard_lambda import guard_handler

Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Model:
    answer: int


def pause():
    yield 1


async def pause_async():
    yield 1


async def later():
    return 1


RESULTS = {
    "decimal": lambda: {"price": decimal.Decimal("1.50"), "n": decimal.Decimal(3)},
    "named tuple": lambda: {"at": Point(1, 2), 5: (1, 2)},
    "plain": lambda: {"a": [1, None, "b"]},
    "date": lambda: {"at": datetime.date(2026, 1, 2)},
    "model": lambda: Model(1),
    "generator": pause,
    "asynchronous generator": pause_async,
    "coroutine": later,
}


@guard_handler
def results(event, context):
    return RESULTS[event["result"]]()


@guard_handler
def generator(event, context):
    yield event


@guard_handler
async def asynchronous_generator(event, context):
    yield event


class Service:
    @guard_handler
    def method(self, event, context):
        return current_invocation() is not None

    @guard_handler
    @classmethod
    def of_class(cls, event, context):
        return current_invocation() is not None

    @staticmethod
    @guard_handler
    def static(event, context):
        return current_invocation() is not None


class Callable:
    async def __call__(self, event, context):
        await asyncio.sleep(0)
        return current_invocation() is not None


method = Service().method
of_class = Service.of_class
static = Service.static
callable_object = guard_handler(Callable())
