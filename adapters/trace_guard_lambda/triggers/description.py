"""The descriptions of events and of results, and the base of the classes that make them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from trace_guard.invocation.propagation import Carrier
from trace_guard.invocation.reading import known

__all__ = ["Carrier", "Description", "Judgement", "Trigger"]


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Description(NamedTuple):
    """What is known of an invocation from its event. A custom extractor may set any of it.

    Attributes:
        name: of the root span; None keeps the function's name.
        trigger: ``faas.trigger`` of OpenTelemetry: ``http``, ``pubsub``, ``datasource``, ``timer`` or ``other``.
        metadata: plain JSON, by OpenTelemetry's names where it has one, else by names in its style below ``aws.``.
            Ids and names, never a header's value, a body or a query string.
        carriers: the trace contexts in the event: one for each record of a batch, empty for a record without one; no
            carriers if no record has one.
        fallbacks: the trace contexts beside the event, best first: the client context, then ``context.w3c()``.
        source: the entry of the table that described it, such as ``sqs``.
        records: how many records a batch holds; 0 for other events.
    """

    name: str | None = None
    trigger: str = "other"
    metadata: Mapping[str, Any] = _NOTHING
    carriers: tuple[Carrier, ...] = ()
    fallbacks: tuple[Carrier, ...] = ()
    source: str = "other"
    records: int = 0


class Judgement(NamedTuple):
    """What a result means for the invocation, although nothing was raised.

    Attributes:
        error: why the invocation counts as failed, or None.
        metadata: plain JSON for the root span.
    """

    error: str | None = None
    metadata: Mapping[str, Any] = _NOTHING


class Trigger:
    """One kind of event source. This base of all takes any event and knows nothing about it."""

    source: ClassVar[str] = "other"
    trigger: ClassVar[str] = "other"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        """True if the event is of this kind. Cheap, because every event is tried."""
        return True

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        """The description of an event of this kind."""
        return cls.said()

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """The judgement of a result for an event of this kind."""
        return Judgement()

    @classmethod
    def said(
        cls, facts: Mapping[str, Any] | None = None, *, name: str | None = None, carriers: tuple[Carrier, ...] = (),
        records: int = 0,
    ) -> Description:
        """A description by this class, without unknown facts."""
        metadata = known(facts or {})
        if cls.source != "other":
            metadata["aws.lambda.event_source.type"] = cls.source
        return Description(
            name=name, trigger=cls.trigger, metadata=metadata, carriers=carriers if any(carriers) else (),
            source=cls.source, records=records,
        )
