"""A FastAPI service on Cloud Run that streams answers."""

from fake_model import complete, stream
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from trace_guard_gcf import AsyncGuardMiddleware


class Question(BaseModel):
    prompt: str


app = FastAPI()
app.add_middleware(AsyncGuardMiddleware)


@app.post("/answers/{topic}")
async def answer(topic: str, question: Question):
    return {"topic": topic, "answer": complete(question.prompt)}


@app.get("/streams/{topic}")
async def stream_answer(topic: str):
    async def events():
        for chunk in stream(topic):
            yield f"data: {chunk}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
