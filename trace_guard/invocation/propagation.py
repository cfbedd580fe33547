"""Decides whether an invocation joins its caller's trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ..contain import contained

__all__ = ["Carrier", "parentage"]

Carrier: TypeAlias = Mapping[str, str]
"""``traceparent`` and, if present, ``tracestate`` and ``baggage``. It never holds another header or attribute, so none
can leak. Empty without a well-formed ``traceparent``."""

_LINKS = 32
_PARENT_KEY = "braintrust.parent="


def parentage(
    carriers: Sequence[Carrier], fallbacks: Iterable[Carrier] = ()
) -> tuple[Mapping[str, str] | None, dict[str, Any]]:
    """Returns the parent to adopt, or None, and the ids of contexts that are not adopted as metadata.

    A context is adopted only if its baggage has ``braintrust.parent``: any other names a span that Braintrust has never
    seen. A batch adopts a parent only if all its records carry the same one, since no single parent is right for
    records of several traces. In that case the metadata has ``links``, at most 32, and ``links_count``.

    Args:
        carriers: of the event, one for each record.
        fallbacks: from outside the event. If the event has no adoptable parent, the first adoptable one is used.

    Never raises.
    """
    return contained("find the parent", lambda: _parentage(carriers, fallbacks), (None, {}))


def _parentage(
    carriers: Sequence[Carrier], fallbacks: Iterable[Carrier]
) -> tuple[Mapping[str, str] | None, dict[str, Any]]:
    distinct = {(carrier.get("traceparent"), _container(carrier)): carrier for carrier in carriers}
    parent: Mapping[str, str] | None = None
    metadata: dict[str, Any] = {}
    if len(distinct) == 1:
        parent, metadata = _adopted(next(iter(distinct.values())))
    elif distinct:
        links = [_link(carrier) for carrier in distinct.values() if carrier.get("traceparent")]
        metadata = {"links": links[:_LINKS], "links_count": len(links)}
    for carrier in fallbacks:
        if parent is not None:
            break
        parent, foreign = _adopted(carrier)
        metadata = {**foreign, **metadata}
    return parent, metadata


def _adopted(carrier: Carrier) -> tuple[Mapping[str, str] | None, dict[str, Any]]:
    from ..sdk.sdk import Sdk  # imported late, as it imports the Braintrust SDK

    parent, foreign = Sdk.adoptable(carrier)
    # For a mapping, adoptable() returns a mapping or None.
    return (parent if isinstance(parent, Mapping) else None), dict(foreign)


def _link(carrier: Carrier) -> dict[str, str]:
    container = _container(carrier)
    return {"traceparent": carrier["traceparent"], **({"braintrust.parent": container} if container else {})}


def _container(carrier: Carrier) -> str:
    """The Braintrust object of the span, such as ``project_id:...``, from the baggage."""
    baggage = carrier.get("baggage", "")
    if _PARENT_KEY not in baggage:
        return ""
    from urllib.parse import unquote

    return unquote(baggage.partition(_PARENT_KEY)[2].partition(",")[0].partition(";")[0].strip())
