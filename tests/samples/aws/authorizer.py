"""A token authorizer: returns a policy, or raises what API Gateway answers with a 401."""

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    token = event["authorizationToken"]
    if token not in ("allow", "deny"):
        raise Exception("Unauthorized")
    statement = {"Action": "execute-api:Invoke", "Effect": token.title(), "Resource": event["methodArn"]}
    return {
        "principalId": "user", "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"plan": "free"},
    }
