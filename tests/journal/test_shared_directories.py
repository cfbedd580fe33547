"""Directories that others can write to: their files decide nothing, and they can't read ours."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support import Program, environment, settings_for

from trace_guard import Settings
from trace_guard.backends.project_ids import Organisation, ProjectIds
from trace_guard.errors import JournalUnavailable
from trace_guard.journal.directory import prepare
from trace_guard.rows import dump
from trace_guard.runtime.status import read_status
from trace_guard.testing import BraintrustServer

AS_ROOT = os.geteuid() == 0
SOMEBODY, US = 12345, os.geteuid()
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can make files of another user")

GUARDED = """
    from trace_guard import Guard
    guard = Guard(project="named")
    guard.start()
    with guard.invocation("root") as invocation:
        invocation.span.log(output="fine")
    say(invocation.delivery.verdict.value)
    guard.close(timeout=1)
"""


def world_writable(path: Path, mode: int = 0o777, owner: int = US) -> Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    if owner != US:
        os.chown(path, owner, owner)
    return path


@pytest.mark.parametrize(("mode", "owner", "holds", "own"), [
    (0o1777, US, "", True), (0o1777, SOMEBODY, "", True), (0o0777, SOMEBODY, "", True), (0o2775, SOMEBODY, "", True),
    (0o0777, US, "file of a program", True), (0o0775, US, "file of a program", True), (0o0777, US, "", False),
    (0o0777, US, "journals", False), (0o0755, US, "file of a program", False), (0o0700, US, "", False),
])
def test_a_shared_directory_gets_a_private_subdirectory(
    tmp_path: Path, mode: int, owner: int, holds: str, own: bool
) -> None:
    """Where others can write, files go to a private subdirectory, and the shared directory keeps its mode."""
    if owner != US and not AS_ROOT:
        pytest.skip("only root can give a directory away")
    shared = world_writable(tmp_path / "shared", mode, owner)
    if holds:
        (shared / holds).mkdir(mode=0o700)
    directory = prepare(shared, 1 << 20).directory
    assert directory == (shared / f"trace-guard-{US}" if own else shared)
    for path in (directory, directory / "journals"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (US, 0o700)
    if own:
        assert stat.S_IMODE(shared.stat().st_mode) == mode
    assert prepare(shared, 1 << 20).directory == directory


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_of_another_user_is_refused(tmp_path: Path, mode: int) -> None:
    """A directory of another user is refused, even by root, as that user could change everything in it."""
    with pytest.raises(JournalUnavailable, match="belongs to user 12345"):
        prepare(world_writable(tmp_path / "theirs", mode, SOMEBODY), 1 << 20)


@needs_root
def test_a_private_subdirectory_can_t_be_forged(tmp_path: Path) -> None:
    """A private subdirectory that another user has made is refused, and so is a link."""
    shared = world_writable(tmp_path / "shared", 0o1777)
    mine = shared / f"trace-guard-{US}"
    world_writable(mine, 0o777, SOMEBODY)
    with pytest.raises(JournalUnavailable, match="belongs to user 12345"):
        prepare(shared, 1 << 20)
    mine.rmdir()
    mine.symlink_to(world_writable(tmp_path / "elsewhere", 0o700))
    with pytest.raises(JournalUnavailable, match="is a symlink"):
        prepare(shared, 1 << 20)


def test_nothing_is_open_to_others_whatever_the_umask(tmp_path: Path) -> None:
    """With a umask of 000 other users still can't write to any directory above the journals."""
    before = os.umask(0)
    try:
        prepare(tmp_path / "a" / "b" / "c", 1 << 20)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("a", "a/b", "a/b/c", "a/b/c/journals")]
    assert modes == [0o755, 0o755, 0o700, 0o700]


def cache_at(directory: Path, settings: Any, url: str, owner: int, *, own_cache: bool) -> None:
    """The cache of a destination, which sends rows and the key to this URL."""
    name = f"identity-{sha256(dump(settings.destination)).hexdigest()[:16]}.json"
    cache = directory / "cache"
    cache.mkdir(mode=0o755, exist_ok=True)
    organisation = Organisation("evil", "evil", url)._asdict()
    (cache / name).write_text(json.dumps({"organisation": organisation, "projects": {"named": "evil"}}))
    os.chown(cache / name, owner, owner)
    if not own_cache:
        os.chown(cache, owner, owner)


