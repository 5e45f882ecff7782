"""The web app on a port of this machine, over rows that are committed: for attacks that take a real browser, or two
web processes.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from app.stack.ports import free_port


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address at which the app answers meanwhile."""
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    started = threading.Event()
    thread = threading.Thread(target=_run, args=(server, started), daemon=True)
    thread.start()
    assert started.wait(20), "the web app did not start"
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def _run(server: uvicorn.Server, started: threading.Event) -> None:
    original = server.startup

    async def startup(*arguments: object, **given: object) -> None:
        await original(*arguments, **given)  # type: ignore[arg-type]
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    server.run()
