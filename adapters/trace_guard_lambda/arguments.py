"""Finds the event and Lambda's context among the arguments of a handler.

Lambda passes ``(event, context)``. A method also has ``self``, a decorator may inject arguments or pass them by name,
and frameworks pass an event object of their own. So the context is found by its attributes, and the event by its name
or its place before the context.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from trace_guard.contain import contained, logger
from trace_guard.invocation.misuse import check_decorated
from trace_guard.invocation.reading import mapping
from trace_guard.system.interruption import pass_interruption

__all__ = ["Arguments", "Found", "check", "path_of"]

_EVENTS = frozenset({"event", "evt", "lambda_event", "aws_event"})
_CONTEXTS = frozenset({"context", "ctx", "lambda_context", "aws_context"})
_RECEIVERS = frozenset({"self", "cls"})
# Their functions get one object, or nothing, and Lambda's context is within reach.
_FRAMEWORKS = ("chalice", "mangum")
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Found(NamedTuple):
    """The event as plain data where it can be had, and the context. Each is None if it was not found."""

    event: Any = None
    context: Any = None


class _Argument(NamedTuple):
    """An argument with the name of its parameter, in lower case and without underscores around it; empty if the name
    is not known."""

    name: str
    value: Any


class Arguments:
    """Finds event and context in each call of a handler.

    Args:
        handler: the function that will be called.
    """

    def __init__(self, handler: Callable[..., Any]) -> None:
        self._handler = handler
        self._names, self._required = contained("read a handler's signature", lambda: _names_of(handler), ((), 0))

    def find(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Found:
        """The event and the context of a call."""
        if len(args) == 2 and not keywords and _is_context(args[1]):
            return _plain(Found(args[0], args[1]))  # the usual call
        return _plain(self._found([*self._named(args, keywords)]))

    def _named(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Iterator[_Argument]:
        names = self._names if len(args) + len(keywords) >= self._required else ()
        for index, value in enumerate(args):
            yield _Argument(_bare(names[index]) if index < len(names) else "", value)
        for name, value in keywords.items():
            yield _Argument(_bare(name), value)

    def _found(self, arguments: list[_Argument]) -> Found:
        given = [each for each in arguments if each.name not in _RECEIVERS]
        context = _context_among(given)
        if context is None:
            return next(filter(None, map(_in_event_object, given)), None) or self._by_name(given)
        before = given[: given.index(context)]
        event = next((each for each in given if each.name in _EVENTS and each is not context), None)
        if event is None:
            event = before[-1] if before else next((each for each in given if each is not context), None)
        return Found(None if event is None else event.value, context.value)

    def _by_name(self, given: list[_Argument]) -> Found:
        """The event and context of a call without Lambda's context, as in unit tests and frameworks."""
        if not given:
            return _in_chalice(self._handler) or Found()
        context = next((each for each in given if each.name in _CONTEXTS), None)
        event = next((each for each in given if each.name in _EVENTS), None)
        if event is None:
            event = next((each for each in given if each is not context), None)
        if context is None and event is not None:
            after = given[given.index(event) + 1 :]
            context = after[0] if after and not after[0].name else context
        return Found(None if event is None else event.value, None if context is None else context.value)


def check(handler: Any) -> None:
    """Check that Lambda can call a handler, and warn if the guard can't find the event or the context in its calls.

    Raises:
        TypeError: it can't be called; the message says what to do.
    """
    if inspect.isclass(handler):
        raise TypeError(
            f"guard_handler can't guard the class {handler.__name__}: put it on the method that gets event and "
            "context, or guard an instance that can be called"
        )
    check_decorated(handler, "guard_handler")
    missing = contained("read a handler's parameters", lambda: _missing(handler), None)
    if missing is not None:
        name = getattr(handler, "__qualname__", None) or type(handler).__name__
        logger.warning(
            "%s() takes no %s, so its traces have %s: declare it as %s(event, context), or put guard_handler above the "
            "decorator that drops the argument", name, missing,
            "no input, invocation id or time limit" if missing == "event" else "no invocation id and no time limit",
            name.rpartition(".")[2],
        )


