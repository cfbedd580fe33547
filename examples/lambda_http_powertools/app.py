"""A support agent behind an HTTP API, with Powertools for its routes, its log and its metrics.

The root span of each request is named after its route. Each log line has the ids of its trace.
"""

import time

import braintrust
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response, content_types
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from trace_guard_lambda import guard_handler
from trace_guard_lambda.powertools import GuardMiddleware, inject_trace_context

logger = inject_trace_context(Logger(service="support-agent"))
metrics = Metrics(namespace="Support", service="support-agent")
app = APIGatewayHttpResolver()
app.use([GuardMiddleware()])

ORDERS = {"1042": {"parcel": "Z-77"}, "1043": {"parcel": None}}


@guard_handler(project="support-agent")
@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event, context):
    return app.resolve(event, context)


@app.get("/orders/<order_id>/answer")
def answer(order_id):
    logger.append_keys(order_id=order_id)
    order = find_order(order_id)
    text = ask_model(f"Where is parcel {track(order['parcel'])}?")
    metrics.add_metric(name="answers", unit="Count", value=1)
    logger.info("answered")
    return {"answer": text}


@app.exception_handler(ConnectionError)
def carrier_is_down(error):
    logger.exception("the carrier can't be asked")
    return Response(status_code=503, content_type=content_types.TEXT_PLAIN, body="Please ask again in a minute.")


@braintrust.traced(type="tool")
def find_order(order_id):
    if order_id not in ORDERS:
        raise NotFoundError(f"no order {order_id}")
    return ORDERS[order_id]


@braintrust.traced(type="tool")
def track(parcel):
    if parcel is None:
        raise ConnectionError("the carrier has not answered")
    return f"{parcel}, with the carrier"


@braintrust.traced(type="llm")
def ask_model(prompt):
    """Stands in for a model provider, so that the example runs without a key."""
    time.sleep(0.02)
    logger.info("asked the model")
    return "It arrives tomorrow."
