"""Stands in for a model provider, so that the example runs without a key. Answers are fixed and the delay is real."""

import time

ANSWERS = {
    "plan": ["find_order", "track_parcel"],
    "answer": "Order 1042 arrives tomorrow.",
}


class FakeLLM:
    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds

    def complete(self, task: str, prompt: str, seconds: float | None = None):
        """An answer, and the numbers of tokens read and written."""
        time.sleep(self.seconds if seconds is None else seconds)
        answer = ANSWERS[task]
        return answer, {"prompt_tokens": len(prompt.split()), "completion_tokens": len(str(answer).split())}
