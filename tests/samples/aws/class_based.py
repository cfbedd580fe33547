"""A class-based handler: each request is dispatched to a method of its name."""

from fake_model import complete

from trace_guard_lambda import guard_handler


class Handler:
    def __init__(self, model):
        self.model = model

    def dispatch(self, action, **arguments):
        method = getattr(self, f"on_{action}", None)
        if method is None:
            raise ValueError(f"unknown action: {action}")
        return method(**arguments)

    @guard_handler
    def __call__(self, event, context):
        return {"result": self.dispatch(**event)}

    def on_summarize(self, text):
        return self.model(text)


handler = Handler(complete)
