"""A function with all of Powertools, without AWS: routes, a log, metrics, X-Ray, and idempotent answers."""

import os
import time

import braintrust
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from trace_guard_lambda import guard_handler
from trace_guard_lambda.powertools import GuardMiddleware, inject_trace_context

logger = inject_trace_context(Logger(service="tickets"))
child = Logger(service="tickets", child=True)
tracer = Tracer(service="tickets")
metrics = Metrics(namespace="tests", service="tickets")
app = APIGatewayHttpResolver()
app.use([GuardMiddleware()])


@app.get("/tickets/<ticket_id>")
def get_ticket(ticket_id):
    logger.info("in the route")
    with braintrust.start_span("look up") as span:
        child.info("in a span", extra={"expected": span.span_id})
    if ticket_id == "none":
        raise NotFoundError("no such ticket")
    if ticket_id == "broken":
        raise LookupError("the index is broken")
    if ticket_id == "slow":
        time.sleep(60)
    metrics.add_metric(name="found", unit="Count", value=1)
    return {"id": ticket_id, "xray": tracer.provider.__class__.__name__}


@app.exception_handler(LookupError)
def broken(error):
    from aws_lambda_powertools.event_handler import Response

    return Response(status_code=500, content_type="text/plain", body="try again later")


def resolve(event, context):
    return app.resolve(event, context)


ORDERS = {
    "inside": lambda function: logger.inject_lambda_context(clear_state=True)(
        tracer.capture_lambda_handler(metrics.log_metrics(guard_handler(function)))
    ),
    "outside": lambda function: guard_handler(
        logger.inject_lambda_context(clear_state=True)(
            tracer.capture_lambda_handler(metrics.log_metrics(function))
        )
    ),
}
handler = ORDERS[os.environ.get("ORDER", "outside")](resolve)
