"""Ray tasks and actors on this machine: one driver, its workers, and the server that they all deliver to."""

from __future__ import annotations

import json
import re
from collections import Counter

from contract.suite import outcomes, parents
from ray_.driver import ABANDONED, OK, PROMPTS, Driver, by_name, told
from support import until

from trace_guard.rows import Row

TASKS = 200


def test_tasks_whose_workers_are_killed(driver: Driver) -> None:
    """With two killed workers, all tasks are closed spans of one trace, and so are the attempts that died, beside
    their retries."""
    said, rows = driver.runs("many", driver.marks, TASKS, spans=TASKS + 3)
    assert said == list(range(TASKS))
    tasks = by_name(rows, "item")
    ended = [row for row in tasks if told(row) == OK]
    assert sorted(row["output"] for row in ended) == list(range(TASKS))
    died = [row for row in tasks if told(row) != OK]
    assert [told(row) for row in died] == [ABANDONED, ABANDONED]
    assert all(row["error"].startswith("Abandoned") and row["metadata"]["ray.attempt"] == 0 for row in died)
    again = {row["metadata"]["ray.task_id"]: row for row in ended if row["metadata"]["ray.attempt"] == 1}
    assert sorted(again[row["metadata"]["ray.task_id"]]["output"] for row in died) == [10, 20]
    workers = {row["metadata"]["ray.worker_id"] for row in tasks}
    assert len(workers) > 2
    for key in ("ray.job_id", "ray.node_id"):
        assert len({row["metadata"][key] for row in tasks}) == 1


def test_tasks_within_tasks(driver: Driver) -> None:
    """A task that a task submits is a child of it, with its own options, arguments and metadata."""
    said, rows = driver.runs("nests", spans=4)
    assert said == ["A", "AA"]
    assert parents(rows) == {"nests": None, "shouts_twice": "nests", "shout": "shouts_twice"}
    shouts = by_name(rows, "shout")
    assert sorted(row["output"] for row in shouts) == ["A", "AA"]
    assert {json.dumps(row["input"]) for row in shouts} == {
        '{"args": ["a"], "kwargs": {}}', '{"args": [], "kwargs": {"text": "a", "times": 2}}',
    }
    assert {row["metadata"]["of"] for row in shouts} == {"the user"}


def test_a_task_outside_of_any_span(driver: Driver) -> None:
    """A task that is submitted outside of any span is a trace of its own."""
    driver.program.tell("outside")
    assert driver.hears() == "OUTSIDE"
    rows = until(lambda: [row for row in driver.server.span_rows() if row.get("output") == "OUTSIDE"])
    assert [(row["span_parents"], row["root_span_id"] == row["span_id"]) for row in rows] in (
        [(None, False)], [([], False)], [(None, True)],
    )


def test_errors_and_their_retries(driver: Driver) -> None:
    """An error reaches the driver as without us, and each failed attempt is a span with its error."""
    (plain, guarded, at_last), rows = driver.runs("errors", driver.marks, spans=5)
    assert plain == guarded
    assert guarded[1:3] == ["NoSuchOrder", ["no order 7"]]
    assert at_last == "at last"
    (failed,) = by_name(rows, "fails")
    assert (told(failed), failed["error"].splitlines()[-1].rpartition(".")[2]) == (
        {"outcome": "error"}, "NoSuchOrder: no order 7",
    )
    attempts = sorted(by_name(rows, "fails_twice"), key=lambda row: row["metadata"]["ray.attempt"])
    assert [(row["metadata"]["ray.attempt"], told(row)["outcome"]) for row in attempts] == [
        (0, "error"), (1, "error"), (2, "ok"),
    ]
    assert len({row["metadata"]["ray.task_id"] for row in attempts}) == 1


def test_tasks_that_are_cancelled(driver: Driver) -> None:
    """A cancelled task is an error. A task that is cancelled by force, which kills its worker, is abandoned."""
    said, rows = driver.runs("cancels", driver.marks, spans=3)
    assert said == ["RayTaskError(TaskCancelledError)", "TaskCancelledError"]
    gently, by_force = by_name(rows, "sleeps")
    assert (told(gently), gently["error"].splitlines()[-1]) == ({"outcome": "error"}, "KeyboardInterrupt")
    assert told(by_force) == ABANDONED


def test_a_death_without_a_waiting_caller(driver: Driver) -> None:
    """The span of a task whose worker is killed is closed while the driver is running, even if its result was
    dropped."""
    _, rows = driver.runs("nobody_asks", spans=2)
    assert outcomes(rows) == {"nobody_asks": OK, "dies": ABANDONED}


def test_a_task_that_streams(driver: Driver) -> None:
    """A generator's span includes all of its items."""
    said, rows = driver.runs("streams", spans=2)
    assert said == [0, 1, 2]
    assert outcomes(rows) == {"streams": OK, "counts": OK}


