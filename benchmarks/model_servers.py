"""Model servers as processes: ours and transformers' own, on a free port, with one thread each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from app.stack.ports import free_port

SAMPLING = {"temperature": 0.9, "top_p": 0.95}


class Server:
    """A server's process, its address, and the name of its model."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, model: str) -> None:
        self.pid = process.pid
        self.model = model
        self.http = httpx.Client(base_url=address, timeout=600)

    def ask(self, prompt: list[int], **options: Any) -> int:
        """Ask for completions; how many tokens they have. Streamed, if so wanted."""
        words = " ".join(f"w{token}" for token in prompt)
        messages = [{"role": "user", "content": words}]
        body = {"model": self.model, "messages": messages, **SAMPLING, **options}
        if options.get("stream"):
            with self.http.stream("POST", "/v1/chat/completions", json=body) as reply:
                assert reply.is_success, reply.read()
                return sum(line.startswith("data: {") for line in reply.iter_lines())
        reply = self.http.post("/v1/chat/completions", json=body)
        assert reply.is_success, reply.text
        return int(reply.json()["usage"]["completion_tokens"])


@contextmanager
def palate_server(folder: Path, *, device: str = "cpu") -> Iterator[Server]:
    """The model server."""
    command = ["-m", "trainer", "serve", "--threads", "1", "--device", device, "--allowed-root", str(folder.parent)]
    with _process([*command, "--model", f"bench={folder}"], health="/readyz", model="bench") as server:
        yield server


@contextmanager
def transformers_server(folder: Path, more: list[str], *, device: str = "cpu") -> Iterator[Server]:
    """transformers' own server."""
    number_format = "float32" if device == "cpu" else "bfloat16"
    command = ["-c", "from transformers.cli.transformers import main; main()", "serve", str(folder), *more]
    with _process(
        [*command, "--dtype", number_format, "--device", device], health="/health", model=str(folder)
    ) as server:
        yield server


@contextmanager
def _process(command: list[str], *, health: str, model: str) -> Iterator[Server]:
    port = free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with subprocess.Popen(
        [sys.executable, *command, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            server = Server(process, f"http://127.0.0.1:{port}", model)
            deadline = time.monotonic() + 120
            while not _answers(server, health):
                assert process.poll() is None, f"it ended: {command}"
                assert time.monotonic() < deadline, f"it does not answer: {command}"
                time.sleep(0.2)
            yield server
        finally:
            process.terminate()


def _answers(server: Server, health: str) -> bool:
    try:
        return server.http.get(health).is_success
    except httpx.TransportError:
        return False
