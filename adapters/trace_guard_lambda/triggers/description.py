"""The descriptions of events and results, and the base class of all triggers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from trace_guard.invocation.propagation import Carrier
from trace_guard.invocation.reading import known, mapping

__all__ = ["Carrier", "Description", "Judgement", "Trigger"]


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Description(NamedTuple):
    """The facts about an invocation that its event contains.

    Attributes:
        name: of the root span; None for the function's name.
        trigger: ``faas.trigger`` of OpenTelemetry: ``http``, ``pubsub``, ``datasource``, ``timer`` or ``other``.
        metadata: plain JSON with OpenTelemetry's names, or names in its style below ``aws.``. It has ids and names, and
            never a header's value, a body or a query string.
        carriers: the trace contexts in the event: one for each record of a batch, which is empty for a record without
            a context; no carriers if no record has a context.
        fallbacks: trace contexts outside the event, the preferred one first: the client context, ``context.w3c()``.
        source: the table's entry that describes the event, such as ``sqs``.
        records: how many records a batch has; 0 for other events.
    """

    name: str | None = None
    trigger: str = "other"
    metadata: Mapping[str, Any] = _NOTHING
    carriers: tuple[Carrier, ...] = ()
    fallbacks: tuple[Carrier, ...] = ()
    source: str = "other"
    records: int = 0


class Judgement(NamedTuple):
    """The meaning of a result for the invocation when nothing was raised.

    Attributes:
        error: why the invocation failed, or None.
        metadata: plain JSON for the root span.
    """

    error: str | None = None
    metadata: Mapping[str, Any] = _NOTHING


class Trigger:
    """A kind of event source. The base class accepts every event and describes none of it.

    Attributes:
        source: the name of the source.
        trigger: ``faas.trigger`` of its events.
        keys: the keys that all its events have. They are several, because a user's own event may have one of them too.
    """

    source: ClassVar[str] = "other"
    trigger: ClassVar[str] = "other"
    keys: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        """True if the event is of this kind. Must be cheap, because it runs for every event."""
        fields = mapping(event)
        return all(key in fields for key in cls.keys)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        """The description of an event of this kind."""
        return cls.description()

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """The judgement of a result for an event of this kind."""
        return Judgement()

    @classmethod
    def description(
        cls, facts: Mapping[str, Any] | None = None, *, name: str | None = None, carriers: tuple[Carrier, ...] = (),
        records: int = 0,
    ) -> Description:
        """A description with this class's source and trigger, and without unknown facts."""
        metadata = known(facts or {})
        if cls.source != "other":
            metadata["aws.lambda.event_source.type"] = cls.source
        return Description(
            name=name, trigger=cls.trigger, metadata=metadata, carriers=carriers if any(carriers) else (),
            source=cls.source, records=records,
        )
