"""A target of an Application Load Balancer, which wants a status with its reason."""

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    if event["path"] == "/broken":
        return {"statusCode": 503, "statusDescription": "503 Service Unavailable", "isBase64Encoded": False, "body": ""}
    name = event["queryStringParameters"].get("name", "you")
    return {
        "statusCode": 200, "statusDescription": "200 OK", "isBase64Encoded": False,
        "headers": {"content-type": "text/html"}, "body": f"<p>hello {name}</p>",
    }
