"""Closing and delivery when a signal ends the process."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support import Program, environment, until, without_place

from trace_guard.testing import BraintrustServer

GUARDED = """
    import braintrust, hashlib, trace_guard
    from trace_guard import Deadline, Guard
    from trace_guard.runtime.state import PROCESS
    from trace_guard.runtime.termination import Termination

    guard = Guard().start()

    def act(number):
        PROCESS.terminate(signal.Signals(number).name, Deadline.after(1.0))
"""
BUSY = {
    "sleeping": "time.sleep(60)",
    "in a loop": "while True: pass",
    "in C code without the GIL": "hashlib.pbkdf2_hmac('sha256', b'x' * 64, b'y' * 64, (1 << 31) - 1)",
}


@pytest.mark.parametrize("busy", BUSY)
def test_what_is_open_is_closed_and_delivered(server: BraintrustServer, directory: Path, busy: str) -> None:
    """A signal that ends the process closes and delivers the open spans, whatever the main thread is doing."""
    with Program(f"""{GUARDED}
    Termination(act, 1.0).install()
    with guard.invocation("root"):
        with braintrust.start_span("step"):
            say("busy")
            {BUSY[busy]}
    """, environment(server, directory)) as program:
        program.expects("busy")
        program.signal(signal.SIGTERM)
        until(lambda: server.span_rows() and not server.open_spans(), what="the end of both spans")
        assert program.wait() == -signal.SIGTERM
    spans = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    forced = {"outcome": "terminated", "closed_by": "guard", "reason": "signal"}
    assert {name: without_place(row) for name, row in spans.items()} == {
        "root": {**forced, "running": "step"}, "step": forced,
    }
    assert spans["root"]["error"].startswith("Terminated: SIGTERM came 0.")
    assert spans["root"]["error"].endswith("s after it began; in the span 'step'")
    assert "error" not in spans["step"]


def test_the_handler_before_is_called_after_it() -> None:
    """An earlier handler is called after closing and delivery, and decides how the process ends."""
    with Program("""
    from trace_guard.runtime.termination import Termination
    ours = []
    signal.signal(signal.SIGTERM, lambda number, frame: say("theirs", number, *ours))
    assert Termination(ours.append, 1.0).install()
    say("ready")
    listen()
    """, {}) as program:
        program.expects("ready")
        program.signal(signal.SIGTERM)
        program.expects("theirs", 15, 15)
        program.tell()
        program.ends_well()


def test_a_handler_that_comes_later_is_left_in_force() -> None:
    """A handler that the program installs later stays in force, and closing and delivery still happen."""
    with Program("""
    import threading
    from trace_guard.runtime.termination import Termination
    done = threading.Event()
    assert Termination(lambda number: done.set(), 1.0).install()
    signal.signal(signal.SIGTERM, lambda number, frame: say("theirs", done.wait(10)))
    say("ready")
    while True:
        say("still here", listen())
    """, {}) as program:
        program.expects("ready")
        program.signal(signal.SIGTERM)
        program.expects("theirs", True)
        for word in ("a", "b"):
            program.tell(word)
            program.expects("still here", word)


def test_an_earlier_wakeup_descriptor_still_works() -> None:
    """The earlier owner of the wakeup descriptor still receives every signal, and an ignored signal stays ignored."""
    with Program("""
    import socket
    from trace_guard.runtime.termination import Termination
    hearing, speaking = socket.socketpair()
    speaking.setblocking(False)
    signal.set_wakeup_fd(speaking.fileno())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda number, frame: None)
    assert Termination(lambda number: say("ours", number), 1.0).install()
    say("ready")
    say("theirs", *hearing.recv(1))
    say("theirs", *hearing.recv(1))
    """, {}) as program:
        program.expects("ready")
        program.signal(signal.SIGUSR2)
        program.expects("theirs", int(signal.SIGUSR2))
        program.signal(signal.SIGTERM)
        assert {program.hears(), program.hears()} == {"ours 15", "theirs 15"}
        program.ends_well()


def test_a_loop_that_takes_the_descriptor_does_no_harm() -> None:
    """An asyncio loop that replaces the wakeup descriptor does not prevent closing and delivery."""
    with Program("""
    import asyncio
    from trace_guard.runtime.termination import Termination
    assert Termination(lambda number: say("ours", number), 1.0).install()

    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, lambda: None)
        say("ready")
        await asyncio.sleep(60)

    asyncio.run(main())
    """, {}) as program:
        program.expects("ready")
        program.signal(signal.SIGTERM)
        program.expects("ours", 15)
        assert program.wait() == -signal.SIGTERM


def test_a_forked_childs_signals_are_its_own() -> None:
    """A signal to a forked child ends the child normally, and does not affect the parent."""
    with Program("""
    from trace_guard.runtime.termination import Termination
    assert Termination(lambda number: say("ours", os.getpid() == parent), 1.0).install()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        say("child")
        time.sleep(60)
    listen()
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    say("ended", os.WTERMSIG(status))
    listen()
    os.kill(parent, signal.SIGTERM)
    time.sleep(60)
    """, {}) as program:
        program.expects("child")
        program.tell()
        program.expects("ended", 15)
        program.tell()
        program.expects("ours", True)
        assert program.wait() == -signal.SIGTERM


@pytest.mark.parametrize("busy", BUSY)
def test_a_forked_child_dies_of_its_signal(busy: str) -> None:
    """A signal ends a forked child at once, whatever its main thread is doing, and does not end its parent."""
    with Program(f"""
    import hashlib
    from trace_guard.runtime.termination import Termination
    assert Termination(lambda number: say("ours"), 1.0).install()
    child = os.fork()
    if child == 0:
        say("busy")
        {BUSY[busy]}
    listen()
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    say("ended", os.WTERMSIG(status))
    """, {}) as program:
        program.expects("busy")
        program.tell()
        program.expects("ended", 15)
        program.ends_well()


def test_a_handler_that_a_child_inherits_is_in_force() -> None:
    """A forked child has the handler that was installed before ours, or the one that replaced ours."""
    with Program("""
    from trace_guard.runtime.termination import Termination
    signal.signal(signal.SIGTERM, lambda number, frame: say("before"))
    assert Termination(lambda number: say("ours"), 1.0).install([signal.SIGTERM, signal.SIGUSR2])
    signal.signal(signal.SIGUSR2, lambda number, frame: say("after"))
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR2)
        os._exit(0)
    os.wait()
    """, {}) as program:
        program.expects("before")
        program.expects("after")
        program.ends_well()


def test_a_signal_waits_for_our_locks() -> None:
    """If the main thread holds a lock that closing needs, it continues; once the lock is free, the rows are delivered
    and the process ends by the signal."""
    with Program("""
    import threading
    from trace_guard.runtime.termination import Termination
    lock = threading.Lock()
    def act(number):
        with lock:
            say("ours")
    assert Termination(act, 60.0).install()
    holder = {"__name__": "trace_guard.holder", **{name: globals()[name] for name in ("lock", "os", "signal", "say")}}
    exec("def hold():\\n with lock:\\n  os.kill(os.getpid(), signal.SIGTERM)\\n  say('held')", holder)
    holder["hold"]()
    time.sleep(60)
    """, {}) as program:
        program.expects("held")
        program.expects("ours")
        assert program.wait() == -signal.SIGTERM


def test_a_further_signal_ends_the_wait() -> None:
    """Ctrl-C during the delivery after a SIGTERM ends the process by SIGTERM at once, and raises nowhere."""
    with Program("""
    import threading, traceback
    from trace_guard.runtime.termination import Termination
    main = threading.get_ident()
    def act(number):
        while "_is_time" not in [frame.name for frame in traceback.extract_stack(sys._current_frames()[main])]:
            time.sleep(0.01)
        say("ours")
        time.sleep(60)
    assert Termination(act, 60.0).install()
    say("ready")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        say("raised")
    """, {}) as program:
        program.expects("ready")
        program.signal(signal.SIGTERM)
        program.expects("ours")
        program.signal(signal.SIGINT)
        assert program.wait() == -signal.SIGTERM
        assert program.said() == []


def test_a_stranger_s_file_gets_nothing(tmp_path: Path) -> None:
    """A wakeup descriptor whose number now belongs to another file is not written to."""
    with Program("""
    import socket
    from trace_guard.runtime.termination import Termination
    hearing, speaking = socket.socketpair()
    speaking.setblocking(False)
    signal.set_wakeup_fd(speaking.fileno())
    ours = Termination(lambda number: say("ours", number), 1.0)
    signal.signal(signal.SIGUSR2, lambda number, frame: None)
    assert ours.install([signal.SIGUSR2])
    number = speaking.fileno()
    speaking.close()
    with open(os.environ["FILE"], "wb", buffering=0) as file:
        assert os.dup2(file.fileno(), number) == number
        os.kill(os.getpid(), signal.SIGUSR2)
        listen()
    ours.uninstall()
    say(signal.set_wakeup_fd(-1))
    """, {"FILE": str(tmp_path / "data")}) as program:
        program.expects("ours", int(signal.SIGUSR2))
        program.tell()
        program.expects(-1)
        program.ends_well()
    assert (tmp_path / "data").read_bytes() == b""


def test_only_the_main_thread_installs_handlers() -> None:
    """Outside the main thread, nothing is installed, and the return value is False."""
    with Program("""
    import threading
    from trace_guard.runtime.termination import Termination
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: say(Termination(print, 1.0).install()))
    thread.start()
    thread.join()
    say(signal.getsignal(signal.SIGTERM) is before, signal.set_wakeup_fd(-1))
    """, {}) as program:
        program.expects(False)
        program.expects(True, -1)
        program.ends_well()
