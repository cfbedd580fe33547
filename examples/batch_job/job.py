"""A nightly evaluation: it asks a model 1,000 questions, sixteen at a time, and scores the answers.

``@guard_job`` closes and delivers the trace, and ``process`` makes each question a step. Questions without a known
answer are skipped, and the model fails for some questions.
"""

import sys

import braintrust
from fake_llm import FakeLLM

from trace_guard import current_job, current_step, guard_job, process

llm = FakeLLM()


@guard_job(name="nightly-eval", project="demo-evals")
def main(questions=1000):
    right = 0
    for result in process(prompts(questions), evaluate, workers=16):
        if result.ok:
            right += result.value
        else:
            print(f"{result.item['prompt']}: {result.error}", file=sys.stderr)
    current_job().count("right", right)
    print(f"{right} of {questions} right")
    if right < questions * 0.9:
        sys.exit(3)  # the scheduler sees a failed job, and the root has the error
    return right


def prompts(count):
    for number in range(count):
        yield {"prompt": f"What is {number} plus 2?", "expected": str(number + 2) if number % 100 else None}


def evaluate(case):
    if case["expected"] is None:
        current_step().skip("no known answer")
        return False
    answer = ask(case["prompt"])
    score = answer == case["expected"]
    braintrust.current_span().log(scores={"exact": float(score)})
    return score


@braintrust.traced(type="llm")
def ask(prompt):
    return llm.complete(prompt)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
