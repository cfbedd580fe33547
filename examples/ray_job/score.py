"""A nightly job: a model answers prompts over a Ray cluster, and another one scores the answers.

It is a user's code as any other: one invocation around it, ``guard_task`` and ``guard_actor`` below ``ray.remote``. As
in life, some prompts fail, some calls are worth a retry, and a worker is killed in the middle.
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
        os._exit(1)  # as the kernel does it, when memory is short
    return ask(number)


@braintrust.traced(type="llm")
def ask(number):
    said, tokens = FakeLLM().complete(number)
    braintrust.current_span().log(metrics=tokens)
    return said


@ray.remote
@guard_actor(project="nightly-scores")
class Judge:
    def __init__(self):
        self.judged = 0

    def score(self, said):
        self.judged += 1
        return min(1.0, len(said) / 40)


def main(directory):
    judge = Judge.remote()
    answers = [answer.remote(number, directory / "died") for number in range(PROMPTS)]
    scores, failed = [], 0
    for one in answers:
        try:
            scores.append(ray.get(judge.score.remote(ray.get(one))))
        except ValueError:
            failed += 1  # a prompt that the model does not take
    return f"{len(scores)} scored, mean {sum(scores) / len(scores):.2f}; {failed} failed"


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=runtime_env())
    with default_guard().invocation("score prompts"):
        print(main(Path(sys.argv[1])))
