"""A blueprint in a module of its own, whose annotations are strings."""

from __future__ import annotations

import azure.functions as func


def tidying(guard):
    blueprint = func.Blueprint()

    @blueprint.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
    @blueprint.generic_output_binding(arg_name="$return", type="report")
    @guard
    def in_blueprint(order: func.QueueMessage):
        return {"type": type(order).__name__, "body": order.get_body().decode()}

    return blueprint
