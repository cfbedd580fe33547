"""trace-guard for Cloud Functions and Cloud Run: a decorator for functions of the Functions Framework, and middleware
for WSGI and ASGI applications::

    import functions_framework
    from trace_guard_gcf import guard_handler

    @functions_framework.http
    @guard_handler(project="support-bot")
    def main(request): ...

    from trace_guard_gcf import GuardMiddleware

    app.wsgi_app = GuardMiddleware(app.wsgi_app, project="support-bot")

A request or an event comes in. The keywords of an invocation go out: name, deadline, parent, input and metadata. The
status, output and error of the response follow when it is complete.
"""

from .asgi import AsyncGuardMiddleware
from .handler import guard_handler
from .middleware import GuardMiddleware
from .propagation import propagate

__all__ = ["AsyncGuardMiddleware", "GuardMiddleware", "guard_handler", "propagate"]
