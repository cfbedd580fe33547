"""One function of an Azure app, traced as ``TRACED`` says: not at all, by the SDK alone, or by trace-guard."""

import os

import azure.functions as func

TRACED = os.environ["TRACED"]
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def answer(req):
    return func.HttpResponse(f"42 {len(req.get_body())}")


if TRACED == "no":

    @app.route(route="ask")
    def ask(req: func.HttpRequest) -> func.HttpResponse:
        return answer(req)

elif TRACED == "by the SDK":
    import braintrust

    logger = braintrust.init_logger(project="bench")

    @app.route(route="ask")
    def ask(req: func.HttpRequest) -> func.HttpResponse:
        try:
            with logger.start_span(name="ask", input=req.get_body().decode()) as span:
                response = answer(req)
                span.log(output=response.get_body().decode())
                return response
        finally:
            braintrust.flush()

else:
    from trace_guard_azure import guard_handler

    @app.route(route="ask")
    @guard_handler
    def ask(req: func.HttpRequest) -> func.HttpResponse:
        return answer(req)
