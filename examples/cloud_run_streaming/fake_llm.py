"""Stands in for a model provider, so that the example runs without a key. The answer is fixed and the delay is real."""

import asyncio


class FakeLLM:
    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds

    async def stream(self, prompt: str):
        """The answer, token by token."""
        if "melt" in prompt:
            raise ConnectionError("the model is overloaded")
        for token in ("Your ", "parcel ", "is ", "with ", "the ", "carrier."):
            await asyncio.sleep(self.seconds)
            yield token
