"""Code with its findings: a comment ``# TG001`` at the end of a line says what is found there, and nowhere else."""

from __future__ import annotations

HEAD = "import braintrust\nfrom braintrust import init_logger, start_span\nlogger = init_logger(project='p')\n"

SPANS = {
    "never ended": """
        def f():
            span = start_span("a")  # TG001
            span.log(output=1)
    """,
    "ended, but not after an exception": """
        def f():
            span = start_span("a")  # TG001
            work()
            span.end()
    """,
    "closed, but not after an exception": """
        async def f():
            span = logger.start_span(name="a")  # TG001
            await work()
            span.close()
    """,
    "an alias of the module": """
        import braintrust as bt
        def f():
            span = bt.start_span("a")  # TG001
            work()
            span.end()
    """,
    "an alias of the function": """
        from braintrust import start_span as s
        def f():
            span = s("a")  # TG001
    """,
    "the module below": """
        from braintrust.logger import start_span as begin
        def f():
            span = begin("a")  # TG001
    """,
    "a logger that is made in place": """
        def f():
            span = init_logger(project="p").start_span(name="a")  # TG001
    """,
    "a logger in self": """
        class A:
            def __init__(self):
                self.log = braintrust.init_logger("p")
            def f(self):
                span = self.log.start_span()  # TG001
    """,
    "a logger from a function": """
        def get():
            return braintrust.init_logger("p")
        def f():
            log = get()
            span = log.start_span()  # TG001
    """,
    "a logger that is made late": """
        _client = None
        def setup():
            global _client
            _client = braintrust.init_logger("p")
        def f():
            span = _client.start_span()  # TG001
    """,
    "a span of an experiment": """
        def f():
            e = braintrust.init(project="p", experiment="e")
            span = e.start_span(name="a")  # TG001
    """,
    "a child": """
        def f():
            with start_span("a") as root:
                child = root.start_span("b")  # TG001
    """,
    "a child of an argument": """
        def f(parent: braintrust.Span):
            child = parent.start_span("b")  # TG001
    """,
    "a child of the current span": """
        def f():
            child = braintrust.current_span().start_span("b")  # TG001
    """,
    "a child of hooks": """
        def task(input, hooks):
            child = hooks.span.start_span("b")  # TG001
            return input
    """,
    "at the top level": """
        span = start_span("a")  # TG001
        work()
        span.end()
    """,
    "nothing holds it": """
        def f():
            start_span("a")  # TG001
            start_span("a").log(output=1)  # TG001
            start_span("a").end()
    """,
    "by hand entered, not left": """
        def f():
            span = start_span("a").__enter__()  # TG001
            work()
    """,
    "a return": """
        def f(x):
            span = start_span("a")  # TG002
            if not x:
                return None
            span.end()
    """,
    "a raise": """
        def f(x):
            span = start_span("a")  # TG002
            if not x:
                raise ValueError(x)
            span.end()
    """,
    "a continue": """
        def f(xs):
            for x in xs:
                span = start_span("a")  # TG002
                if not x:
                    continue
                span.end()
    """,
    "a break": """
        def f(xs):
            while True:
                span = start_span("a")  # TG002
                if xs.done:
                    break
                span.end()
    """,
    "a caught exception": """
        def f():
            span = start_span("a")  # TG002
            try:
                work()
                span.end()
            except Exception:
                report()
    """,
    "a return in a handler": """
        def f():
            span = start_span("a")  # TG002
            try:
                work()
            except ValueError:
                return None
            span.end()
    """,
    "ended under a condition": """
        def f(x):
            span = start_span("a")  # TG002
            if x:
                span.end()
    """,
    "ended in one case": """
        def f(x):
            span = start_span("a")  # TG002
            match x:
                case 1:
                    span.end()
                case 2:
                    pass
    """,
    "suppressed": """
        import contextlib
        def f():
            span = start_span("a")  # TG002
            with contextlib.suppress(ValueError):
                work()
                span.end()
    """,
    "the name is given away": """
        def f():
            span = start_span("a")  # TG002
            work()
            span = start_span("b")  # TG001
            work()
            span.end()
    """,
    "a context manager that forgets exceptions": """
        from contextlib import contextmanager
        @contextmanager
        def f():
            span = start_span("a")  # TG001
            yield span
            span.end()
    """,
    "given to a function that only reads it": """
        def name(span):
            return span.id
        def f():
            span = start_span("a")  # TG001
            print(name(span))
    """,
    "a parent is not handed on": """
        def f():
            span = start_span("a")  # TG001
            work(parent=span)
    """,
    "a name of a variable from elsewhere": """
        from .tracing import bt_logger
        def f():
            span = bt_logger.start_span("a")  # TG001
    """,
    "on several lines": """
        def f():
            span = start_span(  # TG001
                name="a",
            )
            work()
            span.end()
    """,
    "a walrus": """
        def f():
            if (span := start_span("a")):
                work()
            other = 1 if (root := start_span("b")) else 2  # TG001
    """,
}

