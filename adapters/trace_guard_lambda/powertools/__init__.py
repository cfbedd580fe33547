"""trace-guard beside Powertools for AWS Lambda::

    from trace_guard_lambda import guard_handler
    from trace_guard_lambda.powertools import GuardMiddleware, inject_trace_context, tag_replays

    app = APIGatewayHttpResolver()
    app.use([GuardMiddleware()])
    logger = inject_trace_context(Logger())
    config = tag_replays(IdempotencyConfig(event_key_jmespath="body"))

Routes, replayed answers and log records of Powertools come in. Names, errors and metadata on the root span and trace
ids on log lines go out. For the records of a batch, see :func:`trace_guard_lambda.guard_record`.
"""

from importlib.util import find_spec

if find_spec("aws_lambda_powertools") is None:
    raise ImportError(
        "trace_guard_lambda.powertools is for functions that use Powertools for AWS Lambda, which is not installed: "
        'pip install "trace-guard[lambda]"'
    )

from .middleware import GuardMiddleware
from .replays import tag_replays
from .trace_ids import inject_trace_context

__all__ = ["GuardMiddleware", "inject_trace_context", "tag_replays"]
