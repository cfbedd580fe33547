"""A guarded function that is imported before the worker is assigned to an app."""

import azure.functions as func

from trace_guard_azure import guard_handler


@guard_handler
def take(order: func.QueueMessage):
    return order.get_body().decode()


def app_of_it():
    app = func.FunctionApp()
    app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")(
        app.generic_output_binding(arg_name="$return", type="report")(take)
    )
    return app
