"""Stands in for a model provider, so that the example runs without a key: the answers are canned, the wait is real."""

import time


class Overloaded(Exception):
    """What a provider says when it has too much to do."""


class FakeLLM:
    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds

    def complete(self, prompt: str) -> str:
        """The sum that the prompt asks for: as a model does it, wrong now and then."""
        time.sleep(self.seconds)
        left, right = (int(word) for word in prompt.rstrip("?").split() if word.isdecimal())
        if left % 50 == 13:
            raise Overloaded(f"try again later: {prompt!r}")
        return str(left + right + (left % 20 == 7))
