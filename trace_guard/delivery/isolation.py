"""Finds rows that make requests fail although the server answers others, so that they don't block other rows.

A failed request alone says nothing about its rows, since the server may be down for everybody. A row is rejected only
if it fails several times on its own while another request, the control, succeeds each time in between. The control is
a row of the same batch that was just delivered, or the identity of the suspected span without a payload. Either may
arrive twice without harm, because no other request carries rows of these spans at that time.
"""

from __future__ import annotations

import json
import random
import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

from ..deadline import Deadline
from ..errors import BackendUnavailable
from ..rows import dump, identity, is_span_row

__all__ = ["STRIKES", "Isolation", "SendsRows"]

STRIKES = 4
"""How many times a row or an attachment must fail, with a successful control in between, before it is rejected."""

# The most rows in succession that are rejected when only an identity could serve as the control. Otherwise a server
# that takes only small rows for a while would turn everything into dead letters.
_MOST_BY_IDENTITY = 3
# How many identities are sent to find out whether the server answers at all. One of them may fail itself.
_PROBES = 2
# The longest that an attempt with many bytes may take, and the slowest connection that it allows for.
_LONGEST_ATTEMPT_SECONDS = 8.0
_SLOWEST_BYTES_PER_SECOND = 512 * 1024
_REMEMBERED = 10_000
_CONTROL_BYTES = 64 * 1024
# The module's own functions have a state that user code may have seeded.
_RANDOM = random.SystemRandom()


