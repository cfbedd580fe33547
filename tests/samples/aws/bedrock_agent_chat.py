"""Asks a Bedrock agent and joins the chunks of its answer. The client is a fake one."""

from trace_guard_lambda import guard_handler


class AgentRuntime:
    def invoke_agent(self, *, agentId, sessionId, inputText):
        chunks = [b"Your claim ", b"is ", b"open."] if agentId == "claims" else []
        return {"sessionId": sessionId, "completion": ({"chunk": {"bytes": chunk}} for chunk in chunks)}


client = AgentRuntime()


@guard_handler
def handler(event, context):
    session = event.get("session", "new")
    response = client.invoke_agent(agentId=event["agent"], sessionId=session, inputText=event["question"])
    text = b"".join(part["chunk"]["bytes"] for part in response["completion"]).decode()
    if not text:
        raise LookupError(f"ResourceNotFoundException: no agent {event['agent']}")
    return {"session": response["sessionId"], "answer": text}
