"""Streamed replies of a real model server, read by OpenAI's own client, sync and async."""

import asyncio
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from tests.factories.model_server import HELLO, LETTERS, TOKEN, Running, serving, until
from tests.factories.serving import random_model, save
from trainer.contract.files import weights_sha256

Chunks = list[Any]


def streamed(running: Running, **options: Any) -> Chunks:
    """All chunks of one reply."""
    wanted = {"model": "left", "messages": HELLO, "max_tokens": 40} | options
    return list(running.openai.chat.completions.create(stream=True, **wanted))


def texts(chunks: Iterable[Any]) -> dict[int, str]:
    """What the chunks of each choice add up to."""
    grown: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            grown[choice.index] = grown.get(choice.index, "") + (choice.delta.content or "")
    return grown


def whole(running: Running, **options: Any) -> Any:
    """The same reply in one piece."""
    wanted = {"model": "left", "messages": HELLO, "max_tokens": 40} | options
    return running.openai.chat.completions.create(**wanted)


def test_a_stream_adds_up_to_the_reply_in_one_piece(running: Running, models: Path) -> None:
    options: dict[str, Any] = {"model": "free", "n": 3, "seed": 6, "temperature": 0.9, "top_p": 0.95}
    chunks, reply = streamed(running, **options), whole(running, **options)
    assert texts(chunks) == {choice.index: choice.message.content for choice in reply.choices}
    assert {chunk.model for chunk in chunks} == {"free"}
    assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].object == "chat.completion.chunk"
    assert all(chunk.usage is None for chunk in chunks)
    for index, choice in enumerate(reply.choices):
        own = [chunk for chunk in chunks if chunk.choices[0].index == index]
        assert own[0].choices[0].delta.role == "assistant"
        assert own[0].model_extra["palate"]["seed"] == 6
        assert own[0].model_extra["palate"]["sha256"] == weights_sha256(models / "free")
        assert [chunk.choices[0].finish_reason for chunk in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].choices[0].finish_reason == choice.finish_reason
        about, expected = (one.model_extra["palate"] for one in (own[-1].choices[0], choice))
        assert {**about, "latency_ms": 0} == {**expected, "latency_ms": 0}


def test_choices_of_a_stream_grow_side_by_side(running: Running) -> None:
    indices = [chunk.choices[0].index for chunk in streamed(running, n=3, max_tokens=400)]
    turns = [index for index, _ in itertools.groupby(indices)]
    assert set(turns) == {0, 1, 2}
    assert len(turns) > 20


def test_the_first_words_come_long_before_the_last(running: Running) -> None:
    begun = time.monotonic()
    arrivals = []
    stream = running.openai.chat.completions.create(model="left", messages=HELLO, max_tokens=1500, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            arrivals.append(time.monotonic() - begun)
    assert len(arrivals) > 30
    assert arrivals[0] < arrivals[-1] / 4


def test_usage_comes_last_where_it_is_asked_for(running: Running) -> None:
    chunks = streamed(running, n=2, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 80
    assert chunks[-1].usage.total_tokens == 80 + chunks[-1].usage.prompt_tokens
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])


def test_a_stream_ends_in_the_words_of_the_api(running: Running) -> None:
    body = {"model": "left", "messages": HELLO, "max_tokens": 3, "stream": True}
    with httpx.stream("POST", f"{running.address}/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"]
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["object"] for line in lines[:-1])


def test_a_stop_string_is_never_shown_in_part(running: Running) -> None:
    free = whole(running, seed=5, max_tokens=60).choices[0].message.content
    stop = free[20:26]
    chunks = streamed(running, seed=5, max_tokens=60, stop=[stop, "zzz"])
    assert texts(chunks)[0] == free[: free.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].choices[0].model_extra["palate"]["stopped_by"] == "stop_string"


def test_what_cannot_be_streamed_is_refused_before_the_stream_begins(running: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="the prompt has 9003"):
        streamed(running, messages=[{"role": "user", "content": "x" * 9000}])
    with pytest.raises(openai.NotFoundError):
        streamed(running, model="nobody")


def test_the_async_client_reads_many_streams_at_once(running: Running) -> None:
    """Different prompts, settings, seeds, lengths and stop strings in one batch; each as when it is alone."""
    wanted: list[dict[str, Any]] = [
        {
            "model": "left",
            "messages": [{"role": "user", "content": "word " * (1 + 40 * number)}],
            "seed": number,
            "n": 1 + number % 3,
            "max_tokens": 30 + 10 * number,
            "temperature": number % 3 / 2,
            "top_p": 1 - number / 20,
            "stop": "abcd" if number % 2 else None,
        }
        for number in range(8)
    ]

    async def read(client: openai.AsyncOpenAI, options: dict[str, Any]) -> dict[int, str]:
        stream: Any = await client.chat.completions.create(stream=True, **options)
        return texts([chunk async for chunk in stream])

    async def read_all() -> list[dict[int, str]]:
        async with openai.AsyncOpenAI(base_url=f"{running.address}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(read(client, options) for options in wanted))

    for options, found in zip(wanted, asyncio.run(read_all()), strict=True):
        alone = running.openai.chat.completions.create(**options)
        assert found == {choice.index: choice.message.content for choice in alone.choices}


def test_a_reader_that_leaves_a_stream_takes_its_request_with_it(running: Running) -> None:
    stream = running.openai.chat.completions.create(model="left", messages=HELLO, max_tokens=8000, n=8, stream=True)
    next(stream)
    assert running.under_way("left") == 1
    stream.close()
    until(lambda: running.under_way("left") == 0, seconds=5)


def test_values_that_are_no_numbers_end_a_stream_in_an_error(models: Path) -> None:
    model, tokenizer = random_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer("Z", add_special_tokens=False)["input_ids"]] = torch.nan
    folder = save(models / "broken", (model, tokenizer))
    arguments = ["--allowed-root", str(models), "--threads", "1", "--model", f"broken={folder}"]
    with serving(arguments, {"PALATE_MODEL_SERVER_TOKEN": TOKEN}) as running:
        with pytest.raises(openai.APIError, match="not numbers"):
            streamed(running, model="broken", messages=[{"role": "user", "content": "Z"}])
        assert texts(streamed(running, model="broken", seed=1, max_tokens=3))


