"""The last delivery of a process or job. It says what it waits for, and where the rows are that it can't deliver."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..deadline import Deadline
from ..delivery.courier import Courier
from ..journal.directory import STORE_NAME
from ..redaction.outside_text import print_error
from ..settings import Settings

__all__ = ["NOTICE_SECONDS", "deliver_last", "say_waiting"]

NOTICE_SECONDS = 0.7
"""A wait that is longer than this is announced on stderr."""

# A shorter wait is over before its announcement is read.
_WORTH_SAYING_SECONDS = 1.0
# Enough to find a key that the program has set by now. Without one, nothing is sent.
_KEY_SECONDS = 0.2
_MOST_COUNTED = 10_000


def deliver_last(
    courier: Courier, settings: Settings, directory: Path | None, deadline: Deadline, notice_seconds: float
) -> bool:
    """Deliver everything, and report on stderr what can't be delivered. Returns True if nothing is left.

    The wait ends early where it can't succeed: without a key, or if the backend refuses the key or the disk of the
    local store can't be written.

    Args:
        directory: where the undelivered rows are kept; None if they are in memory.
        notice_seconds: a wait that is longer is announced.
    """
    if lacks_key(settings):
        deadline = deadline.capped(_KEY_SECONDS)
    # Two calls, since the first must not announce anything if the backend answers soon.
    if courier.drain(deadline.capped(notice_seconds), force=True):
        return True
    if not courier.is_hopeless and not deadline.expired:
        say_waiting(courier, settings, deadline)
        if courier.drain(deadline, force=True):
            return True
    _say_what_is_left(courier, settings, directory)
    return False


def say_waiting(courier: Courier, settings: Settings, deadline: Deadline) -> None:
    """Print what is waited for, and for how long at most."""
    if deadline.remaining < _WORTH_SAYING_SECONDS:
        return
    why = f" ({courier.last_error})" if courier.last_error else ""
    print_error(
        f"waiting for {_backend(settings)} to take {_pending(courier)}, for at most {deadline.remaining:.0f} s{why}. "
        "TRACE_GUARD_EXIT_TIMEOUT bounds this wait"
    )


def lacks_key(settings: Settings) -> bool:
    """True if Braintrust is the backend and there is no key for it."""
    return settings.backend_name == "braintrust" and not settings.api_key


def _say_what_is_left(courier: Courier, settings: Settings, directory: Path | None) -> None:
    rows = _pending(courier)
    if not rows:
        return
    why = "BRAINTRUST_API_KEY is not set" if lacks_key(settings) else courier.last_error or "no answer in time"
    if directory is None or not all(journal.durable for journal in courier.journals()):
        # Why there is no directory for them has been reported when they came.
        cause = f": {why}" if settings.backend_name == "braintrust" else ""
        print_error(f"{rows} could not be delivered, and are lost with the memory of this process{cause}")
        return
    command = f"trace-guard recover --dir {shlex.quote(str(directory))}"
    print_error(
        f"{rows} not delivered to {_backend(settings)}: {why}. They are kept in {directory}; the next start sends "
        f"them, or `{command}`"
    )


def _backend(settings: Settings) -> str:
    if settings.backend_name == "braintrust":
        return f"Braintrust ({settings.api_url or settings.app_url})"
    return f"the local store {settings.dir / STORE_NAME}" if settings.backend_name == "local" else "the backend"


def _pending(courier: Courier) -> str:
    """What is not delivered, in words; "" for nothing."""
    rows, attachments = courier.pending_rows(_MOST_COUNTED), courier.pending_attachments
    counted = (rows, "row", "more than " if rows >= _MOST_COUNTED else ""), (attachments, "attachment", "")
    return " and ".join(
        f"{more}{number} {thing}{'' if number == 1 else 's'}" for number, thing, more in counted if number
    )
