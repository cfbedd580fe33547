"""Events of AWS, as small as the samples need them."""

from __future__ import annotations

import base64
from typing import Any

__all__ = [
    "alb", "custom_resource", "firehose", "http_api", "kinesis", "rest", "s3", "sqs", "token_authorizer", "websocket",
]

REGION = "arn:aws:{}:eu-west-1:210987654321:{}"


def arn(service: str, resource: str) -> str:
    return REGION.format(service, resource)


def rest(method: str, resource: str, body: str | None = None, *, path: str | None = None, **parameters: str) -> Any:
    path = path or resource.format(**parameters)
    return {
        "resource": resource, "path": path, "httpMethod": method, "headers": {"accept": "*/*"},
        "multiValueHeaders": {}, "queryStringParameters": None, "multiValueQueryStringParameters": None,
        "pathParameters": parameters or None, "stageVariables": None, "body": body, "isBase64Encoded": False,
        "requestContext": {"resourcePath": resource, "httpMethod": method, "path": f"/prod{path}", "stage": "prod",
                           "requestId": "r1", "apiId": "a1", "identity": {"sourceIp": "203.0.113.24"}},
    }


def http_api(
    method: str, route: str | None, body: str | None = None, *, path: str | None = None,
    query: dict[str, str] | None = None,
) -> Any:
    """An event of an HTTP API; without a route that of a function URL."""
    path, key = path or route or "/", f"{method} {route}" if route else "$default"
    domain = "a1.execute-api.eu-west-1.amazonaws.com" if route else "u1.lambda-url.eu-west-1.on.aws"
    return {
        "version": "2.0", "routeKey": key, "rawPath": path,
        "rawQueryString": "&".join(f"{name}={value}" for name, value in (query or {}).items()),
        "headers": {"content-type": "application/json"}, "queryStringParameters": query or {},
        "requestContext": {"apiId": "a1", "domainName": domain, "requestId": "r1", "routeKey": key, "stage": "$default",
                           "http": {"method": method, "path": path, "sourceIp": "203.0.113.24"}},
        "body": body, "isBase64Encoded": False,
    }


def websocket(route: str, body: str | None = None) -> Any:
    return {"body": body, "isBase64Encoded": False, "requestContext": {
        "routeKey": route, "eventType": "CONNECT" if route == "$connect" else "MESSAGE", "connectionId": "c1",
        "requestId": "r1", "apiId": "a1", "stage": "live", "domainName": "w1.execute-api.eu-west-1.amazonaws.com",
    }}


def alb(method: str, path: str, query: dict[str, str]) -> Any:
    target = arn("elasticloadbalancing", "targetgroup/web/1")
    return {"requestContext": {"elb": {"targetGroupArn": target}}, "httpMethod": method, "path": path,
            "queryStringParameters": query, "headers": {"host": "shop"}, "body": "", "isBase64Encoded": False}


def sqs(queue: str, *texts: str) -> Any:
    return {"Records": [
        {"messageId": f"m{number}", "receiptHandle": "r", "body": f'{{"text": "{text}"}}', "attributes": {},
         "messageAttributes": {}, "eventSource": "aws:sqs", "eventSourceARN": arn("sqs", queue),
         "awsRegion": "eu-west-1"} for number, text in enumerate(texts)
    ]}


def s3(bucket: str, *keys: str) -> Any:
    return {"Records": [
        {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "awsRegion": "eu-west-1", "eventVersion": "2.1",
         "s3": {"bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}, "object": {"key": key, "size": 3}}}
        for key in keys
    ]}


def kinesis(stream: str, *texts: str) -> Any:
    return {"Records": [
        {"eventSource": "aws:kinesis", "eventName": "aws:kinesis:record", "awsRegion": "eu-west-1",
         "eventID": f"shardId-0:{number}", "eventSourceARN": arn("kinesis", f"stream/{stream}"),
         "kinesis": {"partitionKey": "p", "sequenceNumber": str(number), "data": encoded(text)}}
        for number, text in enumerate(texts)
    ]}


def firehose(stream: str, *texts: str) -> Any:
    return {
        "invocationId": "i1", "deliveryStreamArn": arn("firehose", f"deliverystream/{stream}"), "region": "eu-west-1",
        "records": [{"recordId": str(number), "approximateArrivalTimestamp": 1, "data": encoded(text)}
                    for number, text in enumerate(texts)],
    }


def custom_resource(kind: str, **properties: str) -> Any:
    return {"RequestType": kind, "ResponseURL": "https://cfn.example/key", "RequestId": "r1",
            "StackId": arn("cloudformation", "stack/bot/1"), "LogicalResourceId": "Index",
            "ResourceType": "Custom::Index", "ResourceProperties": properties}


def token_authorizer(token: str) -> Any:
    method = arn("execute-api", "a1/prod/GET/notes/1")
    return {"type": "TOKEN", "authorizationToken": token, "methodArn": method}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
