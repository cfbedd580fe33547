"""trace-guard for Ray: decorators for tasks and actors, whose spans are children of the span that submitted them::

    import ray
    from trace_guard_ray import carried, guard_actor, guard_task

    @ray.remote
    @guard_task
    def score(prompt): ...

    @ray.remote
    @guard_actor
    class Model:
        def answer(self, prompt): ...

    dataset.map_batches(carried(score_batch))

A task's arguments come in, with the submitter's span as a hidden keyword. The keywords of an invocation go out: name,
parent, input and metadata. The submitting process also closes and delivers what dead workers and lost nodes left open.
"""

from .actor import guard_actor
from .carried import carried
from .environment import runtime_env
from .task import guard_task

__all__ = ["carried", "guard_actor", "guard_task", "runtime_env"]
