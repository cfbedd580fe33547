"""The filter of the list of traces, as it stands in the page's address."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from urllib.parse import urlencode

__all__ = ["PERIODS", "STATES", "TraceFilter"]

STATES = {"": "all", "open": "in progress", "error": "error", "closed": "closed for you"}
PERIODS = {"": "any time", "1h": "last hour", "1d": "last day", "7d": "last 7 days", "30d": "last 30 days"}

_SECONDS = {"1h": 3600.0, "1d": 86400.0, "7d": 7 * 86400.0, "30d": 30 * 86400.0}
_MOST_CHARACTERS = 500


@dataclass(frozen=True)
class TraceFilter:
    """Which traces to list.

    Attributes:
        state: a key of :data:`STATES`. ``closed`` is a trace with a span that its own code did not close.
        project: the name or id of a project.
        name: a part of the root span's name.
        since: a key of :data:`PERIODS`.
        q: a text that occurs in a name, an error or a payload.
        page: counted from 1.
    """

    state: str = ""
    project: str = ""
    name: str = ""
    since: str = ""
    q: str = ""
    page: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> TraceFilter:
        """The filter in the parameters of an address. What is unknown or malformed counts as not given."""
        texts = {name: parameters.get(name, "").strip()[:_MOST_CHARACTERS] for name in ("project", "name", "q")}
        state, since, page = (parameters.get(name, "") for name in ("state", "since", "page"))
        return cls(
            state=state if state in STATES else "", since=since if since in PERIODS else "",
            page=max(1, int(page)) if page.isdecimal() and len(page) < 7 else 1, **texts,
        )

    @property
    def is_set(self) -> bool:
        """True if it leaves any trace out."""
        return replace(self, page=1) != TraceFilter()

    def earliest(self) -> float | None:
        """The earliest start of a trace, in seconds since the epoch; None for any."""
        seconds = _SECONDS.get(self.since)
        return None if seconds is None else time.time() - seconds

    def query(self, **changes: str | int) -> str:
        """The filter, with some fields changed, as the query of an address: ``?state=open``, or an empty text."""
        values = {name: value for name, value in asdict(replace(self, **changes)).items() if value}  # type: ignore[arg-type]
        if values.get("page") == 1:
            del values["page"]
        encoded = urlencode(values, errors="replace")
        return f"?{encoded}" if encoded else ""
