"""The interface of backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..deadline import Deadline

if TYPE_CHECKING:
    from ..journal.spooled import Content, SpooledAttachment

__all__ = ["Backend", "TakesAttachments", "TriesOnce"]


@runtime_checkable
class Backend(Protocol):
    """Stores rows. Implementations are thread-safe, and safe to use after ``fork``.

    Attributes:
        name: ``braintrust``, ``local`` or ``memory``, as in the journal's header.
        max_bytes: the most bytes of rows for one :meth:`send`.
    """

    name: str
    max_bytes: int

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Store rows by the merge rules of :mod:`trace_guard.rows`. Sending them twice changes nothing.

        Args:
            rows: JSON objects in the order in which they take effect, with at most one span row for each span.
            deadline: the call gives up after it.

        Raises:
            BackendUnavailable: the rows may not be stored; send them again later.
            BackendUnauthorized: the key was refused; send the rows again later.
            BackendRefused: the rows were refused for good; none of them is stored.
        """
        ...

    def resolve_project(self, name: str, deadline: Deadline) -> str:
        """The id of the project with this name, which is created if it does not exist.

        Raises:
            BackendError: as in :meth:`send`.
        """
        ...

    def close(self) -> None:
        """Close connections. The backend may be used again afterwards."""
        ...


@runtime_checkable
class TriesOnce(Protocol):
    """A backend that repeats requests by itself, and can also make single attempts. A search for the cause of a
    failure needs single attempts."""

    def try_once(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """:meth:`Backend.send` with a single attempt."""
        ...


@runtime_checkable
class TakesAttachments(Protocol):
    """A backend that stores attachments. With other backends the SDK uploads attachments by itself."""

    def attach(self, one: SpooledAttachment, deadline: Deadline) -> None:
        """Store an attachment, or report its error if its content can't be read. Doing this twice changes nothing.

        Raises:
            BackendError: as in :meth:`Backend.send`. Only the content can be refused for good, which is reported
                too.
        """
        ...

    def find_attachment(self, key: str) -> Content | None:
        """The content of an attachment if it is available without the network; else None."""
        ...
