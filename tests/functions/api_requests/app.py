"""Makes requests to Lambda's API, some during the init and some in the handler, and writes the answers to a file.

A request is a list of method, path, headers and body. In these, ID stands for the invocation's request id and
EXTENSION for the identifier of the extension that has registered last.
"""

import http.client
import json
import os

known = {"EXTENSION": ""}


def filled(text):
    for name, value in known.items():
        text = text.replace(name, value)
    return text


def ask(method, path, headers, body):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=5)
    headers = {name: filled(value) for name, value in headers.items()}
    connection.request(method, filled(path), filled(body), headers)
    answer = connection.getresponse()
    told, content = answer.read().decode(), answer.getheader("Content-Type")
    connection.close()
    known["EXTENSION"] = answer.getheader("Lambda-Extension-Identifier") or known["EXTENSION"]
    told = told.replace(known["EXTENSION"] or "EXTENSION", "EXTENSION")
    # Not as the handler's result, because the requests may post a result themselves.
    with open(os.path.join(os.environ["TMPDIR"], "answers"), "a") as answers:
        answers.write(json.dumps([answer.status, content, told]) + "\n")


for request in json.loads(os.environ.get("AT_INIT", "[]")):
    ask(*request)


def handler(event, context):
    known["ID"] = context.aws_request_id
    for request in event:
        ask(*request)
