"""What is said of an event and of a handler's result, and the class that says it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from trace_guard.invocation.propagation import Carrier
from trace_guard.invocation.reading import known

__all__ = ["Carrier", "Description", "Judgement", "Trigger"]


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Description(NamedTuple):
    """What an event says of the invocation. A custom extractor may make one with any of it.

    Attributes:
        name: of the root span; None keeps the function's name.
        trigger: ``faas.trigger`` of OpenTelemetry: ``http``, ``pubsub``, ``datasource``, ``timer`` or ``other``.
        metadata: plain JSON, by OpenTelemetry's names where it has one, else by names in its style below ``aws.``.
            Ids and names, never a header's value, a body or a query string.
        carriers: the trace contexts in the event: one for each record of a batch, empty where a record has none;
            none at all if no record has any.
        fallbacks: the trace contexts beside the event, best first: the client context, then ``context.w3c()``.
        source: which entry of the table has described it, ``sqs`` say.
        records: how many records a batch holds; 0 if it is none.
    """

    name: str | None = None
    trigger: str = "other"
    metadata: Mapping[str, Any] = _NOTHING
    carriers: tuple[Carrier, ...] = ()
    fallbacks: tuple[Carrier, ...] = ()
    source: str = "other"
    records: int = 0


class Judgement(NamedTuple):
    """What a result says of the invocation, although nothing was raised.

    Attributes:
        error: why it is to count as failed, or None.
        metadata: plain JSON for the root span.
    """

    error: str | None = None
    metadata: Mapping[str, Any] = _NOTHING


class Trigger:
    """One kind of event source; the base of all, which takes any event and says nothing of it."""

    source: ClassVar[str] = "other"
    trigger: ClassVar[str] = "other"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        """True if the event is of this kind. Cheap, as it is asked of every event."""
        return True

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        """What an event of this kind says."""
        return cls.said()

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """What a result for an event of this kind says."""
        return Judgement()

    @classmethod
    def said(
        cls, facts: Mapping[str, Any] | None = None, *, name: str | None = None, carriers: tuple[Carrier, ...] = (),
        records: int = 0,
    ) -> Description:
        """A description by this class, without the facts that are not known."""
        metadata = known(facts or {})
        if cls.source != "other":
            metadata["aws.lambda.event_source.type"] = cls.source
        return Description(
            name=name, trigger=cls.trigger, metadata=metadata, carriers=carriers if any(carriers) else (),
            source=cls.source, records=records,
        )
