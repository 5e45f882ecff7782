"""Somebody else's server, on a port of its own: answers what a test has laid out, and keeps what it was asked."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One answer. `pieces` are sent one after the other, `pause_seconds` apart."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] | None = None
    pause_seconds: float = 0.0

    def content(self) -> list[bytes]:
        """The body as it goes over the wire."""
        if self.pieces is not None:
            return self.pieces
        return [self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()]


Reply = Callable[[dict[str, Any]], Answer]


@dataclass
class Foreign:
    """The server: where it is, how it answers, and what it was asked."""

    port: int = 0
    reply: Reply = lambda _body: Answer(500, {})
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    """Set once a reader went before it had heard everything."""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def origin(self) -> str:
        """What the settings list."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What stands before /chat/completions."""
        return f"{self.origin}/v1"

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One more request under way."""
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1


def completion(*texts: str, **given: Any) -> Answer:
    """An answer with these completions."""
    choices = [
        {"index": place, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for place, text in enumerate(texts)
    ]
    return Answer(body={"model": "theirs-1", "choices": choices, **given})


def streamed(*texts: str, pause_seconds: float = 0.0, ends: bool = True) -> Answer:
    """An answer in chunks, as the OpenAI API streams."""
    chunks = [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}]
    chunks += [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    pieces = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    if ends:
        pieces.append(b"data: [DONE]\n\n")
    return Answer(headers={"Content-Type": "text/event-stream"}, pieces=pieces, pause_seconds=pause_seconds)


def refusal(status: int, message: str, **given: Any) -> Answer:
    """An error as the OpenAI API writes it."""
    return Answer(status, {"error": {"message": message, "type": "invalid_request_error", **given}})


@contextmanager
def foreign_server() -> Iterator[Foreign]:
    """A server that a test lays answers out for."""
    foreign = Foreign()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            foreign.asked.append(body)
            foreign.headers.append({name.lower(): value for name, value in self.headers.items()})
            with foreign.counted():
                self._answer(foreign.reply(body))

        def _answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in answer.content():
                    self.wfile.write(piece)
                    self.wfile.flush()
                    time.sleep(answer.pause_seconds)
            except OSError:
                foreign.left.set()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        foreign.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield foreign
        server.shutdown()
        thread.join()
