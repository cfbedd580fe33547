"""Whatever lies in trace-guard's directory, nothing that reads it fails, hangs, or lets it harm another journal."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fuzzer import Fuzzer
from hypothesis import strategies as st
from support import Program, environment, journals, settings_for
from values import json_values

from trace_guard import Guard, recover
from trace_guard import contain as containment
from trace_guard.cli import main
from trace_guard.journal.format import Flag, Kind, Position, encode_acked, encode_entry
from trace_guard.testing import BraintrustServer

KILLED = """
import signal
from trace_guard import Guard
with Guard(flush_timeout=0, linger=60).invocation("killed", input={"n": 1}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Damage(NamedTuple):
    """Something that is done to one journal, shown by its words."""

    words: tuple[Any, ...]
    inflict: Callable[[Path], None]

    def __repr__(self) -> str:
        return repr(self.words)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BraintrustServer, Path]]:
    """A server, and the directory of a process that was killed before it delivered anything, with one journal."""
    directory = tmp_path_factory.mktemp("killed") / "trace-guard"
    with BraintrustServer() as server:
        with Program(KILLED, environment(server, directory)) as program:
            program.wait()
        server.clear()
        assert len(journals(directory)) == 1
        yield server, directory


def _encoded(value: Any) -> bytes:
    return json.dumps(value, default=repr).encode(errors="surrogatepass")


def _set(name: str, data: bytes) -> Damage:
    return Damage((name, "=", data[:200]), lambda path: _write(path / name, data))


def _write(path: Path, data: bytes) -> None:
    """Make a file of what an earlier damage may have made something else, or may not have left a directory for."""
    if not path.parent.is_dir():
        _remove(path.parent)
        path.parent.mkdir()
    if not _is_plain(path):
        _remove(path)
    path.write_bytes(data)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20


def _appended(data: bytes, words: tuple[Any, ...]) -> Damage:
    def append(path: Path) -> None:
        for segment in sorted(filter(_is_plain, path.glob("*.seg")))[-1:]:
            with segment.open("ab") as file:
                file.write(data)

    return Damage(("append", *words), append)


def _entry(kind: int, flags: int, payload: Any, at: float, is_json: bool) -> Damage:
    data = _encoded(payload) if is_json else repr(payload).encode(errors="replace")
    entry = encode_entry(kind, data, flags, at)  # type: ignore[arg-type]
    return _appended(entry, (kind, flags, data[:200], at))


def _cut(name: str, share: float) -> Damage:
    def cut(path: Path) -> None:
        if _is_plain(path / name):
            os.truncate(path / name, int((path / name).stat().st_size * share))

    return Damage(("cut", name, share), cut)


def _flip(name: str, share: float, mask: int) -> Damage:
    def flip(path: Path) -> None:
        if _is_plain(path / name):
            data = bytearray((path / name).read_bytes())
            if data:
                data[int((len(data) - 1) * share)] ^= mask
            (path / name).write_bytes(bytes(data))

    return Damage(("flip", name, share, mask), flip)


def _replace(name: str, kind: str) -> Damage:
    def replace(path: Path) -> None:
        target = path / name
        _remove(target)
        if kind == "directory":
            target.mkdir()
        elif kind == "fifo":
            os.mkfifo(target)
        elif kind == "link":
            target.symlink_to("/dev/zero")
        elif kind == "loop":
            target.symlink_to(target.name)
        elif kind == "sparse":
            with target.open("wb") as file:
                file.truncate(1 << 36)

    return Damage(("replace", name, "by", kind), replace)


ROW = {
    "id": "r", "span_id": "s", "root_span_id": "s", "span_parents": None, "project_id": "p", "log_id": "g",
    "metrics": {"start": 1.0}, "_is_merge": True,
}
names = st.sampled_from(["header", "acked", "lock", "courier.lock", "00000001.seg", "00000002.seg", "attachments"])
row_like = st.builds(
    lambda row, key, value: {**row, key: value}, st.just(ROW), st.sampled_from([*ROW, "error"]), json_values
)
headers = st.builds(
    lambda key, value: {"format": 1, "pid": 1, "backend": "braintrust", key: value},
    st.sampled_from(["format", "pid", "backend", "api_url", "project", "key", "destination", "started"]), json_values,
)
shares = st.floats(0, 1)
positions = st.integers(0, 2**64 - 1) | st.integers(0, 3)
damages = st.one_of(
    st.builds(
        _entry, st.sampled_from([*Kind]) | st.integers(0, 255), st.sampled_from([*Flag]) | st.integers(0, 255),
        json_values | row_like, st.floats() | st.just(1.8e9), st.booleans(),
    ),
    st.builds(lambda data: _appended(data, (data,)), st.binary(max_size=100)),
    st.builds(
        lambda length, rest: _appended(struct.pack(">II", length, 0) + rest, ("length", length)),
        st.integers(0, 2**32 - 1), st.binary(min_size=20, max_size=40),
    ),
    st.builds(lambda value: _set("header", _encoded(value)), headers | json_values),
    st.builds(lambda one, two: _set("acked", encode_acked(Position(one, two))), positions, positions),
    st.builds(_set, names | st.sampled_from(["99999999999999999999.seg", "-1.seg", "²³.seg", "x"]), st.binary()),
    st.builds(
        lambda value: _set("attachments/00000001.json", _encoded(value)), json_values
    ),
    st.builds(_cut, names, shares),
    st.builds(_flip, names, shares, st.integers(1, 255)),
    st.builds(_replace, names, st.sampled_from(["nothing", "directory", "fifo", "link", "loop", "sparse"])),
)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("how", ["recover", "start"])
def test_any_directory(
    fuzzer: Fuzzer, killed: tuple[BraintrustServer, Path], directory: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, how: str,
) -> None:
    """Beside any damaged journal ``status`` says what there is, and ``recover`` or the start of another process
    delivers the journal that is whole."""
    server, orphaned = killed
    for name, value in environment(server, directory).items():
        monkeypatch.setenv(name, value)
    number = itertools.count()

    def check(done: list[Damage]) -> None:
        server.clear()
        # A thread of the example before may still be writing to its own.
        place = directory / str(next(number))
        shutil.copytree(orphaned, place)
        monkeypatch.setenv("TRACE_GUARD_DIR", str(place))
        settings = settings_for(server, place, flush_timeout=0.5, linger=0.01)
        (whole,) = journals(place)
        damaged = whole.with_name(f"{whole.name}0")
        shutil.copytree(whole, damaged)
        for damage in done:
            damage.inflict(damaged)
        main(["status", "--json"])
        assert json.loads(capsys.readouterr().out)["journals"]
        with containment.raising():
            if how == "recover":
                recover(settings, timeout=0.8)
            else:
                guard = Guard(settings).start()
                guard.flush(timeout=0.5)
                guard.close(timeout=0.2)
        assert "killed" in {row["span_attributes"]["name"] for row in server.span_rows() if "span_attributes" in row}
        shutil.rmtree(place, ignore_errors=True)

    fuzzer.run(st.lists(damages, min_size=1, max_size=4), check)