def test_a_task_that_waits_for_its_delivery(driver: Driver) -> None:
    """With ``flush="before-response"`` a task's closed span has arrived with its result."""
    driver.program.tell("delivers")
    assert driver.hears() == "delivered"
    (row,) = by_name(driver.server.span_rows(), "waits")
    assert (told(row), "output" in row) == (OK, False)


def test_an_actor(driver: Driver) -> None:
    """Creation, methods, generators, nested calls, and a restart after a kill are spans of the caller's trace."""
    said, rows = driver.runs("acts", driver.marks, spans=10)
    assert said == ["Hello, Ada", ["Hello, Bob", "Hello, Cy"], "HELLO, YOU", [1, 2], "up again"]
    assert {name: parent for name, parent in parents(rows).items() if name != "acts"} == {
        **dict.fromkeys(
            ["Model.__init__", "Model.greet", "Model.greet_all", "Model.asks", "Model.two", "Model.dies_once"], "acts"
        ),
        "shout": "Model.asks",
    }
    assert Counter(row["span_attributes"]["name"] for row in rows) == Counter(
        ["acts", "Model.__init__", "Model.__init__", "Model.greet", "Model.greet_all", "Model.asks", "shout",
         "Model.two", "Model.dies_once", "Model.dies_once"]
    )
    assert Counter(told(row)["outcome"] for row in by_name(rows, "Model.dies_once")) == {"abandoned": 1, "ok": 1}
    (greeting,) = by_name(rows, "Model.greet")
    assert (greeting["input"], greeting["output"]) == ({"args": ["Ada"], "kwargs": {}}, "Hello, Ada")
    assert len({row["metadata"]["ray.actor_id"] for row in rows if "Model" in row["span_attributes"]["name"]}) == 1


def test_an_async_actor(driver: Driver) -> None:
    """Concurrent calls of an async actor are separate spans, and so is a streaming call."""
    said, rows = driver.runs("acts_async", spans=4)
    assert said == [[1, 2], [0, 1]]
    assert parents(rows) == {"acts_async": None, "Async.both": "acts_async", "Async.stream": "acts_async"}
    assert sorted(row["output"] for row in by_name(rows, "Async.both")) == [1, 2]


def test_ray_data(driver: Driver) -> None:
    """Functions and classes that Ray Data calls for each batch are children of the span in which they were passed to
    it."""
    said, rows = driver.runs("maps", spans=10)
    assert said == [number * 2 + 1 for number in range(40)]
    assert parents(rows) == {"maps": None, "double": "maps", "Adder.__init__": "maps", "Adder.__call__": "maps"}
    assert len(by_name(rows, "double")) == len(by_name(rows, "Adder.__call__")) == 4
    assert {told(row)["outcome"] for row in rows} == {"ok"}


def test_the_example(driver: Driver) -> None:
    """The example succeeds despite a killed worker, and its one trace has every attempt, closed."""
    marks = driver.marks / "example"
    marks.mkdir()
    said, _ = driver.runs("scores", marks, spans=3 * PROMPTS + 2)
    assert re.fullmatch(rf"{PROMPTS - 1} scored, mean 0\.\d\d; 1 failed", said)

    def is_complete() -> bool:
        """The number of retries is random: each prompt has an attempt, and all but the failing one have succeeded."""
        answers = by_name(driver.trace("scores"), "answer")
        succeeded = sum(told(row)["outcome"] == "ok" for row in answers)
        return succeeded == PROMPTS - 1 and len({row["metadata"]["ray.task_id"] for row in answers}) == PROMPTS

    until(is_complete)
    rows = driver.trace("scores")
    answers = by_name(rows, "answer")
    (died,) = [row for row in answers if told(row) == ABANDONED]
    again = [row for row in answers if row["metadata"]["ray.task_id"] == died["metadata"]["ray.task_id"]]
    assert [row["metadata"]["ray.attempt"] for row in again][:2] == [0, 1]
    assert len(by_name(rows, "Judge.score")) == PROMPTS - 1


def test_the_code_of_the_documentation(driver: Driver) -> None:
    """The code of docs/ray.md runs as it stands, and its tasks nest below its invocation."""
    driver.program.tell(f"page {driver.directory.parent}")
    assert driver.hears() == [{"prompt": "a"}]
    names = ("nightly scores", "score")
    rows = until(lambda: _closed([row for row in driver.server.span_rows() if _name(row) in names]))
    (root,) = by_name(rows, "nightly scores")
    assert [row["span_parents"] for row in by_name(rows, "score")] == [[root["span_id"]]] * 2


def _name(row: Row) -> str:
    return str(row["span_attributes"]["name"])


def _closed(rows: list[Row]) -> list[Row]:
    return rows if len(rows) == 3 and all("end" in row["metrics"] for row in rows) else []