FINE = {
    "by hand entered and left": """
        def f():
            span = start_span("a").__enter__()
            try:
                work()
            finally:
                span.__exit__(None, None, None)
    """,
    "with": """
        def f():
            with start_span("a") as span, logger.start_span("b"):
                span.log(output=1)
    """,
    "with, later": """
        def f():
            span = start_span("a")
            span.log(input=1)
            with span:
                work()
    """,
    "with, or nothing": """
        def f(on):
            span = start_span("a") if on else None
            with span or nullcontext():
                work()
            with (start_span("a") if on else nullcontext()) as span:
                work()
    """,
    "finally": """
        def f():
            span = start_span("a")
            begin = time.time()
            try:
                return work()
            finally:
                span.end()
    """,
    "finally, if there is one": """
        def f(on):
            span = None
            if on:
                span = start_span("a")
            try:
                return work()
            finally:
                if span is not None:
                    span.end()
    """,
    "finally, if it is not ended": """
        def f():
            span, ended = None, False
            span = start_span("a")
            try:
                span.end()
                ended = True
                return work()
            finally:
                if not ended:
                    span.end()
    """,
    "at once": """
        def f():
            span = start_span("a")
            span.end()
    """,
    "on both ways": """
        def f():
            span = start_span("a")
            try:
                result = work()
            except Exception as error:
                span.log(error=error)
                span.end()
                raise
            span.log(output=result)
            span.end()
            return result
    """,
    "on both ways, with a clock before": """
        def f():
            span = start_span("a")
            begin = now()
            try:
                result = work(begin)
                span.end()
                return result
            except Exception:
                span.end()
                return None
    """,
    "ended in a handler, after a call": """
        def f():
            span = start_span("a")
            try:
                work()
            except Exception:
                report()
                span.end()
                raise
            span.end()
    """,
    "try, else": """
        def f():
            span = start_span("a")
            try:
                result = work()
            except Exception:
                span.end()
                raise
            else:
                span.end()
            return result
    """,
    "a failed start": """
        def f():
            try:
                span = start_span("a")
            except Exception:
                span = None
            try:
                return work()
            finally:
                if span:
                    span.end()
    """,
    "the same condition": """
        def f(on):
            if on:
                span = start_span("a")
            if on:
                span.end()
    """,
    "returned": """
        def f():
            return start_span("a")
        def g():
            span = start_span("a")
            span.log(input=1)
            return span
        def h():
            span = start_span("a")
            work()
            return {"span": span}, 1
    """,
    "stored after calls": """
        def f(spans):
            span = start_span("a")
            work()
            spans["a"] = span
    """,
    "yielded": """
        def f():
            span = start_span("a")
            yield span
    """,
    "a context manager": """
        from contextlib import contextmanager
        @contextmanager
        def f():
            span = start_span("a")
            try:
                yield span
            finally:
                span.end()
    """,
    "stored": """
        class A:
            def start(self, key):
                self.span = start_span("a")
                self.spans[key] = start_span("a")
                span = start_span("a")
                self.last = span
                other = start_span("b")
                self.spans.append(other)
                third = start_span("c")
                self.spans[key] = (third, 1)
    """,
    "global": """
        def f():
            global span
            span = start_span("a")
    """,
    "handed to a function": """
        def f():
            span = start_span("a")
            run(span)
        def g(stack):
            span = start_span("a")
            stack.enter_context(span)
            other = start_span("b")
            stack.callback(other.end)
        def h():
            span = start_span("a")
            atexit.register(span.end)
    """,
    "ended by a function of the module": """
        def finish(span, error=None):
            span.end()
        def f():
            span = start_span("a")
            try:
                work()
            except Exception as error:
                finish(span, error)
                raise
            finish(span)
    """,
    "ended by a closure": """
        def f():
            span = start_span("a")
            def done(task):
                span.end()
            task.add_done_callback(done)
            other = start_span("b")
            task.add_done_callback(lambda _: other.end())
    """,
    "another library": """
        from opentelemetry import trace
        tracer = trace.get_tracer("t")
        def f():
            span = tracer.start_span("a")
            work()
            span.end()
    """,
    "a method of one's own": """
        class Tracer:
            def start_span(self, name):
                return start_span(name)
            def f(self):
                span = self.start_span("a")
    """,
    "silenced": """
        def f():
            a = start_span("a")  # trace-guard: ignore
            b = start_span("b")  # trace-guard: ignore[TG001] ended by its server
            c = start_span("c")  # noqa: TG001
            d = start_span(
                "d",
            )  # trace-guard: ignore[TG002, tg001]
    """,
}
"""Code without findings."""

