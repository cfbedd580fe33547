"""The description of a trigger's value, and the base class of all triggers."""

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
    """The facts about an invocation that the trigger's value contains.

    Attributes:
        trigger: ``faas.trigger`` of OpenTelemetry: ``http``, ``pubsub``, ``datasource``, ``timer`` or ``other``.
        metadata: plain JSON with OpenTelemetry's names, or names in its style below ``azure.``. It has ids and names,
            and never a header's value, a body or a query string.
        input: the input to log for the value.
        carriers: the trace contexts in the value: one for each message of a batch, which is empty for a message
            without a context; no carriers if no message has a context.
        messages: of a batch; None for a single value.
    """

    trigger: str = "other"
    metadata: Mapping[str, Any] = MappingProxyType({})
    input: Any = NOTHING
    carriers: tuple[Carrier, ...] = ()
    messages: Sequence[Any] | None = None


class Trigger:
    """A kind of trigger. The base class accepts every value and describes none of it.

    Attributes:
        kinds: its types of binding, in lower case.
        types: the names of the classes of its values.
        trigger: ``faas.trigger``.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    types: ClassVar[tuple[str, ...]] = ()
    trigger: ClassVar[str] = "other"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        """The description of a value.

        Args:
            byte_limit: the most bytes of a body that are read.
        """
        return cls.description({}, value, declared)

    @classmethod
    def facts_of_message(cls, message: Any) -> dict[str, Any]:
        """The metadata of one message of a batch."""
        return {}

    @classmethod
    def input_of_message(cls, message: Any, byte_limit: int) -> Any:
        """The input to log for a message."""
        return message

    @classmethod
    def carrier_of_message(cls, message: Any) -> Carrier:
        """The trace context in a message."""
        return {}

    @classmethod
    def description(
        cls, facts: Mapping[str, Any], input: Any, declared: Declaration, *, carriers: tuple[Carrier, ...] = (),
        messages: Sequence[Any] | None = None,
    ) -> Description:
        """A description with this class's trigger and without unknown facts."""
        metadata = known(facts)
        if declared.kind:
            metadata["azure.functions.trigger.type"] = declared.kind
        return Description(cls.trigger, metadata, input, carriers if any(carriers) else (), messages)


def inputs_of(trigger: type[Trigger], messages: Sequence[Any], byte_limit: int) -> list[Any]:
    """The input to log for a batch. All messages share the byte limit."""
    shown = messages[:LOOKED_AT]
    share = min(byte_limit, max(byte_limit // max(len(shown), 1), _LEAST_OF_A_MESSAGE))
    return [trigger.input_of_message(message, share) for message in shown]
