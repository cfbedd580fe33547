"""The exceptions that trace-guard raises, all below one root.

::

    TraceGuardError
    ├── SettingsError          a setting has a value that is not accepted
    ├── JournalError           the journal can't be used
    │   ├── JournalUnavailable the directory can't be written, or is not safely ours
    │   └── JournalDamaged     a file is not a journal, or was written by a newer release
    └── BackendError           rows could not be handed to the backend
        ├── BackendUnavailable no answer, or an answer that says "later": kept and sent again
        ├── BackendUnauthorized the key or its permissions were refused: kept and sent again
        └── BackendRefused     the rows themselves were refused: never sent again as they are

None of them reaches a guarded handler: see :mod:`trace_guard.contain`.
"""

from __future__ import annotations

from .redaction.outside_text import printable


class TraceGuardError(Exception):
    """The root of everything that trace-guard raises.

    Messages quote servers and files: each is one printable line of bounded length, without credentials.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class SettingsError(TraceGuardError, ValueError):
    """A setting has a value that is not accepted; the message names it and says what is."""


class JournalError(TraceGuardError):
    """The journal can't be used."""


class JournalUnavailable(JournalError):
    """The directory can't be written, or belongs to somebody else, or is a symlink."""


class JournalDamaged(JournalError):
    """A file is not a journal's, or was written by a release with another format."""


class BackendError(TraceGuardError):
    """Rows could not be handed to the backend."""


class BackendUnavailable(BackendError):
    """Nothing answered in time, or the answer was "later" (429, 5xx). The rows are kept.

    Attributes:
        retry_after: seconds for which the server asked to be left alone, or None.
        lasting: true if trying again in a moment is of no use: a disk that can't be written.
        status: the HTTP status, or None if there was no answer.
        suspect_rows: true if the rows of the request may be the cause, as whoever had them failed over them.
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
    """The key, or what it may do, was refused (401, 403). The rows are kept.

    Either status is known to occur for a moment under load, so it is never final.
    """


class BackendRefused(BackendError):
    """The rows themselves were refused, and would be again.

    Attributes:
        status: the HTTP status, 400, 413 or 422; another, or None, for what fails each time while others are taken.
    """

    def __init__(self, message: str, *, status: int | None) -> None:
        super().__init__(message)
        self.status = status
