"""The exceptions that trace-guard raises, all derived from one class.

::

    TraceGuardError
    ├── SettingsError          a setting has an invalid value
    ├── JournalError           the journal can't be used
    │   ├── JournalUnavailable the directory can't be written, or is not safe to use
    │   └── JournalDamaged     a file is not a journal, or comes from a newer release
    └── BackendError           the backend did not take the rows
        ├── BackendUnavailable no answer, or an answer that says "later": the rows are kept and sent again
        ├── BackendUnauthorized the key or its permissions were refused: the rows are kept and sent again
        └── BackendRefused     the rows themselves were refused: they are not sent again unchanged

None of them reaches a guarded handler: see :mod:`trace_guard.contain`.
"""

from __future__ import annotations

from .redaction.outside_text import printable


class TraceGuardError(Exception):
    """The base class of all exceptions that trace-guard raises.

    Messages may quote servers and files. Each is one printable line of bounded length, without credentials.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class SettingsError(TraceGuardError, ValueError):
    """A setting has an invalid value. The message names the setting and what is accepted."""


class JournalError(TraceGuardError):
    """The journal can't be used."""


class JournalUnavailable(JournalError):
    """The directory can't be written, belongs to another user, or is a symlink."""


class JournalDamaged(JournalError):
    """A file is not a journal, or was written by a release with another format."""


class BackendError(TraceGuardError):
    """The backend did not take the rows."""


class BackendUnavailable(BackendError):
    """There was no answer in time, or the answer was "later" (429, 5xx). The rows are kept.

    Attributes:
        retry_after: the seconds that the server asked to wait, or None.
        lasting: an immediate retry is useless, for example if the disk can't be written.
        status: the HTTP status, or None if there was no answer.
        suspect_rows: the rows of the request may have caused the failure, as the server failed while processing
            them.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, lasting: bool = False, status: int | None = None,
        suspect_rows: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.lasting = lasting
        self.suspect_rows = suspect_rows


class BackendUnauthorized(BackendError):
    """The key or its permissions were refused (401, 403). The rows are kept.

    Both statuses are known to occur briefly under load, so they are never final.
    """


class BackendRefused(BackendError):
    """The rows themselves were refused and would be refused again.

    Attributes:
        status: the HTTP status 400, 413 or 422; another one, or None, for rows that fail every time while others
            succeed.
    """

    def __init__(self, message: str, *, status: int | None) -> None:
        super().__init__(message)
        self.status = status
