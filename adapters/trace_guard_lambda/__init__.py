"""trace-guard for AWS Lambda::

    from trace_guard_lambda import guard_handler

    @guard_handler(project="support-bot")
    def handler(event, context): ...

An event and Lambda's context come in. The keywords of an invocation go out: name, deadline, parent, input and metadata.
After the handler, its result goes through the trigger that described the event, which may mark the invocation as
failed. ``reaper_handler`` is the handler of a function that repairs stuck traces on a schedule.
"""

from .context import LambdaContext
from .handler import guard_handler
from .reaper import reaper_handler
from .records import guard_record, guard_records

__all__ = ["LambdaContext", "guard_handler", "guard_record", "guard_records", "reaper_handler"]
