"""Streamed response bodies. The invocation of a body closes just before the last byte of the body leaves.

After the last byte, the platform may take the CPU away. So the chunk that completes the response is held back until the
invocation is closed and delivered. All other chunks pass at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from ..contain import contained
from ..invocation.wrap import InContext
from .abandoned import ABANDONED
from .exchange import Exchange, is_client_disconnect

__all__ = ["AsyncBody", "Body", "UnreadBody"]


class Body(Iterator[Any]):
    """An iterable body in its exchange.

    Args:
        items: the chunks that user code or a framework has returned.
        held: chunks that precede the items and already complete the response. A WSGI application that is a generator
            adds to them while it runs.
    """

    def __init__(self, items: Iterable[Any], exchange: Exchange, held: deque[Any] | None = None) -> None:
        self._items = items
        self._iterator: Iterator[Any] | None = None
        self._exchange = exchange
        self._held: deque[Any] = deque() if held is None else held
        self._is_over = False
        self._error: BaseException | None = None
        self._is_drained = False
        self._is_closed = False

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> Any:
        if self._held and not self._is_drained:
            self._drain()
        if self._held:
            return self._held.popleft()
        if self._is_over:
            error, self._error = self._error, None
            raise error or StopIteration
        try:
            item = self._step()
        except StopIteration:
            if self._held:
                return self._held.popleft()
            raise
        if self._held and not self._is_drained:
            self._held.extend([item] if item else [])
            return self.__next__()
        if self._is_drained or not self._completes(item):
            return item
        # This chunk completes the response: close and deliver before it is sent.
        self._held.append(item)
        return self.__next__()

    def _step(self) -> Any:
        try:
            if self._iterator is None:
                self._iterator = self._exchange.run(lambda: iter(self._items))
            iterator = self._iterator
            item = self._exchange.run(lambda: next(iterator))
        except StopIteration:
            self._is_over = True
            self._exchange.close()
            raise
        except BaseException as error:
            self._is_over = True
            self._exchange.close(error)
            raise
        self._exchange.sends(item)
        return item

    def _completes(self, item: Any) -> bool:
        return contained("count a chunk", lambda: self._exchange.framing.completes(item), False)

    def _drain(self) -> None:
        """Run the code after the last chunk to its end, and close."""
        self._is_drained = True
        try:
            while True:
                item = self._step()
                if item and not self._exchange.framing.is_bodyless:
                    # More bytes than the Content-Length. The server handles that.
                    self._held.append(item)
                    self._exchange.close()
                    return
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - re-raised after the held chunk is sent
            self._error = error
        if self._exchange.framing.is_bodyless:
            self._held.clear()  # servers send no body here

    def close(self) -> None:
        """Servers call this at the end, or early if they can't send the rest."""
        if self._is_closed:
            return
        self._is_closed = True
        reason = sys.exc_info()[1]  # servers call close() in ``finally``
        try:
            close_items = getattr(self._items, "close", None)
            if close_items is not None:
                self._exchange.run(close_items)
        except BaseException as error:
            self._exchange.close(error)
            raise
        if self._exchange.is_open:
            if reason is not None and not is_client_disconnect(reason):
                self._exchange.close(reason)
            else:
                complete = self._exchange.framing.is_complete
                self._exchange.close(None if complete else self._exchange.cut_off())

    def __del__(self) -> None:
        # Drop the items first: their spans make the root current again when they end.
        self._items, self._iterator = (), None
        ABANDONED.take(self._exchange)


class UnreadBody:
    """A body that the server discards, perhaps without a look at it. Its exchange is closed before.

    Spans that start while it is iterated all the same belong to the trace, as late ones.
    """

    def __init__(self, items: Iterable[Any], exchange: Exchange) -> None:
        self._items = items
        self._exchange = exchange

    def __iter__(self) -> Iterator[Any]:
        context = self._exchange.context
        iterator = context.run(iter, self._items)
        while True:
            try:
                item = context.run(next, iterator)
            except StopIteration:
                return
            yield item

    def close(self) -> None:
        """Servers call this at the end."""
        close_items = getattr(self._items, "close", None)
        if close_items is not None:
            self._exchange.context.run(close_items)


class AsyncBody(AsyncIterator[Any]):
    """:class:`Body` for a body that is iterated in an event loop."""

    def __init__(self, items: Any, exchange: Exchange) -> None:
        self._items = items
        self._iterator: Any = None
        self._exchange = exchange
        self._held: deque[Any] = deque()
        self._is_over = False
        self._error: BaseException | None = None
        self._is_drained = False

    def __aiter__(self) -> AsyncBody:
        return self

    async def __anext__(self) -> Any:
        if self._held:
            return self._held.popleft()
        if self._is_over:
            error, self._error = self._error, None
            raise error or StopAsyncIteration
        item = await self._step()
        if self._is_drained or not contained(
            "count a chunk", lambda: self._exchange.framing.completes(item), False
        ):
            return item
        self._held.append(item)
        await self._drain()
        return self._held.popleft() if self._held else await self.__anext__()

    async def _step(self) -> Any:
        try:
            if self._iterator is None:
                self._iterator = self._exchange.run(lambda: aiter(self._items))
            step = self._exchange.run(self._iterator.__anext__)
            item = await (InContext(step, self._exchange.context) if self._exchange.is_elsewhere else step)
        except StopAsyncIteration:
            self._is_over = True
            await self._exchange.aclose()
            raise
        except (asyncio.CancelledError, GeneratorExit) as error:
            # Servers cancel a body when the client is gone.
            self._is_over = True
            await self._exchange.aclose(self._exchange.cut_off(error))
            raise
        except BaseException as error:
            self._is_over = True
            await self._exchange.aclose(error)
            raise
        self._exchange.sends(item)
        return item

    async def _drain(self) -> None:
        self._is_drained = True
        try:
            while True:
                item = await self._step()
                if item and not self._exchange.framing.is_bodyless:
                    self._held.append(item)
                    await self._exchange.aclose()
                    return
        except StopAsyncIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - re-raised after the held chunk is sent
            self._error = error
        if self._exchange.framing.is_bodyless:
            self._held.clear()

    async def aclose(self) -> None:
        """Close early: the rest of the body will not be requested."""
        try:
            close_items = getattr(self._iterator if self._iterator is not None else self._items, "aclose", None)
            if close_items is not None:
                await close_items()
        finally:
            if self._exchange.is_open:
                await self._exchange.aclose(self._exchange.cut_off())

    def __del__(self) -> None:
        self._items = self._iterator = None
        ABANDONED.take(self._exchange)
