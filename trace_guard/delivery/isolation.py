"""Finds the rows over which requests fail although the server answers others, so that they hold up nothing else.

A failed request says nothing about its rows: the server may be down for everybody. Only evidence condemns a row: it
fails again and again on its own, and between its failures another request, the control, succeeds each time. The
control is a row that was just delivered with the same batch, or the bare identity of the suspected span. Either may
arrive twice without harm, as no other request carries rows of these spans meanwhile.
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
"""How often something must fail, each time beside a control that succeeds, before it is given up."""

# The most rows to be condemned in a row with no evidence but that their spans' bare identities arrive: a server that
# takes only small rows for a while is not to turn everything into dead letters.
_MOST_BY_IDENTITY = 3
# Two spans may be affected; a third that is picked at random as well is not to be expected.
_PROBES = 2
# The longest that an attempt with many bytes may take, and the slowest connection that it allows for.
_LONGEST_ATTEMPT_SECONDS = 8.0
_SLOWEST_BYTES_PER_SECOND = 512 * 1024
_REMEMBERED = 10_000
_CONTROL_BYTES = 64 * 1024


class SendsRows(Protocol):
    """What carries requests. Both ways to send raise a :class:`BackendError` for whatever goes wrong."""

    def send_rows(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Send these rows in one request, which is repeated as usual."""
        ...

    def try_once(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Send these rows in one request, which is not repeated."""
        ...

    def give_up(self, row: bytes, why: BackendUnavailable, deadline: Deadline) -> None:
        """Take a row that is condemned, with the last error."""
        ...


class Isolation:
    """Sends rows, and takes those out that the server fails over. Thread-safe.

    It keeps in mind which rows are suspected from one request to the next, since the time of one may not suffice.

    Args:
        sender: carries the requests, and takes the rows that are given up.
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
            BackendError: some rows are neither delivered nor condemned, and are to be sent again.
        """
        suspects = [row for row in rows if _digest(row) in self._strikes] if self._strikes else []
        others = [row for row in rows if row not in suspects] if suspects else rows
        search = _Search(self, deadline)
        if others:
            try:
                self._sender.send_rows(others, deadline)
            except BackendUnavailable as error:
                if error.suspect_rows and (error.retry_after is not None or deadline.expired):
                    self.suspect(others)  # there is no time to search now
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
        """Make one attempt, which leaves time for others."""
        seconds = min(_LONGEST_ATTEMPT_SECONDS, self._attempt_seconds + sum(map(len, rows)) / _SLOWEST_BYTES_PER_SECOND)
        self._sender.try_once(rows, deadline.capped(seconds))

    def suspect(self, rows: Sequence[bytes]) -> None:
        """Keep in mind that these rows failed together."""
        with self._lock:
            for row in rows:
                self._strikes.setdefault(_digest(row), 0)
            while len(self._strikes) > _REMEMBERED:
                self._strikes.popitem(last=False)

    def clear(self, rows: Sequence[bytes]) -> None:
        """These rows have arrived, whole."""
        self._by_identity = 0
        if self._strikes:
            with self._lock:
                for row in rows:
                    self._strikes.pop(_digest(row), None)

    def strike(self, row: bytes) -> int:
        """Count that a row failed on its own; how often it has by now."""
        with self._lock:
            self._strikes[_digest(row)] = strikes = self._strikes.get(_digest(row), 0) + 1
            return strikes

    def condemn(self, row: bytes, error: BackendUnavailable, deadline: Deadline, *, by_identity: bool) -> None:
        """Give a row up."""
        self._by_identity += by_identity
        with self._lock:
            self._strikes.pop(_digest(row), None)
        self._sender.give_up(row, error, deadline)

    @property
    def takes_identity(self) -> bool:
        """False once too many rows were condemned since a whole one arrived."""
        return self._by_identity < _MOST_BY_IDENTITY


class _Search:
    """The search in the rows of one request.

    Attributes:
        error: why the latest attempt failed.
    """

    def __init__(self, isolation: Isolation, deadline: Deadline) -> None:
        self._isolation = isolation
        self._deadline = deadline
        self._control: bytes | None = None
        self.error: BackendUnavailable | None = None

    def check(self, error: BackendUnavailable) -> None:
        """Raise an error that no row can be the cause of, or that leaves no time to find out."""
        self.error = error
        if not error.suspect_rows or error.retry_after is not None or self._deadline.expired:
            raise error

    def probe(self, rows: Sequence[bytes], error: BackendUnavailable | None) -> None:
        """Raise unless the server answers a request without what the rows carry. If they are no spans, and there are
        several, only they themselves can tell."""
        probes = [bare for row in random.sample(rows, min(_PROBES, len(rows))) if (bare := _identity(row)) is not None]
        for bare in probes:
            if self.arrives([bare], whole=False):
                return
        last = self.error or error
        if last is not None and (probes or len(rows) == 1):
            raise last

    def narrow(self, rows: Sequence[bytes], error: BackendUnavailable | None) -> None:
        """Find out which of some rows that failed together is the cause."""
        self._isolation.suspect(rows)
        if len(rows) == 1:
            assert error is not None
            self._convict(rows[0], error)
            return
        middle = len(rows) // 2
        # Both first: what arrives of one is the control for the other.
        failed = [(half, self.error) for half in (rows[:middle], rows[middle:]) if not self.arrives(half)]
        for half, why in failed:
            self.narrow(half, why)

    def arrives(self, rows: Sequence[bytes], *, whole: bool = True) -> bool:
        """Make one attempt; False if the rows may be why it failed.

        Args:
            whole: the rows are those that are to be delivered, and not made for this attempt.
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

    def _convict(self, row: bytes, error: BackendUnavailable) -> None:
        """A row failed on its own: condemn it if it goes on to fail while the server answers."""
        while self._isolation.strike(row) < STRIKES:
            self._answers(row, error)
            if self.arrives([row]):
                return
            error = self.error or error
        self._isolation.condemn(row, error, self._deadline, by_identity=self._control is None)

    def _answers(self, row: bytes, error: BackendUnavailable) -> None:
        """Raise ``error`` unless the server answers the control."""
        control = self._control
        if control is None and self._isolation.takes_identity:
            control = _identity(row)
        if control is None or not self.arrives([control], whole=False):
            raise error


def _identity(encoded: bytes) -> bytes | None:
    """What of a span row is known to the server anyway, or will be; None for a row that can't be merged."""
    row = json.loads(encoded)
    return dump({**identity(row), "_is_merge": True}) if is_span_row(row) else None


def _digest(row: bytes) -> bytes:
    return sha256(row).digest()
