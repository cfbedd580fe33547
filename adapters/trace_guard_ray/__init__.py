"""trace-guard for Ray: decorators for tasks and actors, whose spans lie below the span that submitted them::

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
"""

from .actor import guard_actor
from .carried import carried
from .environment import runtime_env
from .task import guard_task

__all__ = ["carried", "guard_actor", "guard_task", "runtime_env"]
