"""Stands in for a model provider, so that the example runs without a key: canned answers after a real wait."""

import time

import braintrust


class Overloaded(Exception):
    """The model is overloaded; try again later."""


@braintrust.traced(type="llm")
def complete(prompt: str, *, overloaded: bool = False) -> str:
    time.sleep(0.02)
    if overloaded:
        raise Overloaded("the model is overloaded")
    return "billing" if "invoice" in prompt else "other"
