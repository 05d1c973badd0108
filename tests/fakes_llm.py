"""A server of OpenAI's chat completions that answers from the body of a call, counts every call, and has faults on order."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = str | Callable[["_Handler"], None]


class FakeLLM:
    """`faults`: the number of a call (from 1) → its fault, or None: `error` (500), `busy` (429 with Retry-After), `slow` (silent for
    slow_seconds), `cut` (half an answer), `gone` (none), `broken` (a page, no answer), `rubbish` (an answer that is no row), or what
    to do instead.

    `calls` counts what came and `answered` what went out whole, both by the hash of the body: an answer is what is paid for."""

    def __init__(
        self, faults: Callable[[int], Fault | None] = lambda _: None, *, schemas: bool = True, slow_seconds: float = 0.6
    ) -> None:
        self.faults, self.schemas, self.slow_seconds = faults, schemas, slow_seconds
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.tokens = 0
        self.seconds = 0.0  # that an answer takes
        self.row: Callable[[dict[str, Any]], dict[str, Any]] = row_for
        self.lock = threading.Lock()
        self._port = 0
        self.start()

    def start(self) -> None:
        """On the same port as before, if there was one."""
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> "FakeLLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeLLM
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        body, self.key = json.loads(data), hashlib.sha256(data).hexdigest()
        with self.fake.lock:
            self.fake.calls[self.key] += 1
            self.fake.bodies.append(body)
            self.fake.keys.add(self.headers.get("Authorization"))
            fault = self.fake.faults(self.fake.calls.total())
        assert self.path == "/v1/chat/completions", self.path
        if fault == "gone":
            self.close_connection = True
        elif callable(fault):
            fault(self)
        elif fault in ("error", "busy"):
            self.reply({"error": {"message": "later"}}, 500 if fault == "error" else 429, {"Retry-After": "0.05"})
        elif "response_format" in body and not self.fake.schemas:
            self.reply({"detail": "Unsupported fields in the request: {'response_format'}"}, 422)
        else:
            time.sleep(self.fake.slow_seconds if fault == "slow" else self.fake.seconds)
            self._answer(body, fault)

    def _answer(self, body: dict[str, Any], fault: str | None) -> None:
        text = "I am sorry, {but" if fault == "rubbish" else json.dumps(self.fake.row(body), ensure_ascii=False)
        usage = {"prompt_tokens": 100, "completion_tokens": 20}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        answer = {"object": "chat.completion", "choices": [choice], "usage": usage}
        if fault in ("cut", "slow"):  # whoever waited may be gone
            data = json.dumps(answer).encode()
            try:
                self._head(200, len(data), {})
                self.wfile.write(data[: len(data) // 2])
            except OSError:
                pass
            self.close_connection = True
            return
        if fault == "broken":
            self.reply(b"<html>maintenance</html>")
            return
        with self.fake.lock:
            self.fake.tokens += sum(usage.values())
            self.fake.answered[self.key] += 1
        self.reply(answer)

    def reply(self, answer: dict[str, Any] | bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self._head(status, len(data), headers or {})
            self.wfile.write(data)
        except OSError:  # whoever asked was killed
            self.close_connection = True

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def row_for(body: dict[str, Any]) -> dict[str, Any]:
    """A function of the body: of enums one, small numbers, texts that are all different."""
    word = int.from_bytes(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:8], "big")
    format = body.get("response_format")
    if format is None:  # what a model makes of the prompt of tests: the columns there are
        names = [line[3:].split('"')[0] for line in body["messages"][0]["content"].splitlines() if line.startswith('- "')]
        return {name: f"写 {word}" if name == "said" else word % 5 + 1 for name in names}
    properties = format["json_schema"]["schema"]["properties"]
    return {name: _value(name, what, word) for name, what in properties.items()}


def _value(name: str, what: dict[str, Any], word: int) -> Any:
    if "enum" in what:
        return what["enum"][word % len(what["enum"])]
    kinds = what["type"] if isinstance(what["type"], list) else [what["type"]]
    return word % 5 + 1 if "integer" in kinds else word % 50 / 10 if "number" in kinds else f"{name} 写 {word}"
