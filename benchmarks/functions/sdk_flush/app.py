"""The work traced with the SDK alone, flushed in ``finally`` as its documentation advises."""

import braintrust

logger = braintrust.init_logger(project="bench")


def handler(event, context):
    try:
        with logger.start_span(name="handler", input=event) as span:
            with span.start_span(name="tool"):
                pass
            span.log(output={"answer": 42})
            return {"answer": 42}
    finally:
        logger.flush()
