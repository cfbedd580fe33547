"""The worker pool: its threads, jobs that a freeze interrupts, and callers that work themselves."""

from __future__ import annotations

import threading

import pytest
from support import until

from trace_guard.deadline import Deadline
from trace_guard.delivery.pool import WorkerPool
from trace_guard.errors import BackendError


class Owner:
    """Hands out jobs that end when their event is set, and records what the pool reports."""

    def __init__(self, keep: int = 0) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.pool: WorkerPool[str] = WorkerPool(self, self.lock, "test-worker", keep=keep)
        self.waiting: list[str] = []
        self.release: dict[str, threading.Event] = {}
        self.by: dict[str, str] = {}
        self.finished: list[tuple[str, BackendError | None]] = []
        self.abandoned: list[str] = []

    def add(self, *jobs: str, blocked: bool = False) -> None:
        for job in jobs:
            self.release[job] = threading.Event()
            if not blocked:
                self.release[job].set()
        with self.lock:
            self.waiting += jobs
            self.pool.wake(len(self.waiting))

    def wait(self, *jobs: str, seconds: float = 10.0) -> bool:
        def is_over() -> bool:
            return {job for job, _ in self.finished} >= set(jobs)

        with self.lock:
            self.pool.wait_for(self.changed, is_over, Deadline.after(seconds))
            return is_over()

    def next_job(self) -> tuple[str | None, float | None]:
        return (self.waiting.pop(0) if self.waiting else None), None

    def perform(self, job: str, deadline: Deadline) -> BackendError | None:
        self.by[job] = threading.current_thread().name
        self.release[job].wait(10)
        return BackendError(job) if job.startswith("bad") else None

    def finish(self, job: str, error: BackendError | None) -> None:
        self.finished.append((job, error))
        self.changed.notify_all()

    def abandon(self, job: str) -> None:
        self.abandoned.append(job)


def threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("test-worker")


@pytest.mark.parametrize("keep", [0, 1])
def test_at_most_four_threads_and_none_too_long(keep: int) -> None:
    """However many jobs there are, four threads do them, and only those that are to be kept stay afterwards."""
    owner, jobs = Owner(keep), [f"job {count}" for count in range(9)]
    owner.add(*jobs, blocked=True)
    until(lambda: len(owner.pool.in_flight) == 4)
    assert threads() == 4
    for event in owner.release.values():
        event.set()
    assert owner.wait(*jobs)
    until(lambda: threads() == keep)
    owner.pool.stop()
    until(lambda: threads() == 0)


def test_a_job_that_was_interrupted_is_abandoned() -> None:
    """A caller abandons jobs that were in flight during a freeze and don't end: their late results are ignored, and
    another thread does what follows."""
    owner = Owner()
    owner.add("frozen", blocked=True)
    until(lambda: bool(owner.pool.in_flight))
    with owner.lock:
        owner.pool.interrupt()
        owner.release["next"] = threading.Event()
        owner.release["next"].set()
        owner.waiting.append("next")
    assert owner.wait("next")
    assert owner.abandoned == ["frozen"]
    owner.release["frozen"].set()
    until(lambda: threads() == 0)
    assert [job for job, _ in owner.finished] == ["next"]


def test_a_job_that_ends_soon_after_a_freeze_counts() -> None:
    """A job that was interrupted by a freeze but ends at once is finished like any other."""
    owner = Owner()
    owner.add("quick", blocked=True)
    until(lambda: bool(owner.pool.in_flight))
    with owner.lock:
        owner.pool.interrupt()
    owner.release["quick"].set()
    assert owner.wait("quick")
    assert (owner.abandoned, owner.finished) == ([], [("quick", None)])


def test_without_threads_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, the caller that waits does the jobs, errors included."""
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    owner = Owner()
    owner.add("one", "bad two")
    assert owner.wait("one", "bad two")
    assert set(owner.by.values()) == {threading.current_thread().name}
    assert [(job, str(error)) for job, error in owner.finished] == [("one", "None"), ("bad two", "bad two")]


def test_a_wait_ends_at_its_deadline() -> None:
    """A caller waits no longer than its deadline for a job that goes on."""
    owner = Owner()
    owner.add("slow", blocked=True)
    assert not owner.wait("slow", seconds=0.05)
    owner.release["slow"].set()
    assert owner.wait("slow")
