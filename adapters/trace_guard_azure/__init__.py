"""trace-guard for Azure Functions: a decorator for single functions, and one call for all functions of an app::

    import azure.functions as func
    from trace_guard_azure import guard_handler

    app = func.FunctionApp()

    @app.route(route="ask")
    @guard_handler(project="support-bot")
    async def ask(req: func.HttpRequest) -> func.HttpResponse: ...

    from trace_guard_azure import guard_app

    guard_app(app, project="support-bot")
"""

from .app import guard_app
from .context import FunctionContext
from .handler import guard_handler
from .records import guard_record, guard_records

__all__ = ["FunctionContext", "guard_app", "guard_handler", "guard_record", "guard_records"]
