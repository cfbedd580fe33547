"""A FastAPI application behind Mangum."""

from fake_model import complete
from fastapi import FastAPI, HTTPException
from mangum import Mangum

from trace_guard_lambda import guard_handler

app = FastAPI()
books = {1: "Dune"}


@app.get("/books/{book_id}")
async def read_book(book_id: int):
    if book_id not in books:
        raise HTTPException(404, "no such book")
    return {"title": books[book_id]}


@app.get("/reviews/{book_id}")
async def review(book_id: int):
    return {"review": complete(books[book_id])}


handler = guard_handler(Mangum(app, lifespan="off"))
