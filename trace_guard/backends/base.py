"""The interface between the courier and a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..deadline import Deadline

if TYPE_CHECKING:
    from ..journal.spooled import Content, SpooledAttachment

__all__ = ["Backend", "TakesAttachments", "TriesOnce"]


@runtime_checkable
class Backend(Protocol):
    """Takes rows and keeps them. Implementations are thread-safe, and safe to use after ``fork``.

    Attributes:
        name: ``braintrust``, ``local`` or ``memory``; stands in the journal's header.
        max_bytes: the most bytes of rows that one :meth:`send` should carry.
    """

    name: str
    max_bytes: int

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Store rows by the merge rules of :mod:`trace_guard.rows`; sending them twice changes nothing.

        Args:
            rows: each one JSON object, in the order in which they take effect; no two span rows of one span.
            deadline: when the call gives up.

        Raises:
            BackendUnavailable: nothing is known to be stored; send them again later.
            BackendUnauthorized: the key was refused; send them again later.
            BackendRefused: the rows were refused for good; none of them is stored.
        """
        ...

    def resolve_project(self, name: str, deadline: Deadline) -> str:
        """The id of the project of that name, which is created if it does not exist.

        Raises:
            BackendError: as in :meth:`send`.
        """
        ...

    def close(self) -> None:
        """Close connections. The object may be used again afterwards."""
        ...


@runtime_checkable
class TriesOnce(Protocol):
    """A backend that repeats failed requests by itself, and can be asked not to."""

    def try_once(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """:meth:`Backend.send` with a single attempt."""
        ...


@runtime_checkable
class TakesAttachments(Protocol):
    """A backend that takes attachments too. With any other the SDK uploads them by itself."""

    def attach(self, one: SpooledAttachment, deadline: Deadline) -> None:
        """Store an attachment, or, if it has an error, tell that its content can't be had. Doing it twice changes
        nothing.

        Raises:
            BackendError: as in :meth:`Backend.send`; refused for good is only the content, which is told.
        """
        ...

    def find_attachment(self, key: str) -> Content | None:
        """The content of an attachment, if it is at hand without a network; else None."""
        ...
