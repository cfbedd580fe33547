import braintrust

from trace_guard import guard_job, step


def ask(question):
    left, right = question.split(" + ")
    return str(int(left) + int(right))


def exact(input, output, expected):
    return float(output == expected)


@guard_job(name="nightly-eval")
def main():
    with step("load"):
        cases = [{"input": f"{n} + 2", "expected": str(n + 2)} for n in range(20)]
    braintrust.Eval("support-bot", data=cases, task=ask, scores=[exact])


main()
