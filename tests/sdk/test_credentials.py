"""Several organisations and keys in one process: each row goes to the destination of its own credentials."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import braintrust
import pytest
from support import Program, environment, journals
from test_gateway import files_with

from trace_guard import Guard, Settings
from trace_guard.backends.memory import MemoryBackend
from trace_guard.testing import BraintrustServer

ORGANISATIONS = {"key-a": "A", "key-b": "B"}

PROGRAM = """
    import threading, braintrust
    from braintrust.logger import BraintrustState
    from trace_guard import Guard
    guard = Guard(project="shared").start()

    def state_of(key):
        state = BraintrustState()
        state.login(api_key=key)
        return state

    def serve(name):
        with guard.invocation(name) as invocation, braintrust.start_span(f"step of {name}"):
            pass
        return invocation.delivery.verdict.value
"""


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(organizations=ORGANISATIONS) as server:
        yield server


def run(
    server: BraintrustServer, directory: Path, code: str, holds: Callable[[], bool] | None = None, key: str = "key-a"
) -> None:
    """Run a program to its end; ``holds`` must be true when it says that it has flushed."""
    env = environment(server, directory, TRACE_GUARD_PROJECT_ID="", BRAINTRUST_PROJECT_ID="")
    with Program(PROGRAM + code, env | {"BRAINTRUST_API_KEY": key}) as program:
        if holds is not None:
            program.expects("flushed")
            assert holds()
            program.tell()
        program.expects("done")
        program.ends_well()


def delivered(server: BraintrustServer) -> dict[tuple[str, str], Counter[str]]:
    """How many spans of each name were delivered, by key and by the organisation of their project."""
    projects = server.project_organizations
    seen: dict[tuple[str, str], dict[str, str]] = {}
    for request in server.requests_to("/logs3"):
        key = str(request.authorization).removeprefix("Bearer ")
        for row in request.rows:
            name = (row.get("span_attributes") or {}).get("name")
            if name:
                seen.setdefault((key, projects[row["project_id"]]), {})[row["id"]] = name
    return {where: Counter(names.values()) for where, names in seen.items()}


def test_another_state_has_a_destination_of_its_own(server: BraintrustServer, directory: Path) -> None:
    """Rows that two states log in threads, interleaved with invocations, reach each its own organisation by its own
    key, and projects of one name are told apart."""
    run(server, directory, """
    other = braintrust.init_logger(project="shared", state=state_of("key-b"), set_current=False)

    def customer(n):
        serve(f"a{n}")
        with guard.invocation(f"mixed{n}"):
            other.start_span("b").end()
            other.flush()
            braintrust.start_span("a").end()

    threads = [threading.Thread(target=customer, args=(n,)) for n in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    guard.close(20)
    say("done")
    """)
    found = delivered(server)
    assert set(found) == {("key-a", "A"), ("key-b", "B")}
    assert found["key-b", "B"] == {"b": 8}
    assert found["key-a", "A"] == {
        **{f"a{n}": 1 for n in range(8)}, **{f"step of a{n}": 1 for n in range(8)},
        **{f"mixed{n}": 1 for n in range(8)}, "a": 8,
    }
    assert server.open_spans() == []
    assert journals(directory) == []
    assert files_with(directory, "key-a", "key-b") == []


def test_a_flush_of_another_state_arrives(server: BraintrustServer, directory: Path) -> None:
    """When another state's flush() returns, its rows have arrived, within an invocation too."""
    run(server, directory, """
    other = braintrust.init_logger(project="mine", state=state_of("key-b"), set_current=False)
    with guard.invocation("root"):
        other.start_span("b").end()
        other.flush()
        say("flushed")
        listen()
    say("done")
    """, lambda: delivered(server)["key-b", "B"] == {"b": 1})
    assert delivered(server)["key-b", "B"] == {"b": 1}


def test_a_wrong_key_of_another_state_raises(server: BraintrustServer, directory: Path) -> None:
    """A login of another state with a key that the server refuses raises as without the guard, and changes nothing."""
    run(server, directory, """
    try:
        state_of("a key that nobody has")
    except Exception as error:
        assert "401" in str(error) or "Invalid" in str(error), error
    else:
        raise AssertionError("it was accepted")
    assert serve("root") == "delivered"
    say("done")
    """)
    assert delivered(server) == {("key-a", "A"): {"root": 1, "step of root": 1}}


@pytest.mark.parametrize("arguments", [{}, {"org_name": "B"}])
def test_a_prompt_of_another_organisation(
    server: BraintrustServer, directory: Path, arguments: dict[str, str]
) -> None:
    """Loading a prompt with another key works in an invocation, and leaves this and later ones with their own key."""
    run(server, directory, f"""
    with guard.invocation("first"):
        try:
            braintrust.load_prompt(project="shared", slug="greeting", api_key="key-b", **{json.dumps(arguments)}).slug
        except Exception as error:
            assert "Re-logging in" not in str(error), error  # there is none, but it is asked for
        braintrust.start_span("step").end()
    for n in range(3):
        assert serve(f"later{{n}}") == "delivered"
    say("done")
    """)
    assert set(delivered(server)) == {("key-a", "A")}
    asked = [request.authorization for request in server.requests_to("/v1/prompt")]
    assert set(asked) == {"Bearer key-b"}


def test_a_login_in_a_handler_takes_effect_for_what_begins_afterwards(
    server: BraintrustServer, directory: Path
) -> None:
    """An invocation whose code logs in stays whole where it began, and concurrent ones too; the next goes out with the
    new key."""
    run(server, directory, """
    began, changed = threading.Event(), threading.Event()

    def beside():
        with guard.invocation("beside"):
            began.set()
            changed.wait(10)
            braintrust.start_span("step of beside").end()

    thread = threading.Thread(target=beside)
    thread.start()
    began.wait(10)
    with guard.invocation("first"):
        braintrust.login(api_key="key-b", force_login=True)
        braintrust.start_span("step of first").end()
    changed.set()
    thread.join()
    assert serve("second") == "delivered"
    braintrust.login(api_key="key-a", force_login=True)
    assert serve("third") == "delivered"
    guard.close(20)
    say("done")
    """)
    assert delivered(server) == {
        ("key-a", "A"): {"beside": 1, "step of beside": 1, "first": 1, "step of first": 1, "third": 1,
                         "step of third": 1},
        ("key-b", "B"): {"second": 1, "step of second": 1},
    }
    assert server.open_spans() == []


@pytest.mark.parametrize("late", [
    'os.environ["BRAINTRUST_API_KEY"] = "key-a"',
    'braintrust.init_logger(project="shared", api_key="key-a")',
    'braintrust.login(api_key="key-a")',
])
def test_a_key_may_come_late(server: BraintrustServer, directory: Path, late: str) -> None:
    """What begins after a key has come goes to its organisation, however the program makes the key known."""
    run(server, directory, f"""
    with guard.invocation("first"):
        {late}
        braintrust.start_span("step").end()
    for n in range(3):
        assert serve(f"later{{n}}") == "delivered"
    guard.close(20)
    say("done")
    """, key="")
    assert delivered(server)["key-a", "A"] >= Counter(f"later{n}" for n in range(3))
    assert server.open_spans() == []


def test_rows_of_no_invocation_go_to_the_newest_guard(tmp_path: Path) -> None:
    """Of several guards with the login's credentials the newest that is open has the rows of no invocation; each has
    those of its own invocations."""
    backends = [MemoryBackend(), MemoryBackend()]
    older, newer = [
        Guard(Settings(dir=tmp_path / str(n), project="mine"), backend=backend) for n, backend in enumerate(backends)
    ]
    older.start()
    newer.start()
    with older.invocation("of the older"):
        braintrust.start_span("step").end()
    braintrust.start_span("outside").end()
    braintrust.flush()
    newer.close()
    braintrust.start_span("afterwards").end()
    braintrust.flush()
    older.close()
    names = [{row["span_attributes"]["name"] for row in backend.rows() if "span_attributes" in row}
             for backend in backends]
    assert names == [{"of the older", "step", "afterwards"}, {"outside"}]
