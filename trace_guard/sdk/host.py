"""The interface that the gateway requires from higher rooms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ..backends.project_ids import Organisation
from ..deadline import Deadline
from ..journal.row_facts import NewRow
from ..rows import Row
from ..settings import Settings

__all__ = ["Attachments", "GatewayHost", "Owner", "ProjectLookup"]


class Owner(NamedTuple):
    """Whose rows they are that do not belong to the login.

    Attributes:
        api_url: where rows and attachments go.
        org_id: the organisation that attachments are kept for; empty if it has to be looked up.
    """

    api_key: str
    api_url: str
    org_id: str = ""


class Attachments(Protocol):
    """Keeps attachments for the gateway; see :mod:`trace_guard.runtime.attachments`."""

    def begin(self, asked: Any) -> Any: ...

    def put(self, path: str, content: Any) -> bool: ...

    def conclude(self, status: Any) -> bool: ...

    def find(self, key: str) -> Any: ...

    def get(self, path: str) -> bytes | None: ...


class ProjectLookup(Protocol):
    """The known ids of an organisation and its projects; see :mod:`trace_guard.runtime.lookup`."""

    @property
    def organisation(self) -> Organisation | None: ...

    @property
    def api_url(self) -> str: ...

    def project_id(self, name: str) -> str | None: ...

    def project_name(self, project_id: str) -> str | None: ...

    def find_out(self, name: str | None) -> None: ...

    def ask(self, name: str | None, deadline: Deadline) -> str | None: ...


class GatewayHost(Protocol):
    """The guard's interface to the gateway. *The login* means the login of the SDK's global state.

    Attributes:
        exit_by: when the exit must stop waiting; None until the process exits.
    """

    exit_by: Deadline | None

    def ingest(self, rows: Sequence[NewRow], *, has_references: bool = False) -> None:
        """Put rows of the global state in the journal.

        Args:
            has_references: some of them refer to attachments, which the SDK hands over next.
        """

    def ingest_of(
        self, owner: Owner, rows: Sequence[NewRow], *, has_references: bool = False, waits: bool = True
    ) -> None:
        """Put rows of another state or of an object in the journal of their owner, and wait for their delivery."""

    def in_invocation(self) -> bool:
        """True if an invocation is live that this code may belong to."""

    def is_serving_invocation(self) -> bool:
        """True if an invocation that began in this process runs. Its end empties the SDK's queue."""

    def settings(self) -> Settings | None:
        """The settings that the guard logs in with; None without a guard."""

    def follows_logins(self) -> bool:
        """True if a login of the user's decides where rows go, so that the server is asked whether it is right."""

    def logged_in(self, api_key: str, app_url: str, org_name: str | None) -> None:
        """The global state logs in with these credentials."""

    def learn_organisation(self, organisation: Organisation) -> None:
        """The global state was logged in to this organisation before the guard was created."""

    def patience(self) -> Deadline:
        """Until when code that asks for an id waits for the server."""

    def invocation_of(self, row: Row) -> str | None:
        """The id of the root of the invocation that a row of the global state belongs to, if it is known."""

    def flushed(self) -> None:
        """The user has called the SDK's ``flush()``, and the rows are in the journal."""

    def reads(self) -> None:
        """The SDK is about to read rows back."""

    def span_started(self, span: Any) -> None:
        """The SDK has opened a span; its rows may be on their way."""

    @property
    def lookup(self) -> ProjectLookup | None:
        """The known ids of the login's organisation; None without a guard."""

    def project_id(self, name: str) -> str | None:
        """The id of a project there, if it is known."""

    def passes_through(self) -> bool:
        """False if there is no server to pass requests to."""

    @property
    def attachments(self) -> Attachments:
        """Keeps the global state's attachments. Created with the first one."""
