"""A nightly job: on a Ray cluster, tasks ask a model for answers to prompts, and an actor scores the answers.

Only the invocation around the job, ``runtime_env``, and ``guard_task`` and ``guard_actor`` below ``ray.remote`` are
specific to trace-guard. Some prompts fail, some calls are retried, and a worker is killed.
"""

import os
import sys
from pathlib import Path

import braintrust
import ray
from fake_llm import FakeLLM, Overloaded

from trace_guard import default_guard
from trace_guard_ray import guard_actor, guard_task, runtime_env

PROMPTS = int(os.environ.get("PROMPTS", "100"))


@ray.remote(max_retries=3, retry_exceptions=[Overloaded])
@guard_task(project="nightly-scores")
def answer(number, died):
    if number == 13 and not died.exists():
        died.touch()
        os._exit(1)  # like the kernel's OOM killer
    return ask(number)


@braintrust.traced(type="llm")
def ask(number):
    text, tokens = FakeLLM().complete(number)
    braintrust.current_span().log(metrics=tokens)
    return text


@ray.remote
@guard_actor(project="nightly-scores")
class Judge:
    def __init__(self):
        self.judged = 0

    def score(self, text):
        self.judged += 1
        return min(1.0, len(text) / 40)


def main(directory):
    judge = Judge.remote()
    answers = [answer.remote(number, directory / "died") for number in range(PROMPTS)]
    scores, failed = [], 0
    for reference in answers:
        try:
            scores.append(ray.get(judge.score.remote(ray.get(reference))))
        except ValueError:
            failed += 1  # the model refuses the prompt
    return f"{len(scores)} scored, mean {sum(scores) / len(scores):.2f}; {failed} failed"


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=runtime_env())
    with default_guard().invocation("score prompts"):
        print(main(Path(sys.argv[1])))
