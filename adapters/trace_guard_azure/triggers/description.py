"""The description of a trigger's value, and the base of the classes that make one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.propagation import Carrier
from trace_guard.invocation.reading import LOOKED_AT, known

from ..declaration import Declaration

__all__ = ["Description", "Trigger", "inputs_of"]

_LEAST_OF_A_MESSAGE = 1024


class Description(NamedTuple):
    """
    Attributes:
        trigger: ``faas.trigger`` of OpenTelemetry: ``http``, ``pubsub``, ``datasource``, ``timer`` or ``other``.
        metadata: plain JSON, by OpenTelemetry's names where it has one, else by names in its style below ``azure.``.
            Ids and names, never a header's value, a body or a query string.
        input: the input that the value is logged as.
        carriers: the trace contexts in the value: one for each message of a batch, empty for a message without one;
            no carriers if no message has one.
        messages: of a batch; None for a single value.
    """

    trigger: str = "other"
    metadata: Mapping[str, Any] = MappingProxyType({})
    input: Any = NOTHING
    carriers: tuple[Carrier, ...] = ()
    messages: Sequence[Any] | None = None


class Trigger:
    """One kind of trigger. This base of all takes any value and knows nothing about it.

    Attributes:
        kinds: its types of binding, in lower case.
        types: the names of the classes of its values.
        trigger: ``faas.trigger``.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    types: ClassVar[tuple[str, ...]] = ()
    trigger: ClassVar[str] = "other"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, room: int) -> Description:
        """The description of a value.

        Args:
            room: the most bytes of a body that are read.
        """
        return cls.said({}, value, declared)

    @classmethod
    def facts_of_message(cls, message: Any) -> dict[str, Any]:
        """The metadata of one message of a batch."""
        return {}

    @classmethod
    def input_of_message(cls, message: Any, room: int) -> Any:
        """The input that a message is logged as."""
        return message

    @classmethod
    def carrier_of_message(cls, message: Any) -> Carrier:
        """The trace context in a message."""
        return {}

    @classmethod
    def said(
        cls, facts: Mapping[str, Any], input: Any, declared: Declaration, *, carriers: tuple[Carrier, ...] = (),
        messages: Sequence[Any] | None = None,
    ) -> Description:
        """A description by this class, without unknown facts."""
        metadata = known(facts)
        if declared.kind:
            metadata["azure.functions.trigger.type"] = declared.kind
        return Description(cls.trigger, metadata, input, carriers if any(carriers) else (), messages)


def inputs_of(trigger: type[Trigger], messages: Sequence[Any], room: int) -> list[Any]:
    """The input that a batch is logged as. All messages share the limit of bytes."""
    shown = messages[:LOOKED_AT]
    share = min(room, max(room // max(len(shown), 1), _LEAST_OF_A_MESSAGE))
    return [trigger.input_of_message(one, share) for one in shown]