# --- Limits


def test_more_than_may_wait_are_told_when_to_come_back(models: Path) -> None:
    arguments = ["--allowed-root", str(models), "--threads", "1", "--model", f"left={models / 'left'}"]
    arguments += ["--max-choices", "1", "--max-waiting", "2"]
    with serving(arguments, {"PALATE_MODEL_SERVER_TOKEN": TOKEN}) as running:
        ask = running.openai.chat.completions.create
        streams = [ask(model="left", messages=HELLO, max_tokens=8000, stream=True)]
        assert next(texts_of(streams[0]))
        streams += [ask(model="left", messages=HELLO, max_tokens=8000, stream=True) for _ in range(2)]
        with pytest.raises(openai.RateLimitError) as caught:
            ask(model="left", messages=HELLO)
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.response.headers["retry-after"] == "1"
        assert "2 requests are waiting already" in caught.value.message
        # One that leaves the queue makes room in it.
        streams.pop().close()
        until(lambda: running.under_way("left") == 2, seconds=5)
        streams.append(ask(model="left", messages=HELLO, max_tokens=8000, stream=True))
        for stream in streams:
            stream.close()
        until(lambda: running.under_way("left") == 0, seconds=5)


def texts_of(stream: Any) -> Iterable[str]:
    """The texts of a stream as they come."""
    return (chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content)


def test_a_server_says_what_it_takes_in_numbers(models: Path) -> None:
    arguments = ["--allowed-root", str(models), "--threads", "1", "--model", f"left={models / 'left'}"]
    arguments += ["--max-tokens", "50", "--max-prompt-tokens", "100", "--max-body-bytes", "2000"]
    with serving(arguments, {"PALATE_MODEL_SERVER_TOKEN": TOKEN}) as running:
        ask = running.openai.chat.completions.create
        assert ask(model="left", messages=HELLO).usage.completion_tokens == 50
        with pytest.raises(openai.BadRequestError, match="max_tokens may be at most 50"):
            ask(model="left", messages=HELLO, max_tokens=51)
        with pytest.raises(openai.BadRequestError, match="at most 100 tokens; this one has 203") as long:
            ask(model="left", messages=[{"role": "user", "content": "x" * 200}])
        assert long.value.code == "context_length_exceeded"
        with pytest.raises(openai.APIStatusError, match="at most 2,000 bytes") as large:
            ask(model="left", messages=[{"role": "user", "content": "x" * 2000}])
        assert large.value.status_code == 413
        chunked = httpx.post(f"{running.address}/v1/chat/completions", content=(b" " * 900 for _ in range(5)))
        assert chunked.status_code == 413
        assert set(chunked.json()["error"]) == {"message", "type", "param", "code"}


# --- While aliases move


def test_eight_streams_across_twenty_moves_of_an_alias_are_each_written_by_whom_they_name(running: Running) -> None:
    running.point("line/streamed", "left")
    done = threading.Event()

    def read(_: int) -> list[tuple[set[str], str, str | None]]:
        seen = []
        while not done.is_set():
            chunks = streamed(running, model="line/streamed", n=2, max_tokens=60, stop="dddd")
            ends = {chunk.choices[0].finish_reason for chunk in chunks}
            assert ends <= {None, "stop", "length"}
            seen.append(({chunk.model for chunk in chunks}, "".join(texts(chunks).values()), chunks[0].model))
        return seen

    with ThreadPoolExecutor(8) as clients:
        reading = [clients.submit(read, number) for number in range(8)]
        took = []
        for version in ["right", "left"] * 10:
            time.sleep(0.15)
            begun = time.monotonic()
            assert running.point("line/streamed", version).status_code == 200
            took.append(time.monotonic() - begun)
        done.set()
        replies = [reply for client in reading for reply in client.result()]

    assert min(len(client.result()) for client in reading) >= 3
    assert {version for _, _, version in replies} == {"left", "right"}
    for named, text, version in replies:
        assert named == {version}
        assert set(text) <= set(LETTERS[str(version)])
    # Rolling back is a move like any other; one move may wait for a machine that other tests fill.
    assert statistics.median(took) < 0.5


def test_a_rollback_is_seen_by_the_next_request_within_a_second_while_others_stream(running: Running) -> None:
    # The quickest of three: a machine that other tests fill holds up some.
    assert min(_seconds_to_roll_back(running) for _ in range(3)) < 1


def _seconds_to_roll_back(running: Running) -> float:
    """From the press to the first words of the version before, while eight streams of the other one go on."""
    running.point("line/rolled", "right")
    with ThreadPoolExecutor(8) as clients:
        reading = [clients.submit(streamed, running, model="line/rolled", max_tokens=600) for _ in range(8)]
        until(lambda: running.under_way("right") == 8)
        begun = time.monotonic()
        running.point("line/rolled", "left")
        first = next(iter(running.openai.chat.completions.create(
            model="line/rolled", messages=HELLO, max_tokens=5, stream=True
        )))  # fmt: skip
        took = time.monotonic() - begun
        assert first.model == "left"
        assert {chunk.model for client in reading for chunk in client.result()} == {"right"}
    return took
