"""Stands in for a model provider, so the example runs without a key. The answers are fixed, the latency is real."""

import time


class Overloaded(Exception):
    """Raised when the provider is overloaded."""


class FakeLLM:
    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds

    def complete(self, prompt: str) -> str:
        """Return the requested sum. Like a model, it is sometimes wrong and sometimes fails."""
        time.sleep(self.seconds)
        left, right = (int(word) for word in prompt.rstrip("?").split() if word.isdecimal())
        if left % 50 == 13:
            raise Overloaded(f"try again later: {prompt!r}")
        return str(left + right + (left % 20 == 7))
