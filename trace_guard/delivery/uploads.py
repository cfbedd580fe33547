"""Uploads attachments from their spools, beside the rows.

Attachments have a pool and a breaker of their own: the object store that takes their contents may be down or out of
reach while rows are delivered, and a large attachment must not delay the end of a span. They leave at once, without
a linger.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ..backends.base import TakesAttachments
from ..contain import is_shortage, report, warn_once
from ..deadline import Deadline
from ..errors import BackendError, BackendRefused, BackendUnauthorized, BackendUnavailable
from ..journal.spooled import Content, SpooledAttachment
from ..system.clock import monotonic
from .breaker import RETRY_SECONDS, Breaker, bounded_retry_after
from .isolation import STRIKES
from .lanes import OTHER_PROCESS_PAUSE, OTHER_PROCESS_SECONDS
from .pool import WorkerPool

if TYPE_CHECKING:
    from ..journal.base import Journal
    from .dead_letters import DeadLetters

__all__ = ["Uploads"]

# One upload may take half a minute, and longer if the attachment is large.
_UPLOAD_SECONDS = 30.0
_SLOWEST_BYTES_PER_SECOND = 256 * 1024
_LONGEST_RETRY_SECONDS = 60.0
_REMEMBERED = 10_000
_CONTROL_BYTES = 64 * 1024


class _Upload(NamedTuple):
    """A job: an attachment and the journal that it lies beside."""

    journal: Journal
    attachment: SpooledAttachment


@dataclass
class _Retry:
    """An attachment that failed: how often in a row, why, and when to try again, on the monotonic clock."""

    failures: int
    error: str
    at: float


class Uploads:
    """Uploads the attachments of a courier's journals.

    Args:
        backend: where attachments go.
        dead_letters: keeps those that the backend refuses for good.
        settled: called without a lock when an attachment has been delivered or refused.
    """

    def __init__(self, backend: TakesAttachments, dead_letters: DeadLetters, settled: Callable[[], None]) -> None:
        self.backend = backend
        self._dead_letters = dead_letters
        self._settled = settled
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._pool: WorkerPool[_Upload] = WorkerPool(self, lock, "trace-guard-uploads")
        self._breaker = Breaker()
        self._journals: list[Journal] = []
        self._not_before = 0.0
        self._retries: dict[SpooledAttachment, _Retry] = {}
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._finished = 0
        self._control: SpooledAttachment | None = None

    def add(self, journal: Journal, *, backlog: bool = False, linger: float = 0.0) -> None:
        """Upload the attachments of a journal, or those that were added to it.

        Args:
            backlog: its process is gone, so the attachments of all others go first.
            linger: seconds to wait unless somebody asks for the uploads.
        """
        with self._changed:
            if not self._waiting() or not linger:
                self._not_before = monotonic() + linger if linger else 0.0
            if not any(known is journal for known in self._journals):
                self._journals.insert(len(self._journals) if backlog else 0, journal)
            self._wake()

    def forget(self, journal: Journal) -> None:
        """Start no more uploads from a journal. Those in flight go on."""
        with self._changed:
            self._journals = [known for known in self._journals if known is not journal]
            for attachment in journal.attachments.waiting if journal.attachments is not None else ():
                self._retries.pop(attachment, None)

    def soon(self) -> None:
        """Start to upload everything, without waiting for it."""
        with self._changed:
            self._not_before = 0.0
            self._wake()

    def refusal(self, roots: Collection[str]) -> str | None:
        """Why an attachment of one of these traces was refused, or None."""
        return next((self._refused[root] for root in roots if root in self._refused), None)

    def refuse(self, attachment: SpooledAttachment, error: str) -> None:
        """Note that an attachment can never be delivered."""
        self._refused[str(attachment.root)] = error
        while len(self._refused) > _REMEMBERED:
            self._refused.popitem(last=False)

    def now(self, attachment: SpooledAttachment) -> str | None:
        """Upload an attachment that can't be spooled, and wait for it. Returns the error, or None."""
        if self._breaker.is_open:
            return f"it could not be kept, and {self._breaker.last_error}"
        error = self._upload(attachment, _deadline_of(attachment))
        if error is not None and not isinstance(error, BackendRefused):
            with self._changed:
                self._breaker.failed(str(error))
        return None if error is None else str(error)

    def wait(self, journal: Journal, roots: Collection[str], deadline: Deadline) -> tuple[int, str | None]:
        """Wait until the attachments of some traces are delivered, or each has been tried and has failed.

        Args:
            journal: its attachments that belong to no known trace count as well.
            roots: ids of the traces.

        Returns:
            How many attachments are left, and why.
        """
        began = monotonic()
        self.soon()
        with self._changed:
            mine = {
                attachment for beside, attachment in self._waiting()
                if attachment.root in roots or (attachment.root is None and beside is journal)
            }
            if not mine:
                return 0, None
            failures = {attachment: self._failures_of(attachment) for attachment in mine}
            finished = self._finished

            def left() -> set[SpooledAttachment]:
                return mine.intersection(upload.attachment for upload in self._waiting())

            def is_over() -> bool:
                return all(self._failures_of(attachment) > failures[attachment] for attachment in left())

            bound = self._breaker.bound(deadline)
            if not bound.expired:
                self._pool.wait_for(self._changed, is_over, bound)
                if not is_over() and self._pool.in_flight and self._finished == finished:
                    self._breaker.unanswered(monotonic() - began)
            undelivered = left()
            errors = [self._retries[attachment].error for attachment in undelivered if attachment in self._retries]
            error = next(iter(errors), self._breaker.last_error or "no answer in time")
            return len(undelivered), error if undelivered else None

    def drain(self, deadline: Deadline, *, force: bool = False) -> bool:
        """Upload everything. Returns True if nothing is left.

        Args:
            force: go on although the backend is known to be down.
        """
        self.soon()
        with self._changed:
            drained = self._drain(deadline, force)
            self._release_idle()
            return drained

    def thawed(self) -> None:
        """The process was frozen: uploads that were in flight may never be answered."""
        with self._changed:
            self._pool.interrupt()

    def close(self) -> None:
        """Stop the threads after their current uploads. What is left stays on disk."""
        self._pool.stop()
        with self._changed:
            self._release_idle()

    # For the pool

    def next_job(self) -> tuple[_Upload | None, float | None]:
        """The next upload; or None, and the seconds until there may be one."""
        now, pause = monotonic(), None
        for upload in self._waiting():
            if upload in self._pool.in_flight:
                continue
            retry = self._retries.get(upload.attachment)
            at = max(self._not_before, self._breaker.retry_at, retry.at if retry else 0.0)
            if at <= now and self._may_take(upload):
                return upload, None
            wait = at - now if at > now else 2 * OTHER_PROCESS_PAUSE
            pause = wait if pause is None else min(pause, wait)
        return None, pause

    def perform(self, upload: _Upload, deadline: Deadline) -> BackendError | None:
        """Upload an attachment."""
        return self._upload(upload.attachment, min(deadline, _deadline_of(upload.attachment)))

    def finish(self, upload: _Upload, error: BackendError | None) -> Callable[[], None] | None:
        """Record the result of an upload."""
        journal, attachment = upload
        self._finished += 1
        settled = error is None or isinstance(error, BackendRefused) or attachment.vanished
        if error is None or settled:
            self._retries.pop(attachment, None)
            if journal.attachments is not None:
                journal.attachments.remove(attachment)
            self._breaker.succeeded()
        else:
            self._failed(attachment, error)
        self._release_idle()
        self._changed.notify_all()
        return self._settled if settled else None

    def abandon(self, upload: _Upload) -> None:
        """Nothing to record: the attachment still waits."""

    # With the lock held

    def _wake(self) -> None:
        """Start a thread for each upload that waits."""
        self._pool.wake(len(self._waiting()))
        self._changed.notify_all()

    def _drain(self, deadline: Deadline, force: bool) -> bool:
        patience = Deadline.after(OTHER_PROCESS_SECONDS)
        while waiting := self._waiting():
            if deadline.expired or (self._breaker.is_open and not force):
                return False
            if not self._pool.in_flight and not any(self._is_ours(upload.journal) for upload in waiting):
                if patience.expired:
                    return False  # the process that uploads them was stopped
                self._changed.wait(min(deadline.remaining, OTHER_PROCESS_PAUSE))
                continue
            patience = Deadline.after(OTHER_PROCESS_SECONDS)
            if force:
                self._breaker.let_through()
                latest = monotonic() + RETRY_SECONDS
                for retry in self._retries.values():
                    retry.at = min(retry.at, latest)
            self._wake()
            self._wait_for_progress(deadline.capped(RETRY_SECONDS))
        return True

    def _wait_for_progress(self, deadline: Deadline) -> None:
        finished = self._finished
        self._pool.wait_for(self._changed, lambda: self._finished != finished, deadline)

    def _waiting(self) -> list[_Upload]:
        return [
            _Upload(journal, attachment) for journal in self._journals
            if journal.attachments is not None for attachment in journal.attachments.waiting
        ]

    def _failures_of(self, attachment: SpooledAttachment) -> int:
        retry = self._retries.get(attachment)
        return retry.failures if retry else 0

    @staticmethod
    def _is_ours(journal: Journal) -> bool:
        return journal.attachments is not None and journal.attachments.take_delivery()

    def _release_idle(self) -> None:
        """Let other processes upload from journals that have no upload in flight."""
        busy = [upload.journal for upload in self._pool.in_flight]
        for journal in self._journals:
            if journal.attachments is not None and not any(one is journal for one in busy):
                journal.attachments.leave_delivery()

    def _may_take(self, upload: _Upload) -> bool:
        """True if this process may upload from the spool. A fault while finding out counts as a failed upload."""
        try:
            return self._is_ours(upload.journal)
        except Exception as fault:  # noqa: BLE001 - one broken spool must not stop the others
            report("take an attachment from its spool", fault)
            error = BackendError(f"an attachment can't be taken from its spool: {fault}")
            self._failed(upload.attachment, error, counts=is_shortage(fault))
            self._changed.notify_all()
            return False

    def _failed(self, attachment: SpooledAttachment, error: BackendError, *, counts: bool = True) -> None:
        """Note a failed upload.

        Args:
            counts: the failure may concern other attachments too.
        """
        failures = self._failures_of(attachment) + 1
        retry_after = getattr(error, "retry_after", None)
        backoff = min(_LONGEST_RETRY_SECONDS, RETRY_SECONDS * 2 ** (failures - 1))
        at = monotonic() + max(backoff, bounded_retry_after(retry_after))
        self._retries[attachment] = _Retry(failures, str(error), at)
        if counts:
            self._breaker.failed(str(error), retry_after)

    # Without the lock

    def _upload(self, attachment: SpooledAttachment, deadline: Deadline) -> BackendError | None:
        error = self._try(attachment, deadline)
        if isinstance(error, BackendUnavailable) and not attachment.vanished:
            error = self._isolated(attachment, error, deadline)
        if isinstance(error, BackendRefused):
            self._dead_letters.keep_attachment(attachment, error.status, str(error))
            self.refuse(attachment, str(error))
        elif isinstance(error, BackendUnauthorized):
            warn_once("unauthorized", "%s. Attachments are kept, and sent again later", error)
        elif error is None:
            if attachment.error is not None:
                self.refuse(attachment, attachment.error)
            self._keep_control(attachment)
        return error

    def _try(self, attachment: SpooledAttachment, deadline: Deadline) -> BackendError | None:
        try:
            self.backend.attach(attachment, deadline)
        except BackendError as error:
            return error
        except Exception as fault:  # noqa: BLE001 - our own fault must not end the thread
            report("upload an attachment", fault)
            suspect = not is_shortage(fault)
            return BackendUnavailable(f"an attachment could not be uploaded: {fault!r}", suspect_rows=suspect)
        return None

    def _isolated(
        self, attachment: SpooledAttachment, error: BackendUnavailable, deadline: Deadline
    ) -> BackendError | None:
        """Find out whether an upload fails because of its attachment: repeat it, and before each attempt upload the
        control, an attachment that was delivered before. If the control succeeds each time and the attachment never
        does, it is refused."""
        control = self._control
        for _ in range(STRIKES - 1):
            if control is None or not error.suspect_rows or error.status == 429 or deadline.expired:
                return error
            if self._try(control, deadline) is not None:
                return error
            again = self._try(attachment, deadline)
            if not isinstance(again, BackendUnavailable):
                return again
            error = again
        if not error.suspect_rows or deadline.expired:
            return error
        return BackendRefused(f"{error}; it fails over this attachment alone", status=error.status)

    def _keep_control(self, attachment: SpooledAttachment) -> None:
        """Keep a copy of a small attachment that was delivered. Uploading it again shows whether the backend works."""
        if attachment.content is not None and attachment.content.size <= _CONTROL_BYTES:
            with contextlib.suppress(OSError):  # another process has removed it
                self._control = replace(attachment, content=Content(b"".join(attachment.content)))


def _deadline_of(attachment: SpooledAttachment) -> Deadline:
    size = attachment.content.size if attachment.content else 0
    return Deadline.after(_UPLOAD_SECONDS + size / _SLOWEST_BYTES_PER_SECOND)