PROCESS = {
    "a handler that never flushes": """
        def handler(event, context):  # TG003
            with start_span("a") as span:
                return work(event)
    """,
    "a handler that flushes if all goes well": """
        def lambda_handler(event, context):  # TG003
            with start_span("a") as span:
                result = work(event)
            logger.flush()
            return result
    """,
    "a handler with an early return": """
        def lambda_handler(event, _context):  # TG003
            with start_span("a") as span:
                if not event:
                    return None
            braintrust.flush()
    """,
    "an async handler": """
        @braintrust.traced
        async def ask(event):
            return 1
        async def handler(event, context):  # TG003
            return await ask(event)
    """,
    "a handler with decorators that do not flush": """
        from aws_lambda_powertools import Logger
        log = Logger()
        @log.inject_lambda_context
        def handler(event, context):  # TG003
            with start_span("a"):
                return 1
    """,
    "a handler whose own span ends after the flush": """
        @braintrust.traced
        def handler(event, context):  # TG003
            try:
                return work(event)
            finally:
                braintrust.flush()
    """,
    "a Cloud Function": """
        import functions_framework
        @functions_framework.http
        def ask(request):  # TG003
            with start_span("a"):
                return "ok"
    """,
    "an Azure Function": """
        import azure.functions as func
        app = func.FunctionApp()
        @app.route(route="ask")
        def ask(req: func.HttpRequest) -> func.HttpResponse:  # TG003
            with start_span("a"):
                return func.HttpResponse("ok")
    """,
    "an Azure Function of the first model": """
        import azure.functions as func
        def main(req: func.HttpRequest) -> func.HttpResponse:  # TG003
            with start_span("a"):
                return func.HttpResponse("ok")
    """,
    "async_flush=False": """
        log = braintrust.init_logger(project="p", async_flush=False)  # TG004
        def f():
            with log.start_span("a"):
                work()
    """,
    "a span at import of functions-framework": """
        import functions_framework
        with start_span("warm up"):  # TG005
            work()
        @functions_framework.cloud_event
        def f(event):  # TG003
            pass
    """,
    "a traced function at import of a Celery app": """
        from celery import Celery
        app = Celery("tasks")
        @braintrust.traced
        def load():
            return 1
        MODEL = load()  # TG005
    """,
    "a row at import under uWSGI": """
        import uwsgi
        logger.log(input="started")  # TG005
    """,
    "os._exit behind spans": """
        import os
        def main():
            with start_span("a"):
                work()
            os._exit(0)  # TG006
    """,
    "os._exit behind a function with spans": """
        from os import _exit
        def work():
            with start_span("a"):
                pass
        if __name__ == "__main__":
            work()
            _exit(1)  # TG006
    """,
    "os._exit in a signal handler": """
        import os, signal
        def stop(number, frame):
            os._exit(1)  # TG006
        signal.signal(signal.SIGTERM, stop)
        def f():
            with start_span("a"):
                work()
    """,
    "a span that its thread is to end": """
        import threading
        def work(span):
            span.log(output=1)
            span.end()
        def f():
            span = start_span("a")
            threading.Thread(target=work, args=(span,)).start()  # TG007
    """,
    "a closure in a thread": """
        from threading import Thread
        def f():
            span = start_span("a")
            def work():
                span.end()
            thread = Thread(target=work, daemon=True)  # TG007
            thread.start()
    """,
    "an executor that nobody waits for": """
        def finish(span):
            try:
                work()
            finally:
                span.end()
        def f(pool):
            span = start_span("a")
            pool.submit(finish, span)  # TG007
    """,
}

