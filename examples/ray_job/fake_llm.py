"""Stands in for a model provider, so that the example runs without a key. Answers are fixed and the delay is real."""

import random
import time


class Overloaded(Exception):
    """The provider is overloaded. Retry later."""


class FakeLLM:
    def complete(self, number):
        """An answer, and the numbers of tokens read and written."""
        time.sleep(0.01)
        if number % 25 == 24:
            raise ValueError(f"prompt {number} is too long")
        if random.random() < 0.02:
            raise Overloaded
        answer = f"The answer to {number} is {number * 7}."
        return answer, {"prompt_tokens": 12, "completion_tokens": len(answer.split())}
