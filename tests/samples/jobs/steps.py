"""A job in steps. The first one that fails ends it."""

from fake_model import complete

from trace_guard import guard_job, step


@guard_job
def rebuild_index(source):
    with step("read"):
        documents = source.split(",")
    with step("embed"):
        return [complete(document) for document in documents]
