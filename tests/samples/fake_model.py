"""A model that answers at once, with the same words each time. Its calls are spans, as those of a wrapped client."""

import braintrust


def complete(prompt):
    """The model's answer. The prompt "fail" makes it fail, as a throttled service does."""
    with braintrust.start_span(name="complete", type="llm", input=prompt) as span:
        if prompt == "fail":
            raise RuntimeError("ThrottlingException: too many requests")
        answer = f"about {prompt}"
        span.log(output=answer)
        return answer


def stream(prompt):
    """The answer in chunks."""
    yield from complete(prompt).split()
