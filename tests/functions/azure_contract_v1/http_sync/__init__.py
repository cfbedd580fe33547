"""A function of the v1 programming model, which function.json describes."""

import json

import azure.functions as func
from contract import user_code

from trace_guard_azure import guard_handler


@guard_handler(name="root")
def main(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(getattr(user_code, req.get_json()["code"])()), mimetype="application/json")
