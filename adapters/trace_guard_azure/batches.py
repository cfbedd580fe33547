"""A child span for each message of a batch, in the loop over it.

The worker hands a function all messages at once, so that no wrapper is around what it does for a single one. But nearly
all functions have a ``for`` loop over them: so the list is one whose first loop opens a span as it comes to a message,
and closes it as it goes on to the next, or is left. The list is else what it was, of a class below that which it had.

Only a ``for`` statement counts, over the messages or over ``enumerate`` and its like: what collects or counts, as a
comprehension or ``list()`` do, is not where the work is done. Where messages are done with at once a loop says nothing
of the work either: that is what :func:`trace_guard_azure.guard_record` is for, and in an app that has it loops are left
alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType, TracebackType
from typing import Any

from trace_guard import Invocation
from trace_guard.contain import contain, contained
from trace_guard.invocation.invocation import current_invocation
from trace_guard.invocation.propagation import parentage
from trace_guard.invocation.records import Record, RecordOptions, RecordSpan

from .triggers.description import Trigger
from .triggers.reading import Carrier

__all__ = ["Batch", "batch_of", "described", "leave_loops_alone"]

# Up to Python 3.11 those of lists, sets and dicts are functions too.
_COMPREHENSIONS = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")

_loops_are_left_alone = False


def leave_loops_alone() -> None:
    """Have no loop open spans: there is a function that is called for each message."""
    global _loops_are_left_alone
    _loops_are_left_alone = True


def described(trigger: type[Trigger] | None, message: Any, room: int, carrier: Carrier | None = None) -> Record:
    """What is said of a message: its ids, and as ``links`` the trace that it comes from. The invocation's root stays
    the parent, as it is that of the whole batch.

    Args:
        carrier: its trace context, if that is known better than from the message alone.
    """
    if trigger is None:
        return Record({}, message)
    facts = contained("describe a message", lambda: trigger.facts_of_message(message), {})
    known = {key: value for key, value in facts.items() if value is not None}
    found = carrier or contained("read a message's trace context", lambda: trigger.carrier_of_message(message), {})
    if found:
        # Beside one that has none no carrier is adopted: what is left is a link.
        known["links"] = parentage((found, {}))[1]["links"]
    return Record(known, contained("read a message", lambda: trigger.input_of_message(message, room), message))


class Batch:
    """The loop over a batch.

    Args:
        invocation: that of the function.
        trigger: the kind of its messages.
        carriers: their trace contexts, in the order of the messages; not of more than the first of them.
        room: of a body, so many bytes are read.
    """

    def __init__(
        self, invocation: Invocation, trigger: type[Trigger], carriers: Sequence[Carrier], room: int
    ) -> None:
        self._invocation = invocation
        self._trigger = trigger
        self._carriers = carriers
        self._room = room
        self._is_begun = False
        self._left: tuple[RecordSpan, Any, int] | None = None

    def iterator(self, messages: Iterator[Any], frame: FrameType) -> Iterator[Any]:
        """What to iterate instead of the messages alone; for the first loop that the function begins itself, one that
        opens spans.

        Args:
            frame: where messages are asked for.
        """
        if self._is_begun or _loops_are_left_alone or current_invocation() is not self._invocation:
            return messages
        loops, calls = _loops_in(frame.f_code)
        if frame.f_lasti in calls:
            return self._loop_around(messages, frame.f_code, frame.f_lasti)
        self._is_begun = frame.f_lasti in loops
        return self._loop(messages) if self._is_begun else messages

    def _loop_around(self, messages: Iterator[Any], code: CodeType, call: int) -> Iterator[Any]:
        """The messages for a ``for`` statement that is over what a call makes of them: a loop if it takes one after
        the other, as ``enumerate`` does, and none if the call takes all, as ``sorted`` does."""
        frame = sys._getframe(1)
        if not self._is_begun and frame.f_code is code and frame.f_lasti != call:
            self._is_begun = True
            messages = self._loop(messages)
        del frame
        yield from messages

    def _loop(self, messages: Iterator[Any]) -> Iterator[Any]:
        """Each message, with its span open until the next one is asked for."""
        for index, message in enumerate(messages):
            span = self._opened(message, self._carriers[index] if index < len(self._carriers) else None)
            try:
                yield message
            except GeneratorExit:
                # The loop was left in the middle: by break, by return, or by an exception, which is not seen here.
                if span is not None:
                    span.end()
                    with contain("note where a loop was left"):
                        frame = sys._getframe(1)
                        if frame.f_code is _AROUND and frame.f_back is not None:
                            frame = frame.f_back
                        self._left = (span, frame.f_code, frame.f_lineno)
                raise
            if span is not None:
                span.done()

    def end(self, error: BaseException | None = None) -> None:
        """The function has come to its end: now it is known how the message was done with at which its loop was left.
        An exception was that message's if it came from where the loop was left."""
        left, self._left = self._left, None
        if left is None:
            return
        span, code, line = left
        failed = error is not None and _passed(error.__traceback__, code, line)
        if failed and error is not None:
            span.log_error(error)
        span.count("failed" if failed else "done")

    def _opened(self, message: Any, carrier: Carrier | None) -> RecordSpan | None:
        if not self._invocation.is_live:
            return None
        return contained(
            "begin a message's span",
            lambda: RecordSpan(
                self._invocation, "message", RecordOptions(),
                lambda: described(self._trigger, message, self._room, carrier),
            ),
            None,
        )


