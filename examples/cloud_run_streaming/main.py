"""A support agent on Cloud Run that streams its answer token by token.

Only the line that adds the middleware is specific to trace-guard. The trace of a request lasts until the last token,
and is delivered to Braintrust before that token is sent.
"""

import braintrust
from fake_llm import FakeLLM
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from trace_guard_gcf import AsyncGuardMiddleware

app = FastAPI()
app.add_middleware(AsyncGuardMiddleware, project="support-bot", exclude=["/healthz"])

llm = FakeLLM()
ORDERS = {"1042": {"parcel": "Z-77", "state": "with the carrier"}}


class Question(BaseModel):
    question: str


@app.post("/orders/{order}/ask")
async def ask(order: str, asked: Question):
    facts = find_order(order)
    if facts is None:
        raise HTTPException(404, f"there is no order {order}")
    return StreamingResponse(answer(f"{asked.question} {facts}"), media_type="text/plain")


@app.get("/healthz")
async def healthz():
    return "well"


@braintrust.traced(type="tool")
def find_order(order):
    return ORDERS.get(order)


async def answer(prompt):
    with braintrust.start_span(name="answer", type="llm", input=prompt) as span:
        tokens = []
        async for token in llm.stream(prompt):
            tokens.append(token)
            yield token
        span.log(output="".join(tokens), metrics={"completion_tokens": len(tokens)})
