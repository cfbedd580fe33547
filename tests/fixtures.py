"""Fixtures of the tests of the mechanism; a folder's conftest takes them over."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import settings_for, until

from trace_guard import Guard
from trace_guard import contain as containment
from trace_guard.jobs import current as jobs
from trace_guard.journal.directory import StateDir, prepare
from trace_guard.runtime import current
from trace_guard.testing import BraintrustServer

__all__ = ["directory", "make_guard", "memory_group", "no_faults", "none_live", "server", "state_dir"]

MakeGuard = Callable[..., Guard]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What the test's processes use as ``TRACE_GUARD_DIR``."""
    return tmp_path / "trace-guard"


@pytest.fixture
def state_dir(directory: Path) -> StateDir:
    return prepare(directory, 1 << 26)


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as server:
        yield server


@pytest.fixture
def make_guard(server: BraintrustServer, directory: Path) -> Iterator[MakeGuard]:
    """Makes guards of this process that deliver to the server, and closes them after the test."""
    made: list[Guard] = []

    def make(**keywords: Any) -> Guard:
        made.append(Guard(settings_for(server, keywords.pop("directory", directory), **keywords)))
        return made[-1]

    yield make
    for guard in made:
        guard.close(timeout=0.2)


@pytest.fixture(autouse=True)
def no_faults(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A fault of our own that was contained fails the test, which would not have noticed it."""
    containment.forget()
    with caplog.at_level("DEBUG", "trace_guard"):
        yield
        faults = [
            f"{record.getMessage()}: {record.exc_info[1]!r}" for record in caplog.get_records("call")
            if record.exc_info and record.name == "trace_guard"
        ]
    assert faults == []


@pytest.fixture(autouse=True)
def none_live() -> Iterator[None]:
    """What a test leaves live fails it: threads of a later one would not know which invocation or job is theirs."""
    yield
    assert [one for one in (*current.LIVE, *jobs.LIVE) if one.is_live] == []


@pytest.fixture
def memory_group() -> Iterator[Path | None]:
    """A control group of 256 MB; None where this machine lets us make none."""
    versions = {"memory": "memory.limit_in_bytes", "": "memory.max"}
    for parent, limit in versions.items():
        group = Path("/sys/fs/cgroup") / parent / f"trace-guard-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                if (group / limit).exists():
                    (group / limit).write_text(str(256 << 20))
                    yield group
                    return
            finally:
                until(lambda group=group: not (group / "cgroup.procs").read_text())
                group.rmdir()
    yield None
