"""The one connection per web process on which notifications arrive; found again whenever PostgreSQL comes back."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

import psycopg
from psycopg import AsyncConnection

from app.database import libpq_url
from app.live.announcing import CHANNEL
from app.live.hub import Hub

RETRY_SECONDS = 0.5
SOON_SECONDS = 1.5
"""How often what was to be announced soon is announced."""
PROOF_SECONDS = 15.0
"""How often the connection is asked for a sign of life: a server that vanished says no goodbye."""
PATIENCE_SECONDS = 5.0
"""How long an answer may take before the connection is given up."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def listening(hub: Hub, *, database_url: str) -> AsyncIterator[None]:
    """Hear what is announced, until the process stops; its open pages are sent away first, for it waits for them."""
    hub.is_open = True
    listener = asyncio.create_task(_listen_for_ever(hub, libpq_url(database_url)))
    loop = asyncio.get_running_loop()
    with _on_stop(lambda: loop.call_soon_threadsafe(hub.close)):
        try:
            yield
        finally:
            hub.close()
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


async def _listen_for_ever(hub: Hub, address: str) -> None:
    while True:
        try:
            await _listen(hub, address)
        except (psycopg.Error, OSError, TimeoutError) as error:
            level = logging.WARNING if hub.is_listening else logging.DEBUG
            log.log(level, "Nothing is heard of what changes: %s. Trying again.", error)
        finally:
            hub.is_listening = False
        await asyncio.sleep(RETRY_SECONDS)


async def _listen(hub: Hub, address: str) -> None:
    """Hand on what is heard until the connection breaks."""
    connecting = AsyncConnection.connect(address, autocommit=True, connect_timeout=int(PATIENCE_SECONDS))
    async with await connecting as connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        hub.is_listening = True
        hub.tell_everybody()  # whatever happened while nobody listened
        proven_at = time.monotonic()
        while True:
            async for notification in connection.notifies(timeout=SOON_SECONDS):
                hub.tell(notification.payload)
            due = hub.due()
            if due or time.monotonic() - proven_at > PROOF_SECONDS:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await _announce(connection, due)
                proven_at = time.monotonic()


async def _announce(connection: AsyncConnection[Any], topics: set[str]) -> None:
    """Announce to every web process, this one included."""
    await connection.execute("SELECT pg_notify(%s, topic) FROM unnest(%s::text[]) AS topic", [CHANNEL, list(topics)])


@contextmanager
def _on_stop(tell: Any) -> Iterator[None]:
    """Be told when the process is asked to stop, before the server that handles the signal waits for open pages."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        tell()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)
