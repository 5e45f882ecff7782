"""A model server in this process on a free port, and the ways in which tests reach it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn

from trainer.contract.files import weights_sha256
from trainer.contract.server import LoadVersion, PointAlias, ServerState
from trainer.serving.model_server import ModelServer, start_model_server
from trainer.serving.server import create_app
from trainer.serving.settings import parse_settings

TOKEN = "an admin token for tests"
HELLO: list[Any] = [{"role": "user", "content": "Say something."}]
LETTERS = {"left": "abcd", "right": "wxyz"}
"""What each of the two versions of the `models` fixture writes, and nothing else."""


@dataclass(frozen=True)
class Running:
    """A server and ways to reach it."""

    address: str
    server: ModelServer
    openai: Any
    """OpenAI's client; untyped, as most fields of its replies are optional."""
    admin: httpx.Client

    def load(self, name: str, folder: Path) -> httpx.Response:
        """Load a folder as it is."""
        wanted = LoadVersion(name=name, path=str(folder), sha256=weights_sha256(folder))
        return self.admin.post("/admin/versions", json=wanted.model_dump())

    def point(self, alias: str, version: str) -> httpx.Response:
        """Point an alias."""
        return self.admin.put("/admin/aliases", json=PointAlias(alias=alias, version=version).model_dump())

    def state(self) -> ServerState:
        """What is loaded."""
        return ServerState.model_validate(self.admin.get("/admin/state").json())

    def under_way(self, name: str) -> int:
        """Requests under way on a version."""
        return next(version.requests_under_way for version in self.state().versions if version.name == name)


class serving:  # noqa: N801 - reads as a verb
    """A server on a free port for as long as the block lasts."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._settings = parse_settings(arguments, environment)

    def __enter__(self) -> Running:
        self._server = start_model_server(self._settings)
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._http = uvicorn.Server(uvicorn.Config(create_app(self._server), log_config=None, access_log=False))
        self._thread = threading.Thread(target=self._http.run, kwargs={"sockets": [listener]})
        self._thread.start()
        key = self._settings.api_key or "none"
        return Running(
            address,
            self._server,
            openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0),
            httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30),
        )

    def __exit__(self, *_: object) -> None:
        self._http.should_exit = True
        self._thread.join()
        self._server.scheduler.stop()


def until(true: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)
