"""Stands in for a model provider, so that the example runs without a key: the answers are canned, the wait is real."""

import random
import time


class Overloaded(Exception):
    """The provider asks to be called again later."""


class FakeLLM:
    def complete(self, number):
        """An answer, and how many tokens were read and written."""
        time.sleep(0.01)
        if number % 25 == 24:
            raise ValueError(f"prompt {number} is too long")
        if random.random() < 0.02:
            raise Overloaded
        said = f"The answer to {number} is {number * 7}."
        return said, {"prompt_tokens": 12, "completion_tokens": len(said.split())}
