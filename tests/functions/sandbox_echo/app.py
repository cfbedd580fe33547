"""Returns its event, context and environment."""

import os
import time


def handler(event, context):
    print("echoing")
    return {
        "event": event,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "request_id": context.aws_request_id,
        "function_arn": context.invoked_function_arn,
        "client_context": context.client_context and context.client_context.custom,
        "environment": dict(os.environ),
        "at": time.time(),
        "pid": os.getpid(),
    }
