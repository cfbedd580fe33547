"""Signals that the program, trio or a terminal handles beside trace-guard."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support import Program, environment, until

from trace_guard.testing import BraintrustServer, Fault


def test_our_threads_block_signals(server: BraintrustServer, directory: Path) -> None:
    """A thread of the program that waits with sigwait() gets the signal, and no thread of ours can."""
    with Program("""
    import pathlib, threading, braintrust
    from trace_guard import Guard, guard_job

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    threading.Thread(target=lambda: say("got", signal.sigwait([signal.SIGUSR2]).name), daemon=True).start()

    @guard_job(progress=False)
    def main():
        braintrust.start_span("step").end()
        with Guard().invocation("inner"): pass
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        open_to = []
        for task in pathlib.Path("/proc/self/task").iterdir():
            name = names.get(int(task.name), "")
            (line,) = [line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk")]
            if name.startswith("trace-guard") and not int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                open_to.append(name)
        say("open", *open_to)
        os.kill(os.getpid(), signal.SIGUSR2)
        listen()

    main()
    """, environment(server, directory)) as program:
        program.expects("open")
        program.expects("got", "SIGUSR2")
        program.tell()
        program.ends_well()


def test_trio_finds_no_foreign_descriptor(server: BraintrustServer, directory: Path) -> None:
    """trio runs in a job, and a job in trio, without a warning about the wakeup descriptor, and both learn of signals.
    Ctrl-C in a nursery's exception group ends the job as terminated."""
    with Program("""
    import warnings; warnings.simplefilter("error")
    import threading, trio
    from trace_guard import guard_job

    async def nursery():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            say("ready")
            await trio.sleep(60)

    @guard_job(name="around", progress=False)
    def around():
        trio.run(nursery)

    @guard_job(name="within", progress=False)
    async def within():
        with trio.open_signal_receiver(signal.SIGUSR2) as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            async for number in signals:
                return say("received", number)

    trio.run(within)
    try:
        around()
    except BaseException as error:
        say(type(error).__name__)
    say(signal.set_wakeup_fd(-1))
    """, environment(server, directory)) as program:
        program.expects("received", int(signal.SIGUSR2))
        program.expects("ready")
        program.signal(signal.SIGINT)
        assert program.hears() in ("BaseExceptionGroup", "ExceptionGroup", "KeyboardInterrupt")
        program.expects(-1)
        program.ends_well()
    outcomes = {row["span_attributes"]["name"]: row["metadata"]["trace_guard"]["outcome"] for row in server.span_rows()}
    assert outcomes == {"within": "ok", "around": "terminated"}


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_second_ctrl_c_ends_the_process(server: BraintrustServer, directory: Path, kind: str) -> None:
    """With a dead backend the first Ctrl-C ends the work, and the second one the wait for the delivery."""
    server.fail("/logs3", Fault.black_hole())
    with Program(f"""
    import asyncio
    from trace_guard import guard_job

    def plain():
        say("ready")
        time.sleep(60)

    async def coroutine():
        say("ready")
        await asyncio.sleep(60)

    try:
        if {kind == "plain"}: guard_job(name="job", progress=False)(plain)()
        else: asyncio.run(guard_job(name="job", progress=False)(coroutine)())
    finally:
        say("over")
    """, environment(server, directory, TRACE_GUARD_EXIT_TIMEOUT="60")) as program:
        program.expects("ready")
        program.signal(signal.SIGINT)
        until(lambda: any(each.path == "/logs3" for each in server.requests), what="the delivery")
        if kind == "async":
            until(lambda: "waiting for Braintrust" in program.stderr, what="the wait at the exit")
        program.signal(signal.SIGINT)
        program.wait(15.0)
    server.heal()