@needs_root
@pytest.mark.parametrize("own_cache", [True, False], ids=["file", "directory"])
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_cache_of_another_user_is_not_used(
    server: BraintrustServer, tmp_path: Path, mode: int, own_cache: bool
) -> None:
    """A cache that another user has made does not decide where the key is sent."""
    directory = world_writable(tmp_path / "shared", mode)
    variables = environment(server, directory, TRACE_GUARD_PROJECT_ID="", BRAINTRUST_API_URL="")
    with BraintrustServer() as evil:
        cache_at(directory, Settings.from_env(variables), evil.url, SOMEBODY, own_cache=own_cache)
        with Program(GUARDED, variables) as program:
            program.expects("delivered")
            program.ends_well()
        assert evil.rows() == []
        assert list(evil.requests) == []
    assert [row["output"] for row in server.span_rows()] == ["fine"]


@pytest.mark.parametrize("loose", ["file", "directory"])
def test_a_cache_that_others_can_write_to_is_not_read(tmp_path: Path, loose: str) -> None:
    """A cache that other users can write to is ignored and written again."""
    path = tmp_path / "cache" / "identity.json"
    path.parent.mkdir(mode=0o700)
    path.write_text(json.dumps({"organisation": None, "projects": {"p": "theirs"}}))
    path.chmod(0o666 if loose == "file" else 0o600)
    path.parent.chmod(0o777 if loose == "directory" else 0o700)
    identity = ProjectIds(path)
    assert identity.project_id("p") is None
    identity.learn_project("p", "ours")
    assert ProjectIds(path).project_id("p") == "ours"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def theirs(directory: Path) -> None:
    world_writable(directory, 0o755, SOMEBODY)


def a_link(directory: Path) -> None:
    directory.symlink_to(world_writable(directory.with_name("elsewhere"), 0o700))


def their_journals(directory: Path) -> None:
    world_writable(directory, 0o700)
    world_writable(directory / "journals", 0o777, SOMEBODY)


@pytest.mark.parametrize("refused", [a_link, theirs, their_journals])
def test_a_refused_directory_is_used_for_nothing(tmp_path: Path, refused: Callable[[Path], None]) -> None:
    """Nothing is written to a refused directory: no local store, dead letter or attachment. One warning and status say
    so."""
    if refused is not a_link and not AS_ROOT:
        pytest.skip("only root can give a directory away")
    directory = tmp_path / "trace-guard"
    refused(directory)
    with Program(GUARDED, environment(None, directory, BRAINTRUST_API_KEY="")) as program:
        program.expects("lost")
        program.ends_well()
        warnings = [line for line in program.stderr.splitlines() if str(directory) in line]
        assert len(warnings) == 1, program.stderr
        assert "Tracing goes on in memory" in warnings[0]
    assert [path.name for path in directory.glob("**/*")] in ([], ["journals"])
    status = read_status(settings_for(None, directory))
    assert status.damaged == 1
    assert "Until then tracing goes on in memory" in status.problems[0]


@needs_root
def test_two_users_share_a_directory(server: BraintrustServer) -> None:
    """Two users with the same TRACE_GUARD_DIR get a directory each, and neither reads the other's."""
    with tempfile.TemporaryDirectory() as name:  # pytest's are closed to other users
        shared = Path(name)
        shared.chmod(0o1777)
        try:
            subprocess.run([sys.executable, "-c", "import trace_guard"], user=SOMEBODY, check=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("another user can't run this interpreter")
        for user in (None, SOMEBODY):
            with Program(GUARDED, environment(server, shared, HOME=name), user=user) as program:
                program.expects("delivered")
                program.ends_well()
        found = {
            path.name: (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) for path in shared.glob("trace-guard-*")
        }
    assert found == {f"trace-guard-{user}": (user, 0o700) for user in (US, SOMEBODY)}
