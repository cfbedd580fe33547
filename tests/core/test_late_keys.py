"""A process that starts without a key, and gets one later or never."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_keys import PLANTED_KEY
from support import Program, environment, journals, until

from trace_guard.backends.local import LocalStore
from trace_guard.testing import BraintrustServer

PROGRAM = f"""
    import braintrust
    from trace_guard import Guard
    guard = Guard(project="p").start()
    key = "{PLANTED_KEY}"

    def call(code=lambda: None):
        with guard.invocation("root"):
            code()
"""


def keyless(server: BraintrustServer | None, directory: Path, **more: str) -> dict[str, str]:
    return environment(server, directory, BRAINTRUST_API_KEY="", TRACE_GUARD_PROJECT_ID="", **more)


WAYS = {
    "environment": "os.environ.update(BRAINTRUST_API_KEY=key)",
    "login": "braintrust.login(api_key=key)",
    "logger": "braintrust.init_logger(project='p', api_key=key)",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_decides_for_the_invocation_it_comes_in(server: BraintrustServer, directory: Path, way: str) -> None:
    """A key that comes within the first invocation is used for that one, earlier spans and later invocations."""
    with Program(f"""{PROGRAM}
    braintrust.start_span("before").end()
    call(lambda: {WAYS[way]})
    call()
    guard.close(10)
    """, keyless(server, directory)) as program:
        program.ends_well()
        assert "not set" not in program.stderr
    names = [row["span_attributes"]["name"] for row in server.span_rows()]
    assert (sorted(names), server.open_spans()) == (["before", "root", "root"], [])
    assert not (directory / "traces.db").exists()
    assert journals(directory) == []


def test_without_a_key_the_first_delivery_decides(server: BraintrustServer, directory: Path) -> None:
    """Without a key the first invocation goes to the local store. A later key is used from then on, and a message says
    once how to send what is in the store."""
    with Program(f"""{PROGRAM}
    call()
    call(lambda: braintrust.login(api_key=key))
    call()
    call()
    guard.close(10)
    """, keyless(server, directory)) as program:
        program.ends_well()
        assert program.stderr.count("traces are kept in") == 1
        assert program.stderr.count("`trace-guard send` sends the earlier ones too") == 1
    assert len(server.span_rows()) == 2
    assert len(LocalStore(directory / "traces.db").traces()) == 2
    env = environment(server, directory, TRACE_GUARD_PROJECT_ID="")
    with Program(f"""
    from trace_guard.cli import main
    assert main(["send", "--dir", {str(directory)!r}]) == 0
    """, env) as program:
        program.ends_well()
    assert len(server.span_rows()) == 4
    assert len({row["project_id"] for row in server.span_rows()}) == 1


def test_guards_without_a_key_follow_the_first_login(server: BraintrustServer, directory: Path) -> None:
    """All guards of the process, also later ones, use the key of the first login; a second login decides nothing
    for running invocations."""
    with Program(f"""{PROGRAM}
    other = Guard(project="q").start()
    with other.invocation("other"):
        braintrust.login(api_key=key)
        braintrust.login(api_key="another", force_login=True)
    with Guard(project="p").invocation("late"):
        pass
    guard.close(10)
    """, keyless(server, directory)) as program:
        program.ends_well()
    keys = {
        row["span_attributes"]["name"]: str(request.authorization).removeprefix("Bearer ")
        for request in server.requests_to("/logs3") for row in request.rows if "span_attributes" in row
    }
    assert keys == {"other": PLANTED_KEY, "late": "another"}


@pytest.mark.parametrize("logs_in", [True, False])
def test_a_process_that_dies_before_its_first_delivery(
    server: BraintrustServer, directory: Path, logs_in: bool
) -> None:
    """What a killed process had not delivered goes to its key, or without one to the next process with a key."""
    with Program(f"""{PROGRAM}
    def work():
        if {logs_in}:
            braintrust.login(api_key=key)
        say("ready")
        listen()
    call(work)
    """, keyless(server, directory)) as program:
        program.expects("ready")
        program.kill()
    with Program("""
    from trace_guard import Guard
    guard = Guard(project="p").start()
    guard.close(10)
    """, environment(server, directory, TRACE_GUARD_PROJECT_ID="")) as program:
        program.ends_well()
    (row,) = server.span_rows()
    assert row["metadata"]["trace_guard"]["outcome"] == "abandoned"
    assert journals(directory) == []


def test_a_long_invocation_is_visible_while_it_runs(directory: Path) -> None:
    """On a machine whose disk stays, the rows of a long invocation without a key are soon in the local store."""
    with Program(f"""{PROGRAM}
    def work():
        say("ready")
        listen()
    call(work)
    guard.close(10)
    """, keyless(None, directory)) as program:
        program.expects("ready")
        store = LocalStore(directory / "traces.db")
        until(lambda: [trace.name for trace in store.traces()] == ["root"])
        program.tell()
        program.ends_well()


def test_a_disk_that_is_thrown_away(directory: Path) -> None:
    """On a platform that deletes its disks, a process without a key says so in one warning."""
    with Program(f"""{PROGRAM}
    call()
    call()
    guard.close(10)
    """, keyless(None, directory, K_SERVICE="service")) as program:
        program.ends_well()
        (line,) = program.stderr.splitlines()
    assert line.startswith("trace-guard: warning: BRAINTRUST_API_KEY is not set: traces are kept in ")
    assert "lost with the disk of this instance" in line