def _missing(handler: Callable[..., Any]) -> str | None:
    """The argument that a handler has no parameter for: ``event`` or ``context``; None if it may get both."""
    if any(framework in sys.modules for framework in _FRAMEWORKS):
        return None
    parameters = list(inspect.signature(handler, follow_wrapped=False).parameters.values())
    if any(each.kind in _VARIABLE for each in parameters):
        return None
    count = sum(_bare(each.name) not in _RECEIVERS for each in parameters)
    return None if count > 1 else "context" if count else "event"


def _names_of(handler: Callable[..., Any]) -> tuple[tuple[str, ...], int]:
    """The names of the positional parameters, and how many arguments a call must have for the names to fit: a
    decorator that takes any arguments may pass others than it gets."""
    own = _positional(inspect.signature(handler, follow_wrapped=False))
    if own:
        return tuple(each.name for each in own), 0
    wrapped = _positional(inspect.signature(handler))
    return tuple(each.name for each in wrapped), sum(each.default is each.empty for each in wrapped)


def _positional(signature: inspect.Signature) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each for each in signature.parameters.values() if each.kind in kinds]


def _bare(name: str) -> str:
    return name.strip("_").lower()


def _has(value: Any, *names: str) -> bool:
    """True if an object has these attributes. Reading an attribute of a user's object may raise anything."""
    try:
        return all(getattr(value, name, None) is not None for name in names)
    except Exception as error:  # noqa: BLE001
        pass_interruption(error)
        return False


def _is_context(value: Any) -> bool:
    """True for Lambda's context, and for the one that durable functions get in its place."""
    if isinstance(value, (Mapping, str, int, list)) or value is None:
        return False
    return _has(value, "aws_request_id", "get_remaining_time_in_millis") or _has(
        value, "lambda_context", "execution_context"
    )


def _context_among(given: list[_Argument]) -> _Argument | None:
    """The argument that is the context. A mock has every attribute, so a parameter with the context's name comes
    first."""
    contexts = [each for each in given if _is_context(each.value)]
    return next((each for each in contexts if each.name in _CONTEXTS), None) or next(
        (each for each in contexts if each.name not in _EVENTS), None
    )


def _in_event_object(argument: _Argument) -> Found | None:
    """The event and context in the object of a framework: Chalice's events, and requests below Mangum."""
    value = argument.value
    if _has(value, "context") and _is_context(value.context):
        return Found(value, value.context)
    scope = getattr(value, "scope", None) if _has(value, "scope") else value
    if isinstance(scope, Mapping) and _is_context(scope.get("aws.context")):
        return Found(scope.get("aws.event"), scope["aws.context"])
    return None


def _in_chalice(handler: Callable[..., Any]) -> Found | None:
    """The event and context of a Chalice route, which gets no argument: they are in the app of its module."""
    if "chalice" not in sys.modules:
        return None
    for value in tuple(getattr(inspect.unwrap(handler), "__globals__", {}).values()):
        if type(value).__module__.partition(".")[0] == "chalice" and _has(value, "current_request"):
            request = value.current_request
            return Found(request.to_original_event(), request.lambda_context)
    return None


def _plain(found: Found) -> Found:
    """The event as Lambda passed it, if it is an object of Powertools, Chalice or pydantic."""
    event = found.event
    if type(event) is dict or event is None:
        return found
    return Found(contained("read an event object", lambda: _event_in(event), event), found.context)


def _event_in(event: Any) -> Any:
    raw = getattr(event, "raw_event", None)  # data classes of Powertools
    if isinstance(raw, Mapping):
        return raw
    if type(event).__module__.partition(".")[0] == "chalice":
        return event.to_dict()
    if callable(getattr(type(event), "model_dump", None)):
        return event.model_dump(mode="json", by_alias=True)
    return event


def path_of(event: Any) -> str | None:
    """The path of an HTTP event, without the API's stage; None for other events."""
    fields = mapping(event)
    if "requestContext" not in fields and "headers" not in fields:
        return None
    path = next((fields[key] for key in ("rawPath", "path", "raw_path") if isinstance(fields.get(key), str)), None)
    stage = f"/{mapping(fields.get('requestContext')).get('stage')}/"
    return path[len(stage) - 1 :] if path is not None and "rawPath" in fields and path.startswith(stage) else path
