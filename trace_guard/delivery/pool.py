"""Worker threads that send requests: one pool for rows, another for attachments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..contain import contain
from ..deadline import Deadline
from ..errors import BackendError
from ..system.threads import QuietThread

__all__ = ["JobSource", "WorkerPool"]

J = TypeVar("J")

_MOST_THREADS = 4
# How long a job that was interrupted by a freeze of the process may still take to finish.
_INTERRUPTED_SECONDS = 0.1
# How long a thread that is not to be kept waits for another job.
_SPARE_SECONDS = 1.0
# How long a caller that does the work itself waits before it looks for another job.
_IDLE_SECONDS = 0.1


class JobSource(Protocol[J]):
    """What a pool needs from its owner. The pool holds the lock for all calls but :meth:`perform`."""

    def next_job(self) -> tuple[J | None, float | None]:
        """A job that can begin now; or None, and the seconds after which to ask again (None: after a wake-up)."""
        ...

    def perform(self, job: J, deadline: Deadline) -> BackendError | None:
        """Do a job, without the lock. Returns the error if it failed."""
        ...

    def finish(self, job: J, error: BackendError | None) -> Callable[[], None] | None:
        """Record the result of a job. What is returned is called once the lock is released."""
        ...

    def abandon(self, job: J) -> None:
        """Record that a job may never finish. Its result will be ignored, so it should be done again."""
        ...


class Sleep(Protocol):
    """A condition, or what can be waited for like one."""

    def wait(self, timeout: float) -> object: ...


class WorkerPool(Generic[J]):
    """Up to four daemon threads that take jobs from their owner until there are none left.

    Threads start on first use. Where none can be started, as at the interpreter's exit, callers that wait do the
    work themselves. A forked child needs a new pool.

    Args:
        owner: decides what to do next, does it, and records the result.
        lock: protects the owner's state and the pool. Callers hold it unless a method says otherwise.
        name: the name of the threads.
        keep: how many threads stay when there is nothing to do.

    Attributes:
        in_flight: the jobs being done, each with the thread that does it.
    """

    def __init__(self, owner: JobSource[J], lock: threading.Lock, name: str, *, keep: int = 0) -> None:
        self.in_flight: dict[J, threading.Thread] = {}
        self._owner = owner
        self._lock = lock
        self._name = name
        self._keep = keep
        self._idle = threading.Condition(lock)
        self._threads: list[threading.Thread] = []
        # How many threads sleep, and how many were woken or started that have not asked the owner since.
        self._sleeping = self._coming = 0
        self._interrupted: set[J] = set()
        self._stopped = False

    def wake(self, wanted: int = 1) -> bool:
        """Have as many threads as wanted, at most four, do jobs or ask for one: wake idle threads, and start more.
        Returns False if there is none."""
        needed = min(wanted, _MOST_THREADS) - len(self.in_flight) - self._coming
        woken = min(needed, self._sleeping - self._coming)
        if woken > 0:
            self._idle.notify(woken)
            self._coming += woken
        while not self._stopped and len(self._threads) < min(wanted, _MOST_THREADS):
            thread = QuietThread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                break  # the interpreter is shutting down, or a limit is reached
            self._threads.append(thread)
            self._coming += 1
        return bool(self._threads)

    def wait_for(self, condition: Sleep, is_over: Callable[[], bool], deadline: Deadline) -> None:
        """Wait until ``is_over()`` or the deadline. If there are no threads, do jobs in this one meanwhile.

        Args:
            condition: has the pool's lock, and is notified when ``is_over()`` may have changed.
        """
        while not is_over() and not deadline.expired:
            if self._interrupted:
                condition.wait(min(_INTERRUPTED_SECONDS, deadline.remaining))
                self._abandon_interrupted()
            elif self._threads or self.wake():
                condition.wait(min(deadline.remaining, threading.TIMEOUT_MAX))
            else:
                self._work_here(condition, is_over, deadline)

    @property
    def is_interrupted(self) -> bool:
        """True if jobs were in flight during a freeze and are so still."""
        return bool(self._interrupted)

    def interrupt(self) -> None:
        """The process was frozen. Jobs in flight that don't finish shortly are abandoned by the next caller that
        waits."""
        self._interrupted.update(self.in_flight)

    def stop(self) -> None:
        """End the threads after their current jobs. Waits for them only briefly. Call it without the lock."""
        with self._lock:
            self._stopped = True
            self._idle.notify_all()
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(_INTERRUPTED_SECONDS)

    def resume(self) -> None:
        """Let threads start again after :meth:`stop`."""
        if self._stopped:
            self._stopped, self._coming = False, 0

    def _abandon_interrupted(self) -> None:
        for job in self._interrupted.intersection(self.in_flight):
            thread = self.in_flight.pop(job)
            if thread in self._threads:
                self._threads.remove(thread)  # it ends when its job does
            self._owner.abandon(job)
        self._interrupted.clear()
        self.wake()

    def _run(self) -> None:
        thread, is_new = threading.current_thread(), True
        try:
            while (job := self._next_job(thread, is_coming=is_new)) is not None:
                is_new = False
                self._do(job, Deadline.never())
                del job  # an idle thread must not keep the rows of its last request in memory
        finally:
            with self._lock:
                if thread in self._threads:
                    self._threads.remove(thread)

    def _next_job(self, thread: threading.Thread, *, is_coming: bool) -> J | None:
        """Wait for the next job of a thread; None if the thread is to end.

        Args:
            is_coming: the thread has just begun, and counts as one that comes.
        """
        is_over = False
        with self._lock:
            while not self._stopped and thread in self._threads:
                if is_coming:
                    self._coming = max(0, self._coming - 1)
                job, pause = self._ask_owner()
                if job is not None:
                    self.in_flight[job] = thread
                    if pause is not None:
                        self.wake(len(self.in_flight) + 1)  # another thread waits for what is due later
                    return job
                is_spare = pause is None and len(self._threads) > self._keep
                if is_spare and is_over:
                    self._threads.remove(thread)
                    break
                self._sleeping += 1
                is_over = not self._idle.wait(_SPARE_SECONDS if is_spare else pause)
                self._sleeping -= 1
                is_coming = True
        return None

    def _ask_owner(self) -> tuple[J | None, float | None]:
        with contain("choose the next request"):
            return self._owner.next_job()
        return None, None

    def _work_here(
        self, condition: Sleep, is_over: Callable[[], bool], deadline: Deadline
    ) -> None:
        job, pause = self._ask_owner()
        if job is None:
            if not is_over():
                condition.wait(min(deadline.remaining, _IDLE_SECONDS if pause is None else pause))
            return
        self.in_flight[job] = threading.current_thread()
        self._lock.release()
        try:
            self._do(job, deadline)
        finally:
            self._lock.acquire()

    def _do(self, job: J, deadline: Deadline) -> None:
        error: BackendError | None = BackendError("the request was interrupted by an exception")
        after: Callable[[], None] | None = None
        try:
            error = self._owner.perform(job, deadline)
        finally:
            with self._lock:
                self._interrupted.discard(job)
                if self.in_flight.pop(job, None) is not None:
                    after = self._owner.finish(job, error)
            if after is not None:
                with contain("go on after a request"):
                    after()
