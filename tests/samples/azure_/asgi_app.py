"""A FastAPI application that is a single function of its app."""

import azure.functions as func
from fake_model import complete
from fastapi import FastAPI

from trace_guard_azure import guard_app

web = FastAPI()


@web.get("/api/answers/{topic}")
async def answer(topic: str):
    return {"answer": complete(topic)}


app = func.AsgiFunctionApp(app=web, http_auth_level=func.AuthLevel.ANONYMOUS)
guard_app(app)
