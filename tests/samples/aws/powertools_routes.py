"""A resolver of Powertools, with its exception handlers."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from fake_model import complete

from trace_guard_lambda import guard_handler

app = APIGatewayRestResolver()


@app.get("/tickets/<ticket>")
def read_ticket(ticket):
    if ticket == "0":
        raise NotFoundError("no such ticket")
    return {"ticket": ticket, "answer": complete("fail" if ticket == "13" else ticket)}


@app.exception_handler(RuntimeError)
def busy(error):
    return Response(status_code=503, content_type="text/plain", body="try again")


@guard_handler
def handler(event, context):
    return app.resolve(event, context)
