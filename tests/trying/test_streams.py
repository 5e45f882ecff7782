"""The OpenAI API's streams, however their bytes are cut up on the way; and a reader who leaves is noticed."""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.access import CSRF_HEADER, SESSION_COOKIE, csrf_token
from app.accounts.models import Role
from app.accounts.service.sign_ins import start_sign_in
from app.clock import utc_now
from app.database import make_engine, make_session_factory
from app.main import create_app
from app.settings import Settings
from app.stack.ports import free_port
from app.trying.streams import objects_in, text_of
from tests.factories.accounts import make_user
from tests.factories.deployments import make_endpoint
from tests.factories.foreign import foreign_server, streamed


async def read(pieces: list[bytes]) -> list[dict[str, Any]]:
    """The objects in a stream that arrives in these pieces."""

    async def arriving() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [each async for each in objects_in(arriving())]


@given(
    texts=st.lists(st.text(min_size=1)),
    cuts=st.lists(st.integers(0, 400)),
    newline=st.sampled_from([b"\n", b"\r\n"]),
)
def test_a_stream_says_the_same_wherever_it_is_cut(texts: list[str], cuts: list[int], newline: bytes) -> None:
    chunks = [json.dumps({"choices": [{"delta": {"content": each}}]}).encode() for each in texts]
    whole = b"".join(b"data: " + chunk + newline * 2 for chunk in [*chunks, b"[DONE]"]) + b"data: {}" + newline
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    pieces = [whole[one:two] for one, two in itertools.pairwise(places)]
    assert [text_of(each) for each in asyncio.run(read(pieces))] == texts


@pytest.mark.race
def test_a_reader_who_leaves_hangs_up_on_the_model_and_meanwhile_no_connection_is_held(
    fresh_database: str, settings: Settings
) -> None:
    engine = make_engine(fresh_database, pool_size=1)
    factory = make_session_factory(engine)
    with foreign_server() as foreign:
        settings = settings.model_copy(update={"endpoint_origins": [foreign.origin]})
        foreign.reply = lambda _body: streamed(*["word "] * 400, pause_seconds=0.05)
        with factory.begin() as session:
            version_id = make_endpoint(session, base_url=foreign.base_url).version_id
            user = make_user(session, Role.ADMIN)
            token = start_sign_in(session, user=user, user_agent="", lasts=timedelta(days=1), now=utc_now())
        with Served(create_app(settings, session_factory=factory)) as address:
            headers = {CSRF_HEADER: csrf_token(settings, token), "Cookie": f"{SESSION_COOKIE}={token}"}
            url, data = f"{address}/try/{version_id}/reply", {"prompt": "Go on and on."}
            with httpx.stream("POST", url, data=data, headers=headers, timeout=20) as response:
                heard = next(response.iter_text())
                assert "word" in heard, "it does not come all at once"
                assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
                assert not foreign.left.is_set()
            assert foreign.left.wait(5)
    engine.dispose()


class Served:
    """An app on a port of its own, as people reach it."""

    def __init__(self, app: FastAPI) -> None:
        self.port = free_port()
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
