"""Stands in for a model provider, so that the example runs without a key: the answers are canned, the wait is real."""

import time

import braintrust


class Overloaded(Exception):
    """The model has no capacity; try again later."""


@braintrust.traced(type="llm")
def complete(prompt: str, *, overloaded: bool = False) -> str:
    time.sleep(0.02)
    if overloaded:
        raise Overloaded("the model is overloaded")
    return f"{prompt.count('?')} questions"
