"""A stand-in for the HTTP APIs of model providers, on loopback: OpenAI's, Anthropic's and Google's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["ANSWER", "REFUSED", "ModelServer"]

ANSWER = "Hello to you"
REFUSED = "refuse this"
"""A request with this text is answered with 400."""
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
Event = Mapping[str, Any]


class ModelServer:
    """Runs until the process ends.

    Attributes:
        url: where it listens.
        traces: the bodies of OpenTelemetry exports that it has received.
    """

    def __init__(self) -> None:
        self.traces: list[bytes] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Thu, 01 Jan 2026 00:00:00 GMT"  # some libraries log the header, and two runs must be equal

    protocol_version = "HTTP/1.1"
    owner: ModelServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path.endswith("/traces"):
            self.owner.traces.append(body)
            return self._send(b"", "application/x-protobuf")
        asked = json.loads(body)
        if REFUSED in body.decode():
            error = {"error": {"message": "it is refused", "type": "invalid_request_error", "code": 400}}
            return self._send(json.dumps(error).encode(), status=400)
        if not asked.get("stream"):
            return self._send(json.dumps(_answer(path)).encode())
        named = path.endswith(("/messages", "/responses"))
        events = b"".join(
            (f"event: {event['type']}\n" if named else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n"
            for event in _events(path)
        )
        return self._send(events + (b"" if named else b"data: [DONE]\n\n"), "text/event-stream")

    def _send(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no line for each request."""


def _answer(path: str) -> Event:
    if path.endswith("/chat/completions"):
        choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
        return {"id": "chat-1", "object": "chat.completion", "created": 1, "model": "model", "choices": [choice],
                "usage": USAGE}
    if path.endswith("/messages"):
        return {"id": "message-1", "type": "message", "role": "assistant", "model": "model", "stop_reason": "end_turn",
                "stop_sequence": None, "content": [{"type": "text", "text": ANSWER}],
                "usage": {"input_tokens": 3, "output_tokens": 4}}
    if path.endswith("/responses"):
        text = {"type": "output_text", "text": ANSWER, "annotations": []}
        message = {"id": "text-1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        return {"id": "response-1", "object": "response", "created_at": 1, "model": "model", "status": "completed",
                "output": [message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None,
                "usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 4,
                          "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 7}}
    part = {"content": {"role": "model", "parts": [{"text": ANSWER}]}, "finishReason": "STOP", "index": 0}
    return {"candidates": [part], "modelVersion": "model",
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}}


def _events(path: str) -> Iterator[Event]:
    if path.endswith("/messages"):
        yield {"type": "message_start", "message": {**_answer(path), "content": [], "stop_reason": None}}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        for word in _words():
            yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        yield {"type": "content_block_stop", "index": 0}
        yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
        yield {"type": "message_stop"}
    elif path.endswith("/responses"):
        answer = _answer(path)
        yield {"type": "response.created", "sequence_number": 0,
               "response": {**answer, "status": "in_progress", "output": []}}
        for number, word in enumerate(_words(), 1):
            yield {"type": "response.output_text.delta", "sequence_number": number, "item_id": "text-1",
                   "output_index": 0, "content_index": 0, "delta": word, "logprobs": []}
        yield {"type": "response.completed", "sequence_number": 9, "response": answer}
    else:
        for word in _words():
            yield {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "model",
                   "choices": [{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}]}
        yield {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "model", "usage": USAGE,
               "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def _words() -> list[str]:
    first, *others = ANSWER.split()
    return [first, *(f" {word}" for word in others)]
