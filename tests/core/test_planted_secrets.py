"""Events of AWS, Google and Azure with a secret planted in each place that can hold one."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import pytest

from trace_guard.payload import REDACTED, Payload

S = "s3cr3tX9"
KEPT = "0rdinary"


def encoded(value: Any) -> str:
    return base64.b64encode((value if isinstance(value, str) else json.dumps(value)).encode()).decode()


def listed(text: str) -> list[int]:
    return [byte - 256 if byte > 127 else byte for byte in text.encode()]


class Login(NamedTuple):
    user: str
    password: str


MULTIPART = (
    '--b42\r\nContent-Disposition: form-data; name="user"\r\n\r\n' + KEPT + "\r\n--b42\r\n"
    'Content-Disposition: form-data; name="newPassword"\r\n\r\n' + S + "\r\n--b42\r\n"
    'Content-Disposition: form-data; name="payload"\r\nContent-Type: application/json\r\n\r\n'
    + json.dumps({"headers": [["Authorization", S]]}) + "\r\n--b42--\r\n"
)
SNS = {
    "Type": "Notification", "MessageId": KEPT, "TopicArn": "arn:aws:sns:eu-west-1:1:t", "SignatureVersion": "1",
    "Message": json.dumps({"order": KEPT, "card": {"accessToken": S}}), "Signature": f"{S}==",
    "SigningCertUrl": f"https://sns.eu-west-1.amazonaws.com/{S}.pem",
    "UnsubscribeUrl": f"https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={S}",
    "MessageAttributes": {"Authorization": {"Type": "String", "Value": S}},
}
EVENTS: dict[str, Any] = {
    "REST API": {
        "resource": "/login", "httpMethod": "POST", "path": f"/login/{KEPT}",
        "headers": {"Authorization": f"Bearer {S}", "Cookie": f"sid={S}", "X-Api-Key": S, "X-CSRF-Token": S},
        "multiValueHeaders": {"Authorization": [f"Bearer {S}"], "Set-Cookie": [f"a={S}", f"b={S}"]},
        "queryStringParameters": {"access_token": S, "q": KEPT}, "multiValueQueryStringParameters": {"id_token": [S]},
        "requestContext": {"identity": {"apiKey": S, "accessKey": S, "apiKeyId": KEPT}, "stage": "p"},
        "body": json.dumps({"clientSecret": S, "refreshToken": S, "max_tokens": 7, "user": {"pass%77ord": S}}),
        "isBase64Encoded": False,
    },
    "HTTP API": {
        "version": "2.0", "rawPath": "/", "rawQueryString": f"q={KEPT}&user%5Bpassword%5D={S}&X-Amz-Signature={S}",
        "cookies": [f"session={S}"], "headers": {"x-amz-security-token": S, "x-amzn-oidc-accesstoken": S},
        "body": encoded(f"grant_type=password&user={KEPT}&password={S}&payload=" + quote(json.dumps({"api_key": S}))),
        "isBase64Encoded": True,
    },
    "form with JSON": {"body": "n=1&payload=" + quote(json.dumps({"name": "password", "value": S})), "k": KEPT},
    "multipart form": {"body": MULTIPART},
    "multipart form in base64": {"body": encoded(MULTIPART), "isBase64Encoded": True},
    "duplicate keys": {"body": f'{{"a": {{"password": "{S}"}}, "a": {{"secret": 1}}, "k": "{KEPT}"}}'},
    "JSON in JSON in JSON": {"body": json.dumps({"k": KEPT, "a": json.dumps({"b": json.dumps({"idToken": S})})})},
    "escaped key": {"body": '{"pass\\u0077ord": "' + S + '", "k": "' + KEPT + '"}'},
    "large JSON": {"k": KEPT, "body": json.dumps({"a": [["Cookie", S]], "b": {"name": "x-api-key", "value": S},
                                                  "c": "x" * 300_000, "password": S})},
    "value before a name that is cut": {
        "k": KEPT, "body": '{"a": 1, "b": {"value": "' + S + '", "c": "' + "x" * 300_000 + '", "name": "password"}}',
    },
    "JSON that ends early": {"k": KEPT, "body": f'{{"a": {{"value": "{S}", "name": "password"}}, "b": "c'},
    "JSON and more": {"k": KEPT, "body": f'{{"a": [["Cookie", "{S}"]]}} and {{"password": "{S}"}}'},
    "broken JSON": {"k": KEPT, "body": f'{{"a": [["Cookie", "{S}"], {{"name": "token", "value": "{S}"}}, }}'},
    "deep JSON": {"k": KEPT, "body": "[" * 2000 + f'{{"name": "token", "value": "{S}"}}' + "]" * 2000},
    "large base64": {"k": KEPT, "Records": [{"data": encoded({"value": S, "name": "token", "x": "x" * 200_000})}]},
    "token authorizer": {"type": "TOKEN", "methodArn": KEPT, "authorizationToken": f"Bearer {S}"},
    "request authorizer": {"type": "REQUEST", "routeArn": KEPT, "identitySource": [f"Bearer {S}"]},
    "ALB": {"requestContext": {"elb": {}}, "path": KEPT, "headers": {"cookie": S, "proxy-authorization": S}},
    "Lambda@Edge": {"Records": [{"cf": {"request": {
        "uri": KEPT, "headers": {"x": [{"key": "Authorization", "value": f"Basic {S}"}]},
        "body": {"encoding": "base64", "data": encoded({"password": S})},
    }}}]},
    "SQS": {"Records": [{"messageId": KEPT, "body": json.dumps({"apiKey": S}),
                         "messageAttributes": {"sessionToken": {"stringValue": S, "dataType": "String"}}}]},
    "SNS": {"Records": [{"EventSource": "aws:sns", "Sns": SNS}]},
    "SNS in SQS": {"Records": [{"body": json.dumps(SNS)}]},
    "SNS over HTTP": {**SNS, "UnsubscribeURL": S, "SigningCertURL": S, "SubscribeURL": f"https://h/?Token={S}"},
    "Kinesis": {"Records": [{"kinesis": {"partitionKey": KEPT, "data": encoded({"user": {"accessToken": S}})}}]},
    "Kinesis, compressed": {"k": KEPT, "Records": [{"kinesis": {
        "data": base64.b64encode(gzip.compress(json.dumps({"events": [f"token={S}"]}).encode())).decode(),
    }}]},
    "Firehose": {"k": KEPT, "records": [{"recordId": "1", "data": encoded(f"password={S}&n=1")}]},
    "Kafka": {"eventSource": "aws:kafka", "records": {"t-0": [{
        "topic": KEPT, "value": encoded({"headers": [["Authorization", S]]}), "key": encoded({"secret": S, "n": 1}),
        "headers": [{"Authorization": listed(S)}, {"traceparent": listed("00-1-1-01")}],
    }]}},
    "ActiveMQ": {"k": KEPT, "messages": [{"data": encoded({"connection": {"passwd": S}})}]},
    "DynamoDB": {"Records": [{"dynamodb": {"NewImage": {
        "id": {"S": KEPT}, "password": {"S": S},
        "m": {"M": {"name": {"S": "Authorization"}, "value": {"S": S}}},
    }}}]},
    "S3 Object Lambda": {
        "getObjectContext": {"outputRoute": KEPT, "outputToken": S,
                             "inputS3Url": f"https://b/k?X-Amz-Security-Token={S}&X-Amz-Signature={S}&X-Amz-Date=1"},
        "userRequest": {"headers": {"Authorization": S}, "url": f"https://b/?sig={S}"},
    },
    "CodePipeline": {"CodePipeline.job": {"id": KEPT, "data": {
        "artifactCredentials": {"accessKeyId": f"ASIA{S}", "secretAccessKey": S, "sessionToken": S},
        "continuationToken": KEPT,
    }}},
    "CloudFormation": {
        "RequestType": "Create", "ResponseURL": f"https://b/k?AWSAccessKeyId={S}&Expires=1&Signature={S}",
        "ResourceProperties": {"Name": KEPT, "MasterUserPassword": S},
        "Parameters": [{"ParameterKey": "DBPassword", "ParameterValue": S}],
    },
    "Cognito": {
        "triggerSource": "VerifyAuthChallengeResponse_Authentication", "userName": KEPT,
        "request": {"privateChallengeParameters": {"answer": S}, "challengeAnswer": S, "password": S,
                    "clientMetadata": {"device": KEPT}},
    },
    "Secrets Manager": {"SecretId": KEPT, "ClientRequestToken": S, "Step": "createSecret"},
    "Secrets Manager, a value": {"ARN": KEPT, "SecretString": json.dumps({"user": "u", "pw": S})},
    "Connect": {"Details": {"ContactData": {"ContactId": KEPT, "Attributes": {"pinToken": S}},
                            "Parameters": {"customerPassword": S}}},
    "AppSync": {"info": {"fieldName": KEPT}, "authorizationToken": S,
                "request": {"headers": {"x-api-key": S, "authorization": f"eyJhbGciOi.eyJzdWIi.{S}"}}},
    "Step Functions": {"Payload": {"token": S, "MyTaskToken": S}, "n": KEPT},
    "ECS in EventBridge": {"id": KEPT, "detail": {"overrides": {"containerOverrides": [{
        "command": ["job", "--api-key", S], "environment": [{"name": "OPENAI_API_KEY", "value": S}],
    }]}}},
    "Alexa": {"session": {"user": {"userId": KEPT, "accessToken": S}}, "context": {"System": {"apiAccessToken": S}}},
    "agent host": {"prompt": KEPT, "headers": {
        "workloadaccesstoken": S, "X-Amz-Bedrock-AgentCore-Identity-WAT": S, "x-agent-foundry-call-id": S,
    }},
    "Bedrock agent": {"apiPath": KEPT, "parameters": [{"name": "api_key", "type": "string", "value": S}]},
    "Pub/Sub": {"subscription": KEPT, "message": {"data": encoded({"idToken": S}), "attributes": {"auth_token": S}}},
    "Google signed URL": {"k": KEPT, "mediaLink": f"https://storage/b/o?X-Goog-Signature={S}&X-Goog-Credential={S}"},
    "Google API key": {"k": KEPT, "url": f"https://maps/?key=AIzaSyA1234567890abcdefghij{S}"},
    "Identity Platform": {"uid": KEPT, "credential": {"oauth_access_token": S, "oauth_refresh_token": S}},
    "Azure HTTP": {"path": KEPT, "query": {"sig": S},
                   "headers": {"X-Functions-Key": S, "X-ZUMO-AUTH": S, "aeg-sas-key": S}},
    "Azure storage": {"name": KEPT, "uri": f"https://a.blob.core.windows.net/c?sv=1&sig={S}%3D&se=2"},
    "Azure connection": {"k": KEPT, "text": f"Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey={S}=;E=e"},
    "Azure Kafka": {"Topic": KEPT, "Headers": [{"Key": "Authorization", "Value": encoded(S)}],
                    "Value": json.dumps({"clientSecret": S})},
    "bearer token as a value": {"k": KEPT, "args": [f"Bearer {S}", f"eyJhbGciOi.eyJzdWIi.{S}"]},
    "URL with a password": {"k": KEPT, "database": f"postgres://me:{S}@host/db"},
    "log line": {"k": KEPT, "line": f'Received event: {{"headers": [["Authorization", "{S}"]], "n": 1}} from'},
    "lines of JSON": {"k": KEPT, "lines": f'{{"n": 1}}\n{{"name": "token", "value": "{S}"}}\n'},
    "ASGI headers": {"k": KEPT, "headers": [(b"authorization", S), (b"cookie", S.encode())], b"x-api-key": S},
    "named tuple": [Login(KEPT, S)],
    "exception": {"k": KEPT, "error": ValueError(f"login failed: password={S}, accessToken: {S}")},
    "long key": {"k": KEPT, "a_" * 1000 + "password": S},
    "XML": {"body": f"<s:Envelope><wsse:Password Type='x'>{S}</wsse:Password><q>{KEPT}</q></s:Envelope>"},
    "XML with CDATA": {"body": f"<?xml version='1.0'?>\n<a><password><![CDATA[{S}]]></password><q>{KEPT}</q></a>"},
    "bytes": {"k": KEPT, "body": S.encode()},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_no_planted_secret_is_captured(event: Any) -> None:
    """The secret is nowhere in what is captured, not even in base64, and what is no secret is there."""
    captured = json.dumps(Payload().copy(event))
    assert S not in captured
    assert encoded(S)[:8] not in captured
    assert KEPT in captured
    assert REDACTED in captured or "bytes" in captured


def test_the_same_secrets_in_base64() -> None:
    """A secret is found in base64 wherever it is in clear text, and in base64 of base64."""
    for name, event in EVENTS.items():
        if name in ("large JSON", "large base64", "value before a name that is cut", "deep JSON"):
            continue  # larger than what is copied
        if name in ("ASGI headers", "named tuple", "bytes"):
            continue  # no JSON
        text = json.dumps(event, default=repr)
        if S in text:
            for data in (encoded(text), encoded(encoded(text))):
                captured = Payload(max_bytes=1 << 20).copy({"data": data})
                assert data not in captured.values(), name
                assert S not in json.dumps(captured), name


def test_ordinary_fields_survive() -> None:
    """What only resembles a secret is captured unchanged, in objects, in JSON and in text."""
    event = {
        "model": "gpt-4", "max_tokens": 100, "token_count": 3, "tokenizer": "cl100k", "monkey": "see", "author": "Ann",
        "secretary": "Bob", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "messages": [
            {"role": "user", "content": "What is a token? A token: the smallest unit. And why is the sky blue?"[:17]},
            {"role": "assistant", "content": "It's a unit of text; see https://a.example/b?c=d&page=2. Note: 50% off."},
            {"role": "tool", "name": "get_weather", "content": '{"n": 1, "max_tokens": 5}'},
        ],
        "keys": ["a", "b"], "key": "k", "nextToken": "n", "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "vector": [0.1, 2, None, True], "base64": base64.b64encode(b"plain text, nothing else in it").decode(),
        "pairs": [["a", "b"]], "name": "x", "value": "y", "path": "/a/b/c.txt", "when": "2024-01-01T00:00:00Z",
    }
    assert Payload().copy(event) == event
    text = json.dumps(event)
    assert Payload().copy({"body": text}) == {"body": text}


KEYS = ("password", "accessToken", "Authorization", "x-api-key", "user[password]", "SESSION_TOKEN", "cookie")
WRAPPINGS: tuple[Callable[[Any], Any], ...] = (
    lambda value: {"n": [1, "a=b&c=d", {}], "x": value},
    lambda value: ["x: y", value, None],
    lambda value: json.dumps({"n": "it's", "x": value}),
    lambda value: json.dumps([True, value], indent=2),
    lambda value: "n=1&payload=" + quote(value if isinstance(value, str) else json.dumps(value)) + "&z=2",
    lambda value: "n=1&payload=" + quote_plus(encoded(value)),
    lambda value: "Received: " + json.dumps({"x": value}) + " done",
    encoded,
)


@pytest.mark.parametrize("seed", range(30))
def test_a_secret_is_found_through_layers(seed: int) -> None:
    """A secret is found through any layers of objects, lists, JSON, forms, base64 and words, in any order."""
    chance = random.Random(seed)
    for _ in range(10):
        key, value = chance.choice(KEYS), chance.choice([S, f"Bearer {S}", f"a b {S}", f"{S}==", f'{S}"q', {"v": S}])
        text = value if isinstance(value, str) else S
        pairs, named = [[key, text], ["a", "b"]], {"name": key, "value": text}
        event = chance.choice([{key: value, "a": "b"}, pairs, named, {"value": text, "key": key}])
        for wrap in chance.choices(WRAPPINGS, k=chance.randrange(5)):
            event = wrap(event)
        payload = Payload()
        payload.seconds = 10  # whatever else the machine does
        captured = payload.copy(event)
        assert S not in json.dumps(captured), event
        assert encoded(S)[1:8] not in json.dumps(captured), event
        assert payload.copy(captured) == captured
