"""Under which rule an invocation becomes a part of its caller's trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ..contain import contained

__all__ = ["Carrier", "parentage"]

Carrier: TypeAlias = Mapping[str, str]
"""``traceparent`` and, where they came along, ``tracestate`` and ``baggage``; nothing else, so that no other header
or attribute can get out. Empty if there was no well-formed ``traceparent``."""

_LINKS = 32
_PARENT_KEY = "braintrust.parent="


def parentage(
    carriers: Sequence[Carrier], fallbacks: Iterable[Carrier] = ()
) -> tuple[Mapping[str, str] | None, dict[str, Any]]:
    """The parent to adopt, or None, and as metadata the ids of what is not adopted.

    Only a context whose baggage has ``braintrust.parent`` is adopted: any other names a span that Braintrust has
    never seen. A batch is adopted if each of its records carries one same parent. Of several, which would all be
    wrong for the rest, none is: they are ``links`` in the metadata, at most 32 of them, and ``links_count``.

    Args:
        carriers: of the event, one for each record.
        fallbacks: beside the event; the first that can be adopted is, if the event's can't.

    Never raises.
    """
    return contained("find the parent", lambda: _parentage(carriers, fallbacks), (None, {}))


def _parentage(
    carriers: Sequence[Carrier], fallbacks: Iterable[Carrier]
) -> tuple[Mapping[str, str] | None, dict[str, Any]]:
    distinct = {(one.get("traceparent"), _container(one)): one for one in carriers}
    parent: Mapping[str, str] | None = None
    metadata: dict[str, Any] = {}
    if len(distinct) == 1:
        parent, metadata = _adopted(next(iter(distinct.values())))
    elif distinct:
        links = [_link(one) for one in distinct.values() if one.get("traceparent")]
        metadata = {"links": links[:_LINKS], "links_count": len(links)}
    for one in fallbacks:
        if parent is not None:
            break
        parent, foreign = _adopted(one)
        metadata = {**foreign, **metadata}
    return parent, metadata


def _adopted(carrier: Carrier) -> tuple[Mapping[str, str] | None, dict[str, Any]]:
    from ..sdk.sdk import Sdk  # brings the SDK of Braintrust, which is loaded once there is a guard

    parent, foreign = Sdk.adoptable(carrier)
    # A mapping goes in, and so a mapping comes out.
    return (parent if isinstance(parent, Mapping) else None), dict(foreign)


def _link(carrier: Carrier) -> dict[str, str]:
    container = _container(carrier)
    return {"traceparent": carrier["traceparent"], **({"braintrust.parent": container} if container else {})}


def _container(carrier: Carrier) -> str:
    """What the baggage says of where in Braintrust the span is, ``project_id:...`` say."""
    baggage = carrier.get("baggage", "")
    if _PARENT_KEY not in baggage:
        return ""
    from urllib.parse import unquote

    return unquote(baggage.partition(_PARENT_KEY)[2].partition(",")[0].partition(";")[0].strip())