_AROUND = Batch._loop_around.__code__


def batch_of(messages: Sequence[Any], batch: Batch) -> Sequence[Any] | None:
    """The same messages as a list of a class below that of theirs, whose loop is the batch's; None if they are of no
    class that is known to take that."""
    if type(messages) is list:
        kind: Any = _looping(list)
    elif _is_user_list(type(messages)):  # DocumentList of azure.functions
        kind = _looping(type(messages))
    else:
        return None
    found: Sequence[Any] = kind(messages)
    found._batch = batch  # type: ignore[attr-defined]
    return found


@functools.cache
def _looping(plain: Any) -> Any:
    def __iter__(self: Any) -> Iterator[Any]:
        messages = plain.__iter__(self)
        batch, frame = self._batch, sys._getframe(1)
        if batch is None:
            return messages  # type: ignore[no-any-return]
        return contained("tell a loop over a batch", lambda: batch.iterator(messages, frame), messages)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return plain, (list(plain.__iter__(self)),)

    return type(plain.__name__, (plain,), {
        "__iter__": __iter__, "__reduce_ex__": __reduce_ex__, "__module__": plain.__module__, "_batch": None,
        "__qualname__": plain.__qualname__,
    })


@functools.lru_cache(maxsize=256)
def _loops_in(code: CodeType) -> tuple[frozenset[int], frozenset[int]]:
    """Where ``for`` statements ask for an iterator, and where they call what they are to iterate. In a comprehension
    something else comes between that and the first step, or it is a function of its own."""
    import dis  # rarely needed

    loops: set[int] = set()
    calls: set[int] = set()
    comprehension_ends = -1
    before: tuple[Any, Any] = (None, None)
    for one in dis.get_instructions(code) if code.co_name not in _COMPREHENSIONS else ():
        if one.opname in ("EXTENDED_ARG", "CACHE"):
            continue
        called, asked = before
        if one.opname == "FOR_ITER" and one.offset > comprehension_ends:
            if asked is None or asked.opname != "GET_ITER":
                comprehension_ends = one.argval  # those of its further "for" clauses are like those of statements
            else:
                loops.add(asked.offset)
                if called is not None and called.opname.startswith("CALL"):
                    calls.add(called.offset)
        before = asked, one
    return frozenset(loops), frozenset(calls)


def _is_user_list(kind: type) -> bool:
    from collections import UserList

    return issubclass(kind, UserList) and kind.__iter__ is UserList.__iter__


def _passed(trace: TracebackType | None, code: Any, line: int) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code is code and trace.tb_lineno == line:
            return True
        trace = trace.tb_next
    return False
