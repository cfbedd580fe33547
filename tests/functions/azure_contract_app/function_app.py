"""The same functions guarded by the app: a blueprint's function with its own root name, and functions that are added
later, one with a guard of its own."""

import azure.functions as func
from contract import user_code

from trace_guard_azure import guard_app, guard_handler

blueprint = func.Blueprint()


@blueprint.function_name("root")
@blueprint.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@blueprint.generic_output_binding(arg_name="$return", type="report")
def take(order: func.QueueMessage):
    return getattr(user_code, order.get_body().decode())()


app = func.FunctionApp()
app.register_functions(blueprint)
guard_app(app)


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@app.generic_output_binding(arg_name="$return", type="report")
@guard_handler(name="once")
def twice(order: func.QueueMessage):
    return order.get_body().decode()


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@app.generic_output_binding(arg_name="$return", type="report")
def late(order: func.QueueMessage):
    return order.get_body().decode()
