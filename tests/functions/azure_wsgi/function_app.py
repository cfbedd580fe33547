"""A WSGI application, which is a single function for the host."""

import azure.functions as func

from trace_guard_azure import guard_app


def web(environ, start_response):
    if environ["PATH_INFO"].endswith("/fails"):
        raise LookupError("no such order")
    status = "503 Service Unavailable" if environ["PATH_INFO"].endswith("/unavailable") else "201 Created"
    start_response(status, [("content-type", "text/plain")])
    return [b"order 7"]


app = func.WsgiFunctionApp(web, http_auth_level=func.AuthLevel.ANONYMOUS)
guard_app(app)
