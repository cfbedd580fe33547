"""trace-guard for AWS Lambda::

    from trace_guard_lambda import guard_handler

    @guard_handler(project="support-bot")
    def handler(event, context): ...
"""

from .context import LambdaContext
from .handler import guard_handler
from .records import guard_record, guard_records

__all__ = ["LambdaContext", "guard_handler", "guard_record", "guard_records"]
