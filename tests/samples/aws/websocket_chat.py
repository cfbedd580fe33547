"""A chat over a WebSocket API. Answers are posted to the connection, chunk by chunk."""

import json

from fake_model import stream

from trace_guard_lambda import guard_handler

CONNECTIONS = set()
POSTED = []


def post_to_connection(connection, data):
    if connection not in CONNECTIONS:
        raise ConnectionError(f"GoneException: {connection}")
    POSTED.append(data)


@guard_handler
def handler(event, context):
    request = event["requestContext"]
    connection, route = request["connectionId"], request["routeKey"]
    if route == "$connect":
        CONNECTIONS.add(connection)
    elif route == "$disconnect":
        CONNECTIONS.discard(connection)
    else:
        for chunk in stream(json.loads(event["body"])["prompt"]):
            post_to_connection(connection, chunk)
    return {"statusCode": 200}
