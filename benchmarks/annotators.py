"""Annotators as their browsers behave: one connection, compressed answers, one request per verdict.

A bare HTTP client over a socket, for the generator shares the machine with what it measures.
"""

import json
import re
import socket
import time
import zlib
from dataclasses import dataclass, field
from urllib.parse import urlencode

FORM = re.compile(r'hx-post="(/assignments/[^"]+/judgment)"')
HIDDEN = re.compile(r'name="(key|revision)"\s+value="([^"]*)"')
VALUES = re.compile(r"hx-vals:inherited='([^']*)'")
CSRF = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass
class Annotator:
    """Someone signed in who judges one comparison after the other. `latencies` are seconds per verdict."""

    host: str
    port: int
    token: str
    latencies: list[float] = field(default_factory=list)
    panel: str = ""
    csrf: str = ""
    received_bytes: int = 0

    def __post_init__(self) -> None:
        """Connect."""
        self._socket = socket.create_connection((self.host, self.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def open(self, campaign_id: int) -> None:
        """Open the judging page."""
        self.panel = self._ask("GET", f"/campaigns/{campaign_id}/judge")
        self.csrf = CSRF.search(self.panel)[1]  # type: ignore[index]

    @property
    def has_comparison(self) -> bool:
        """Whether there is something to judge."""
        return FORM.search(self.panel) is not None

    def judge(self, ranking: str, **beside: str) -> None:
        """Send a verdict, and `beside` it further fields of the page; the answer holds the next comparison."""
        form = FORM.search(self.panel)
        assert form is not None
        hidden = dict(HIDDEN.findall(self.panel[form.start() : form.start() + 2000]))
        if (values := VALUES.search(self.panel)) is not None:
            hidden |= json.loads(values[1])
        body = urlencode({"csrf_token": self.csrf, **hidden, "active_ms": 4000, "ranking": ranking, **beside})
        begun = time.perf_counter()
        self.panel = self._ask("POST", form[1], body.encode())
        self.latencies.append(time.perf_counter() - begun)

    def _ask(self, method: str, path: str, body: bytes = b"") -> str:
        headers = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept-Encoding: gzip\r\n"
            f"Cookie: palate_session={self.token}\r\nHX-Request: {'true' if body else 'false'}\r\n"
            f"X-CSRF-Token: {self.csrf}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(headers.encode() + body)
        head = self._until(b"\r\n\r\n").decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        content = self._content(head)
        self.received_bytes = len(content)
        if "content-encoding: gzip" in head:
            content = zlib.decompress(content, 31)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {content[:300]!r}")
        return content.decode()

    def _content(self, head: str) -> bytes:
        if (length := re.search(r"content-length: (\d+)", head)) is not None:
            return self._exactly(int(length[1]))
        chunks = []
        while size := int(self._until(b"\r\n"), 16):
            chunks.append(self._exactly(size))
            self._until(b"\r\n")
        self._until(b"\r\n")
        return b"".join(chunks)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _fill(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("the server closed the connection")
        self._buffer += received