PROCESS_FINE = {
    "a handler that flushes in finally": """
        def handler(event, context):
            try:
                with start_span("a"):
                    return work(event)
            finally:
                logger.flush()
    """,
    "a handler that flushes on both ways": """
        def handler(event, context):
            try:
                with start_span("a"):
                    result = work(event)
            except Exception:
                braintrust.flush()
                raise
            braintrust.flush()
            return result
    """,
    "a handler that flushes by a function": """
        def done():
            braintrust.flush()
        def handler(event, context):
            try:
                with start_span("a"):
                    return work(event)
            finally:
                done()
    """,
    "a handler that returns before any span": """
        def handler(event, context):
            if not event:
                return None
            body = json.loads(event["body"])
            try:
                with start_span("a"):
                    return work(body)
            finally:
                braintrust.flush()
    """,
    "a guarded handler": """
        from trace_guard_lambda import guard_handler
        @guard_handler
        def handler(event, context):
            with start_span("a"):
                return work(event)
    """,
    "a handler that is guarded later": """
        import trace_guard_lambda as tg
        def handler(event, context):
            with start_span("a"):
                return work(event)
        handler = tg.guard_handler(project="p")(handler)
    """,
    "a handler in a guarded invocation": """
        from trace_guard import Guard
        guard = Guard(project="p")
        def handler(event, context):
            with guard.invocation("ask"), start_span("a"):
                return work(event)
    """,
    "a handler with an unknown decorator": """
        from .tracing import observed
        @observed
        def handler(event, context):
            with start_span("a"):
                return work(event)
    """,
    "a handler without spans": """
        def handler(event, context):
            return work(event)
    """,
    "no handler": """
        def on_change(event, context):
            with start_span("a"):
                return work(event)
    """,
    "async_flush=False for rows": """
        log = braintrust.init_logger(project="p", async_flush=False)
        log.log(input=1, output=2)
    """,
    "async_flush=False with a flush": """
        log = braintrust.init_logger(project="p", async_flush=False)
        def f():
            try:
                with log.start_span("a"):
                    work()
            finally:
                log.flush()
    """,
    "a span at import of a script": """
        from celery import Celery
        app = Celery("tasks")
        if __name__ == "__main__":
            with start_span("a"):
                work()
    """,
    "a span at import without a server": """
        with start_span("a"):
            work()
    """,
    "os._exit behind a flush": """
        import os
        def main():
            with start_span("a"):
                work()
            braintrust.flush()
            os._exit(0)
    """,
    "os._exit of a child": """
        import os
        def main():
            with start_span("a"):
                work()
            if os.fork() == 0:
                os._exit(0)
    """,
    "a thread that is waited for": """
        import threading
        def work(span):
            span.end()
        def f():
            span = start_span("a")
            thread = threading.Thread(target=work, args=(span,))
            thread.start()
            thread.join()
    """,
    "an executor that is waited for": """
        from concurrent.futures import ThreadPoolExecutor
        def work(span):
            span.end()
        def f():
            span = start_span("a")
            with ThreadPoolExecutor() as pool:
                pool.submit(work, span)
    """,
    "a thread that is handed on": """
        import threading
        def work(span):
            span.end()
        def f():
            span = start_span("a")
            thread = threading.Thread(target=work, args=(span,))
            thread.start()
            return thread
    """,
}
"""Code without findings."""
