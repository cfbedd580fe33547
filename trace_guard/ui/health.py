"""What the health page shows: this machine's state, and traces that are stuck."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..doctor.finding import Finding
from ..doctor.machine import machine_findings
from ..runtime.status import Status, read_status
from ..settings import Settings

__all__ = ["Health", "HealthReport", "Repair", "StuckTrace"]


@dataclass(frozen=True)
class StuckTrace:
    """A trace that the reaper would close.

    Attributes:
        quiet: seconds since the last activity anywhere in the trace.
        cause: why it is likely to be stuck.
        opened_at: where the innermost open span was started.
    """

    root_span_id: str
    name: str
    project: str
    quiet: float
    open_spans: int
    cause: str
    opened_at: str | None


class Repair(Protocol):
    """Finds and closes stuck traces.

    Attributes:
        is_slow: a search takes long, so somebody must ask for it.
    """

    is_slow: bool

    def stuck(self) -> Sequence[StuckTrace]:
        """The traces that would be closed, without closing any."""
        ...

    def close(self, root_span_id: str) -> str:
        """Close one trace if it is still stuck. Returns what was done, for people."""
        ...


@dataclass(frozen=True)
class HealthReport:
    """What the page shows.

    Attributes:
        has_searched: the stuck traces were searched for.
    """

    status: Status
    has_searched: bool
    findings: Sequence[Finding] = field(default_factory=tuple)
    stuck: Sequence[StuckTrace] = field(default_factory=tuple)


class Health:
    """Reads the state directory and runs repairs.

    Attributes:
        token: proves that a request comes from a page of this process.
    """

    def __init__(self, settings: Settings, repair: Repair) -> None:
        self.token = secrets.token_urlsafe(24)
        self._settings = settings
        self._repair = repair

    def report(self, *, search: bool = False) -> HealthReport:
        """The present state.

        Args:
            search: for stuck traces, also if that takes long.
        """
        search = search or not self._repair.is_slow
        return HealthReport(
            read_status(self._settings), search, list(machine_findings(self._settings)),
            self._repair.stuck() if search else (),
        )

    def is_token(self, token: str) -> bool:
        """True for the token of this process."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def close(self, root_span_id: str) -> str:
        """Close one stuck trace; see :meth:`Repair.close`."""
        return self._repair.close(root_span_id)
