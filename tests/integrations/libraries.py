"""Uses one library with Braintrust's wrapper for it, plain and in a guarded invocation: ``python libraries.py NAME``.

Each function below sets a library up for a model server and returns what asks it: a function of a prompt. Results and
errors of both runs are printed as JSON; each run is a trace.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import braintrust
from model_server import REFUSED, ModelServer

from trace_guard import Guard

Ask = Callable[[str], Any]
KEY = "no key is needed"


def openai(server: ModelServer) -> Ask:
    from openai import OpenAI

    client = braintrust.wrap_openai(OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0))

    def ask(prompt: str) -> Any:
        messages = [{"role": "user", "content": prompt}]
        whole = client.chat.completions.create(model="model", messages=messages).choices[0].message.content
        parts = client.chat.completions.create(model="model", messages=messages, stream=True)
        streamed = [part.choices[0].delta.content for part in parts]
        return [whole, streamed, client.responses.create(model="model", input=prompt).output_text]

    return ask


def anthropic(server: ModelServer) -> Ask:
    from anthropic import Anthropic

    client = braintrust.wrap_anthropic(Anthropic(base_url=server.url, api_key=KEY, max_retries=0))

    def ask(prompt: str) -> Any:
        request = {"model": "model", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}
        with client.messages.stream(**request) as stream:
            streamed = list(stream.text_stream)
        return [client.messages.create(**request).content[0].text, streamed]

    return ask


def langgraph(_: ModelServer) -> Ask:
    from braintrust.integrations.langchain import BraintrustCallbackHandler
    from langchain_core.language_models import FakeListChatModel
    from langgraph.graph import END, START, MessagesState, StateGraph

    model = FakeListChatModel(responses=["Hello to you"])

    def call(state: MessagesState) -> Any:
        if REFUSED in state["messages"][-1].content:
            raise ValueError("it is refused")
        return {"messages": model.invoke(state["messages"])}

    graph = StateGraph(MessagesState)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    graph.add_edge("call", END)
    compiled = graph.compile()

    def ask(prompt: str) -> Any:
        config = {"callbacks": [BraintrustCallbackHandler()]}
        state = compiled.invoke({"messages": [{"role": "user", "content": prompt}]}, config)
        return [message.content for message in state["messages"]]

    return ask


def litellm(server: ModelServer) -> Ask:
    import litellm
    from braintrust.integrations.litellm import patch_litellm

    assert patch_litellm()

    def ask(prompt: str) -> Any:
        request = {"model": "openai/model", "api_base": f"{server.url}/v1", "api_key": KEY, "max_retries": 0,
                   "messages": [{"role": "user", "content": prompt}]}
        streamed = [part.choices[0].delta.content for part in litellm.completion(**request, stream=True)]
        return [litellm.completion(**request).choices[0].message.content, streamed]

    return ask


def dspy(server: ModelServer) -> Ask:
    import dspy
    from braintrust.integrations.dspy import BraintrustDSpyCallback

    lm = dspy.LM("openai/model", api_base=f"{server.url}/v1", api_key=KEY, cache=False, num_retries=0)
    dspy.configure(lm=lm, callbacks=[BraintrustDSpyCallback()])

    class Echo(dspy.Module):
        def forward(self, prompt: str) -> Any:
            return lm(prompt)

    echo = Echo()
    return lambda prompt: echo(prompt=prompt)


def openai_agents(server: ModelServer) -> Ask:
    from agents import Agent, OpenAIResponsesModel, Runner, set_trace_processors
    from braintrust.integrations.openai_agents import BraintrustTracingProcessor
    from openai import AsyncOpenAI

    set_trace_processors([BraintrustTracingProcessor()])

    async def run(prompt: str) -> Any:
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
        agent = Agent("greeter", model=OpenAIResponsesModel("model", client))
        streamed = Runner.run_streamed(agent, prompt)
        events = [event.type async for event in streamed.stream_events()]
        return [streamed.final_output, len(events), (await Runner.run(agent, prompt)).final_output]

    return lambda prompt: asyncio.run(run(prompt))


def google_genai(server: ModelServer) -> Ask:
    from braintrust.integrations.google_genai import GoogleGenAIIntegration

    assert GoogleGenAIIntegration.setup()
    from google import genai

    client = genai.Client(api_key=KEY, http_options={"base_url": server.url})
    return lambda prompt: client.models.generate_content(model="model", contents=prompt).text


def pydantic_ai(server: ModelServer) -> Ask:
    from braintrust.integrations.pydantic_ai import PydanticAIIntegration

    assert PydanticAIIntegration.setup()
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def run(prompt: str) -> Any:
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
        agent = Agent(OpenAIChatModel("model", provider=OpenAIProvider(openai_client=client)))
        async with agent.run_stream(prompt) as stream:
            streamed = [text async for text in stream.stream_text(delta=True, debounce_by=None)]
        return [streamed, (await agent.run(prompt)).output]

    return lambda prompt: asyncio.run(run(prompt))


def opentelemetry(server: ModelServer) -> Ask:
    from braintrust.otel import BraintrustSpanProcessor
    from opentelemetry import trace
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.sdk.trace import TracerProvider

    processor = BraintrustSpanProcessor(api_url=server.url, api_key=KEY)
    provider = TracerProvider()
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    tracer, logger = trace.get_tracer("program"), braintrust.init_logger(project="app")

    def ask(prompt: str) -> Any:
        processor.force_flush()
        server.traces.clear()
        with tracer.start_as_current_span("retrieve") as outer:
            with braintrust.start_span(name="call") as call:
                call.log(input=prompt)
                if REFUSED in prompt:
                    raise ValueError("it is refused")
                with tracer.start_as_current_span("tokenize"):
                    call.log(output="Hello to you")
            same_trace = call.root_span_id == f"{outer.get_span_context().trace_id:032x}"
        assert processor.force_flush()
        # Once the id of the project is known, the guard gives that instead of the name.
        by_id = {f"project_id:{logger.id}": "project_name:app"}
        spans = [
            (span.name, *(
                by_id.get(pair.value.string_value, pair.value.string_value)
                for pair in span.attributes if pair.key == "braintrust.parent"
            ))
            for body in server.traces for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans for span in scope.spans
        ]
        return [same_trace, sorted(spans)]

    return ask


def outcome(ask: Ask, prompt: str) -> Any:
    """The result, or the kind and text of the error."""
    try:
        return ask(prompt)
    except Exception as error:  # noqa: BLE001 - it is what is compared
        return [type(error).__name__, str(error)]


def main(library: str) -> None:
    ask = globals()[library](ModelServer())
    logger = braintrust.init_logger(project="app")
    with logger.start_span(name="handler", type="task"):
        plain = [outcome(ask, prompt) for prompt in ("Hello", REFUSED)]
    braintrust.flush()
    with Guard().invocation("handler") as invocation:
        guarded = [outcome(ask, prompt) for prompt in ("Hello", REFUSED)]
    delivery = invocation.delivery
    assert delivery is not None
    print(json.dumps({"plain": plain, "guarded": guarded, "delivery": delivery.verdict.name}))


if __name__ == "__main__":
    main(sys.argv[1])
