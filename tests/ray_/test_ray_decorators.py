"""The decorators without a cluster: refused objects, kept attributes, and sent context."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest
import ray
from fixtures import MakeGuard
from planted_keys import PLANTED_KEY
from support import PROJECT_ID

from trace_guard import FlushPolicy, SettingsError
from trace_guard.testing import BraintrustServer
from trace_guard_ray import carried, guard_actor, guard_task, runtime_env
from trace_guard_ray.options import Options


def task(text: str, *more: int, times: int = 1, **rest: Any) -> str:
    return text * times


class Actor:
    def method(self, number: int) -> int:
        return number

    def _private(self) -> None: ...

    @staticmethod
    def static() -> None: ...


MISUSES = {
    "a remote function": (guard_task, lambda: ray.remote(task), "put @guard_task below @ray.remote"),
    "a class as a task": (guard_task, lambda: Actor, "use @guard_actor"),
    "a callable object": (guard_task, lambda: task.__call__, "write a function that calls it"),
    "a remote class": (guard_actor, lambda: ray.remote(Actor), "put @guard_actor below @ray.remote"),
    "a function as an actor": (guard_actor, lambda: task, "use @guard_task"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_misuse_names_its_remedy(misuse: str) -> None:
    """An unsuitable object is refused where it is decorated, with a message that says what to do."""
    decorator, target, remedy = MISUSES[misuse]
    with pytest.raises(TypeError, match=remedy):
        decorator(target())


def test_a_bad_keyword_is_refused() -> None:
    """An invalid keyword value raises when the module is imported."""
    with pytest.raises(SettingsError, match="before-response"):
        guard_task(flush="never")(task)


def test_a_signature_is_kept(make_guard: MakeGuard) -> None:
    """A guarded function has its own parameters and an additional keyword, before any ``**`` parameter."""
    guarded = guard_task(guard=make_guard())(task)
    names = list(inspect.signature(guarded).parameters)
    assert names == ["text", "more", "times", "_trace_guard", "rest"]
    assert (guarded.__name__, guarded.__doc__, guarded.__module__) == ("task", None, __name__)


def test_a_call_without_ray_is_guarded(make_guard: MakeGuard, server: BraintrustServer) -> None:
    """Without Ray, a guarded function works as usual. Within an invocation it adds to it, and does not receive Ray's
    context keyword."""
    guard = make_guard()
    guarded: Any = guard_task(guard=guard, flush="before-response")(task)
    assert guarded("a", times=2) == "aa"
    with guard.invocation("outer"):
        assert guarded("b", _trace_guard="elsewhere") == "b"
    names = [row["span_attributes"]["name"] for row in server.span_rows()]
    assert sorted(names) == ["outer", "task"]


def test_methods_that_are_guarded(make_guard: MakeGuard) -> None:
    """The methods of an actor that others call are guarded, but not private and static methods."""
    guarded = guard_actor(guard=make_guard())(type("Guarded", (Actor,), {}))
    taking = [name for name, one in inspect.getmembers(guarded, inspect.isfunction)
              if "_trace_guard" in inspect.signature(one).parameters]
    assert taking == ["method"]
    assert "_trace_guard" not in inspect.signature(Actor.method).parameters


def test_carried_leaves_its_target_alone(make_guard: MakeGuard, server: BraintrustServer) -> None:
    """A copy of a class carries the span in which it was made, and the class itself is unchanged."""
    guard = make_guard()
    guarded: Any = guard_actor(guard=guard, flush="before-response")(type("Guarded", (Actor,), {}))
    with guard.invocation("outer"):
        carrying = carried(guarded)
    assert (carrying.__name__, issubclass(carrying, guarded)) == ("Guarded", True)
    assert carrying().method(3) == guarded().method(4) - 1 == 3
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows() if row.get("output") != 4}
    alone = next(row for row in server.span_rows() if row.get("output") == 4)
    assert rows["Guarded.method"]["span_parents"] == [rows["outer"]["span_id"]]
    assert alone["root_span_id"] != rows["outer"]["root_span_id"]


def test_settings_travel_without_the_key(make_guard: MakeGuard) -> None:
    """The settings that are sent to workers with a function have neither the key nor the directory."""
    guard = make_guard(project="scores", redact=("ssn",), capture_output=False)
    sent = pickle.dumps(Options(guard, name="x", tags=["t"]))
    assert b"BRAINTRUST" not in sent
    assert str(guard.settings.dir).encode() not in sent
    keywords = pickle.loads(sent)._keywords
    assert {name: keywords[name] for name in ("project", "project_id", "redact", "capture_output", "flush")} == {
        "project": "scores", "project_id": PROJECT_ID, "redact": ("ssn",), "capture_output": False,
        "flush": FlushPolicy.AFTER_RESPONSE,
    }
    assert not {"api_key", "dir"} & set(keywords)


def test_a_runtime_environment(make_guard: MakeGuard, server: BraintrustServer) -> None:
    """The runtime environment has the destination, and the key only on request. The user's own fields take
    precedence."""
    guard = make_guard(project="scores")
    made = runtime_env(guard, env_vars={"TRACE_GUARD_PROJECT": "other", "MINE": "1"}, pip=["numpy"])
    assert made == {
        "worker_process_setup_hook": "trace_guard_ray.environment.start_worker",
        "pip": ["numpy"],
        "env_vars": {
            "TRACE_GUARD_PROJECT": "other", "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "TRACE_GUARD_BACKEND": "auto",
            "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url, "MINE": "1",
        },
    }
    assert runtime_env(guard, key=True)["env_vars"]["BRAINTRUST_API_KEY"] == PLANTED_KEY
