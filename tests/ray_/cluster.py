"""The program under test: a driver that starts Ray on this machine and runs a function below on request."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

from trace_guard import default_guard
from trace_guard_ray import carried, guard_actor, guard_task, runtime_env

WORKERS = 4


ANSWER = "answer:"
"""Before each answer, as Ray too writes to the standard output."""


def main(say: Callable[..., None], listen: Callable[[], str]) -> None:
    """Run the requested functions, each in an invocation with its name."""
    with default_guard().invocation("begins"):
        ray.init(
            address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            runtime_env=runtime_env(key=True),
        )
    say(ANSWER, json.dumps("ready"))
    while asked := listen():
        name, *words = asked.split()
        if name in ("outside", "contract"):
            say(ANSWER, json.dumps(ray.get(shout.remote("outside")) if name == "outside" else kept(*words)))
            continue
        with default_guard().invocation(name):
            say(ANSWER, json.dumps(globals()[name](*words)))
    say(ANSWER, json.dumps("bye"))


def once(mark: str) -> bool:
    """True for the first call with this path."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def appears(mark: str) -> None:
    limit = time.monotonic() + 30
    while not Path(mark).exists():
        assert time.monotonic() < limit, mark
        time.sleep(0.01)


# Tasks


@ray.remote
@guard_task
def item(number: int, mark: str, death: str) -> int:
    if death and once(mark):
        os._exit(3) if death == "exit" else os.kill(os.getpid(), 9)
    return number


def many(directory: str, tasks: str) -> list[int]:
    deaths = {10: "exit", 20: "kill"}
    return ray.get([
        item.remote(number, f"{directory}/{number}", deaths.get(number, "")) for number in range(int(tasks))
    ])


@ray.remote
@guard_task(name="shout", metadata={"of": "the user"})
def shout(text: str, *, times: int = 1) -> str:
    return text.upper() * times


@ray.remote
@guard_task
def shouts_twice(text: str) -> list[str]:
    return ray.get([shout.remote(text), shout.options(num_cpus=0).remote(text=text, times=2)])


def nests() -> list[str]:
    return ray.get(shouts_twice.remote("a"))


class NoSuchOrder(Exception):
    """An error of user code."""


def fails(order: int) -> None:
    raise NoSuchOrder(f"no order {order}")


@ray.remote(retry_exceptions=True, max_retries=2)
@guard_task
def fails_twice(directory: str) -> str:
    for number in (1, 2):
        if once(f"{directory}/failed {number}"):
            raise NoSuchOrder(f"attempt {number}")
    return "at last"


def errors(directory: str) -> list[Any]:
    seen: list[Any] = []
    for function in (fails, guard_task(fails)):
        try:
            ray.get(ray.remote(function).remote(7))
        except ray.exceptions.RayError as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            cause: Any = getattr(error, "cause", None)
            seen.append([kinds, type(cause).__name__, list(cause.args), str(error).splitlines()[-1]])
    return [*seen, ray.get(fails_twice.remote(directory))]


@ray.remote(max_retries=0)
@guard_task
def sleeps(mark: str) -> None:
    Path(mark).touch()
    for _ in range(6000):  # in pieces, because Ray only interrupts Python code
        time.sleep(0.01)


def cancels(directory: str) -> list[str]:
    seen = []
    for force in (False, True):
        reference = sleeps.options(name=f"force {force}").remote(f"{directory}/{force}")
        appears(f"{directory}/{force}")
        ray.cancel(reference, force=force)
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            seen.append(type(error).__name__)
    return seen


@ray.remote(max_retries=0)
@guard_task
def dies() -> None:
    os.kill(os.getpid(), 9)


def nobody_asks() -> None:
    """Drop the result of a task whose worker is killed."""
    dies.remote()


@ray.remote
@guard_task
def counts(upto: int) -> Iterator[int]:
    for number in range(upto):  # noqa: UP028 - Ray sends to a generator, and a range could not take that
        yield number


def streams() -> list[int]:
    return [ray.get(reference) for reference in counts.remote(3)]


@ray.remote
@guard_task(flush="before-response", capture_output=False)
def waits() -> str:
    return "delivered"


def delivers() -> str:
    return ray.get(waits.remote())


# The contract


@ray.remote(max_retries=0)
@guard_task(name="root", flush="before-response")
def runs(code: str) -> Any:
    from contract import user_code

    return getattr(user_code, code)()


def kept(code: str) -> dict[str, Any]:
    """The caller's result: a value, or the kind of the task's own error or of Ray's error."""
    try:
        return {"value": ray.get(runs.remote(code))}
    except ray.exceptions.RayError as error:
        return {"error": type(getattr(error, "cause", None) or error).__name__}


# Actors


@ray.remote(max_restarts=1, max_task_retries=1)
@guard_actor
class Model:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def greet(self, name: str) -> str:
        return f"{self._greeting()}, {name}"

    def _greeting(self) -> str:
        return self.greeting

    def greet_all(self, *names: str) -> Iterator[str]:
        for name in names:
            yield self.greet(name)

    def asks(self) -> str:
        return ray.get(shout.remote(self.greet("you")))

    @ray.method(num_returns=2)
    def two(self) -> tuple[int, int]:
        return 1, 2

    def dies_once(self, mark: str) -> str:
        if once(mark):
            os.kill(os.getpid(), 9)
        return "up again"


def acts(directory: str) -> list[Any]:
    model = Model.remote("Hello")
    return [
        ray.get(model.greet.remote("Ada")),
        [ray.get(one) for one in model.greet_all.remote("Bob", "Cy")],
        ray.get(model.asks.remote()),
        ray.get(model.two.remote()),
        ray.get(model.dies_once.remote(f"{directory}/died")),
    ]


@ray.remote
@guard_actor(name="Async")
class AsyncModel:
    async def both(self, number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    async def stream(self, upto: int) -> Any:
        for number in range(upto):
            yield number


def acts_async() -> list[Any]:
    model = AsyncModel.remote()
    return [ray.get([model.both.remote(1), model.both.remote(2)]), [ray.get(one) for one in model.stream.remote(2)]]


# Ray Data


def double(batch: dict[str, Any]) -> dict[str, Any]:
    return {"id": batch["id"] * 2}


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"] + self.number}


def maps() -> list[int]:
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.range(40, override_num_blocks=4)
    dataset = dataset.map_batches(carried(double), batch_size=10)
    dataset = dataset.map_batches(
        carried(Adder), fn_constructor_args=(1,), batch_size=10, compute=ray.data.ActorPoolStrategy(size=1)
    )
    return sorted(row["id"] for row in dataset.take_all())


# The documentation


def page(directory: str) -> list[Any]:
    """The code of docs/ray.md, with an input of its own. Ray runs already."""
    source, out = Path(directory) / "in.json", Path(directory) / "out"
    source.write_text('{"prompt": "a"}\n')
    text = (Path(__file__).parents[2] / "docs" / "ray.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {
        "prompts": ["a", "b"], "path": str(source), "out": str(out), "score_batch": lambda batch: batch,
    }
    exec(code.replace("ray.init(runtime_env=runtime_env())", ""), names)
    return [json.loads(line) for file in out.iterdir() for line in file.read_text().splitlines()]


# The example


def scores(directory: str) -> str:
    import score

    return str(score.main(Path(directory)))