class SendsRows(Protocol):
    """Sends the requests of a search. Both ways to send raise only :class:`BackendError`."""

    def send_rows(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Send these rows in one request, which is repeated as usual."""
        ...

    def try_once(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Send these rows in one request, which is not repeated."""
        ...

    def give_up(self, row: bytes, why: BackendUnavailable, deadline: Deadline) -> None:
        """Take over a rejected row, with its last error."""
        ...


class Isolation:
    """Sends rows, and rejects those that make the server fail. Thread-safe.

    It remembers suspected rows between requests, because the time of one request may not be enough for a search.

    Args:
        sender: sends the requests, and takes over the rows that are rejected.
        attempt_seconds: what one attempt may take, longer for many bytes.
    """

    def __init__(self, sender: SendsRows, attempt_seconds: float) -> None:
        self._sender = sender
        self._attempt_seconds = attempt_seconds
        self._lock = threading.Lock()
        self._strikes: OrderedDict[bytes, int] = OrderedDict()
        self._by_identity = 0

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Send rows.

        Raises:
            BackendError: some rows are neither delivered nor rejected. Send all of them again.
        """
        suspects = [row for row in rows if _digest(row) in self._strikes] if self._strikes else []
        others = [row for row in rows if row not in suspects] if suspects else rows
        search = _Search(self, deadline, insists=bool(suspects))
        if others:
            try:
                self._sender.send_rows(others, deadline)
            except BackendUnavailable as error:
                if error.suspect_rows and (error.retry_after or deadline.expired):
                    self.suspect(others)  # there is no time for a search now
                search.check(error)
                search.probe(others, error)
                search.narrow(others, error)
            else:
                search.arrived(others)
        if suspects:
            if not others:
                search.probe(suspects, None)
            if not search.arrives(suspects):
                search.narrow(suspects, search.error)

    def try_once(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Make one attempt, of limited time."""
        seconds = min(_LONGEST_ATTEMPT_SECONDS, self._attempt_seconds + sum(map(len, rows)) / _SLOWEST_BYTES_PER_SECOND)
        self._sender.try_once(rows, deadline.capped(seconds))

    def suspect(self, rows: Sequence[bytes]) -> None:
        """Remember that these rows failed together."""
        with self._lock:
            for row in rows:
                self._strikes.setdefault(_digest(row), 0)
            while len(self._strikes) > _REMEMBERED:
                self._strikes.popitem(last=False)

    def clear(self, rows: Sequence[bytes]) -> None:
        """Forget suspicions against these rows: they were delivered with their payloads."""
        self._by_identity = 0
        if self._strikes:
            with self._lock:
                for row in rows:
                    self._strikes.pop(_digest(row), None)

    def strike(self, row: bytes) -> int:
        """Count that a row failed on its own. Returns the count."""
        with self._lock:
            self._strikes[_digest(row)] = strikes = self._strikes.get(_digest(row), 0) + 1
            return strikes

    def reject(self, row: bytes, error: BackendUnavailable, deadline: Deadline, *, by_identity: bool) -> None:
        """Reject a row."""
        self._by_identity += by_identity
        with self._lock:
            self._strikes.pop(_digest(row), None)
        self._sender.give_up(row, error, deadline)

    @property
    def takes_identity(self) -> bool:
        """False if too many rows were rejected since a row was last delivered with its payload."""
        return self._by_identity < _MOST_BY_IDENTITY


class _Search:
    """The search for the cause of a failure in the rows of one request.

    Args:
        insists: rows of it failed before. A pause that the server asked for is over, so the search goes on although
            it asks for another one with each failure; only 429 is about the number of requests.

    Attributes:
        error: why the last attempt failed.
    """

    def __init__(self, isolation: Isolation, deadline: Deadline, *, insists: bool) -> None:
        self._isolation = isolation
        self._deadline = deadline
        self._insists = insists
        self._control: bytes | None = None
        self.error: BackendUnavailable | None = None

    def check(self, error: BackendUnavailable) -> None:
        """Raise the error if no row can be its cause, or if there is no time to find out."""
        self.error = error
        pauses = bool(error.retry_after) and (error.status == 429 or not self._insists)
        if not error.suspect_rows or pauses or self._deadline.expired:
            raise error

    def probe(self, rows: Sequence[bytes], error: BackendUnavailable | None) -> None:
        """Raise unless the server accepts an identity of one of the spans. Rows that are not spans have none: if there
        are several of those, the search goes on without a probe."""
        probes = [bare for row in _RANDOM.sample(rows, min(_PROBES, len(rows))) if (bare := _identity(row)) is not None]
        for bare in probes:
            if self.arrives([bare], whole=False):
                return
        last = self.error or error
        if last is not None and (probes or len(rows) == 1):
            raise last

    def narrow(self, rows: Sequence[bytes], error: BackendUnavailable | None) -> None:
        """Bisect rows that failed together until the cause is found."""
        self._isolation.suspect(rows)
        if len(rows) == 1:
            assert error is not None
            self._test_alone(rows[0], error)
            return
        middle = len(rows) // 2
        # Send both halves first: a row of one half is the control for the other.
        failed = [(half, self.error) for half in (rows[:middle], rows[middle:]) if not self.arrives(half)]
        for half, why in failed:
            self.narrow(half, why)

    def arrives(self, rows: Sequence[bytes], *, whole: bool = True) -> bool:
        """Make one attempt. Returns False if it failed and the rows may be the cause.

        Args:
            whole: the rows have their payloads, so that they count as delivered.
        """
        try:
            self._isolation.try_once(rows, self._deadline)
        except BackendUnavailable as error:
            self.check(error)
            return False
        if whole:
            self.arrived(rows)
        return True

    def arrived(self, rows: Sequence[bytes]) -> None:
        self._isolation.clear(rows)
        smallest = min(rows, key=len)
        if len(smallest) <= _CONTROL_BYTES and (self._control is None or len(smallest) < len(self._control)):
            self._control = smallest

    def _test_alone(self, row: bytes, error: BackendUnavailable) -> None:
        """A row failed on its own. Reject it if it keeps failing while the server answers the control."""
        while self._isolation.strike(row) < STRIKES:
            self._require_control(row, error)
            if self.arrives([row]):
                return
            error = self.error or error
        self._isolation.reject(row, error, self._deadline, by_identity=self._control is None)

    def _require_control(self, row: bytes, error: BackendUnavailable) -> None:
        """Raise ``error`` unless the server answers the control."""
        control = self._control
        if control is None and self._isolation.takes_identity:
            control = _identity(row)
        if control is None or not self.arrives([control], whole=False):
            raise error


def _identity(encoded: bytes) -> bytes | None:
    """A row with only the ids of a span, which changes nothing on the server; None for a row that is not of a span."""
    row = json.loads(encoded)
    return dump({**identity(row), "_is_merge": True}) if is_span_row(row) else None


def _digest(row: bytes) -> bytes:
    return sha256(row).digest()
