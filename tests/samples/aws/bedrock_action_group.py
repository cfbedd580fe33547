"""The actions of a Bedrock agent, declared by function details."""

from trace_guard_lambda import guard_handler

CLAIMS = {"81524": "open", "81525": "paid"}


@guard_handler
def handler(event, context):
    parameters = {each["name"]: each["value"] for each in event.get("parameters", [])}
    response = {}
    if event["function"] == "claimStatus":
        body = CLAIMS.get(parameters["claim"], "unknown")
        response["responseBody"] = {"TEXT": {"body": body}}
    else:
        response["responseState"] = "FAILURE"
        response["responseBody"] = {"TEXT": {"body": f"no function {event['function']}"}}
    return {
        "messageVersion": event["messageVersion"],
        "response": {
            "actionGroup": event["actionGroup"], "function": event["function"], "functionResponse": response,
        },
    }
