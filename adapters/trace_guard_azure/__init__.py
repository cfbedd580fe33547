"""trace-guard for Azure Functions: a decorator for a function, and a call that guards all functions of an app::

    import azure.functions as func
    from trace_guard_azure import guard_handler

    app = func.FunctionApp()

    @app.route(route="ask")
    @guard_handler(project="support-bot")
    async def ask(req: func.HttpRequest) -> func.HttpResponse: ...

    from trace_guard_azure import guard_app

    guard_app(app, project="support-bot")

A call of a function by the worker comes in, with the trigger's value and the worker's context. The keywords of an
invocation go out: name, deadline, parent, input and metadata. After the call, the status and output of its result go to
the invocation.
"""

from .app import guard_app
from .context import FunctionContext
from .handler import guard_handler
from .records import guard_record, guard_records

__all__ = ["FunctionContext", "guard_app", "guard_handler", "guard_record", "guard_records"]
