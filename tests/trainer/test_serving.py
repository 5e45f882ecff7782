"""The model server over HTTP: a real one, in this process on a free port, asked by OpenAI's own client."""

import gc
import hashlib
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from tests.factories.model_server import HELLO, LETTERS, TOKEN, Running, serving, until
from tests.factories.serving import lettered_model, random_model, save
from trainer.chat import completion_text, prompt_token_ids
from trainer.contract.base import Message
from trainer.contract.files import weights_sha256
from trainer.contract.server import LoadedVersion, LoadVersion
from trainer.models import load_model

# --- Completions


def test_versions_and_aliases_are_listed_as_models(running: Running) -> None:
    running.point("letters/current", "left")
    listed = {model.id: model for model in running.openai.models.list()}
    assert set(listed) >= {"left", "right", "free", "plain", "letters/current"}
    described = listed["letters/current"].model_extra["palate"]
    assert described["kind"] == "alias"
    assert described["version"] == "left"
    assert running.openai.models.retrieve("letters/current").id == "letters/current"
    with pytest.raises(openai.NotFoundError):
        running.openai.models.retrieve("nobody")


def test_n_choices_come_back_with_all_that_a_completion_records(running: Running, models: Path) -> None:
    reply = running.openai.chat.completions.create(
        model="free", messages=HELLO, n=4, seed=3, temperature=0.9, top_p=0.95, max_tokens=20
    )
    assert reply.model == "free"
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    _, tokenizer = load_model(models / "free")
    for choice in reply.choices:
        extra = choice.model_extra["palate"]
        ended = extra["stopped_by"] == "end_token"
        assert choice.finish_reason == ("stop" if ended else "length")
        text = completion_text(tokenizer, extra["token_ids"][:-1] if ended else extra["token_ids"])
        assert choice.message.content == text.rstrip("\ufffd")
        assert extra["latency_ms"] > 0
    prompt = prompt_token_ids(tokenizer, [Message(role="user", content="Say something.")])
    assert reply.usage.prompt_tokens == len(prompt)
    assert reply.usage.completion_tokens == sum(len(c.model_extra["palate"]["token_ids"]) for c in reply.choices)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    [state] = [version for version in running.state().versions if version.name == "free"]
    extra = reply.model_extra["palate"]
    assert extra["tokenizer_sha256"] == state.tokenizer_sha256
    assert extra["chat_template_sha256"] == state.chat_template_sha256
    assert extra["sha256"] == weights_sha256(models / "free")
    assert extra["seed"] == 3


def texts(running: Running, **options: Any) -> list[str]:
    """The texts of one reply."""
    wanted = {"model": "left", "messages": HELLO, "max_tokens": 40} | options
    reply = running.openai.chat.completions.create(**wanted)
    return [choice.message.content for choice in reply.choices]


def test_a_seed_reproduces_a_reply_and_a_choice_of_it(running: Running) -> None:
    first = running.openai.chat.completions.create(model="left", messages=HELLO, n=4, seed=42, max_tokens=40)
    words = [choice.message.content for choice in first.choices]
    assert len(set(words)) == 4
    assert texts(running, n=4, seed=42) == words
    assert texts(running, n=4, seed=43) != words
    assert texts(running, seed=first.choices[2].model_extra["palate"]["seed"]) == [words[2]]


def test_a_request_without_a_seed_is_told_the_one_it_got(running: Running) -> None:
    replies = [running.openai.chat.completions.create(model="left", messages=HELLO, max_tokens=40) for _ in range(2)]
    seeds = [reply.model_extra["palate"]["seed"] for reply in replies]
    assert seeds[0] != seeds[1]
    assert texts(running, seed=seeds[0]) == [replies[0].choices[0].message.content]


def test_temperature_zero_gives_the_same_text_whatever_the_seed(running: Running) -> None:
    assert len({*texts(running, temperature=0, seed=1, n=2), *texts(running, temperature=0, seed=2)}) == 1


def test_stop_strings_end_a_text_before_them(running: Running) -> None:
    [free] = texts(running, seed=5)
    assert texts(running, seed=5, stop="da") == [free.partition("da")[0]]
    assert texts(running, seed=5, stop=["zz", free[10:14], free[30:]])[0] == free[: free.index(free[10:14])]


def test_messages_in_parts_and_under_their_newer_role_are_the_same_prompt(running: Running) -> None:
    whole: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
    parts: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]},
    ]
    one, same, other = (
        texts(running, model="free", messages=messages, seed=1, n=4) for messages in (whole, parts, whole[1:])
    )
    assert one == same != other


def test_a_completion_without_a_limit_ends_with_the_context(running: Running) -> None:
    reply = running.openai.chat.completions.create(model="plain", messages=HELLO, seed=0, n=8)
    longest = max(len(choice.model_extra["palate"]["token_ids"]) for choice in reply.choices)
    assert reply.usage.prompt_tokens == len("Say something.")
    assert longest == 64 - len("Say something.")


# --- What is refused


def test_an_unknown_model_is_not_found(running: Running) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        texts(running, model="nobody")
    assert caught.value.code == "model_not_found"
    assert "free" in caught.value.message


@pytest.mark.parametrize(
    ("options", "parameter", "words"),
    [
        ({"max_tokens": 8192}, "messages", "at most 8192 tokens.*the prompt has 17 and 8192 are asked"),
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, "messages", "the prompt has 9003"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "go with stream: true only"),
        ({"extra_body": {"stream_options": {"pace": 1}}}, "stream_options.pace", "not a parameter of this server"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"extra_body": {"top_k": 5}}, "top_k", "not a parameter of this server"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"n": 65}, "n", "at most 64"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "valid string"),
        ({"model": "plain", "messages": [{"role": "user", "content": ""}]}, "messages", "holds no tokens"),
        ({"max_completion_tokens": 5}, "max_tokens", "give one"),
        ({"stop": ""}, "stop", "none of them empty"),
    ],
)
def test_what_cannot_be_served_is_a_bad_request_that_names_the_parameter(
    running: Running, options: dict[str, Any], parameter: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        texts(running, **options)
    assert caught.value.param == parameter
    assert caught.value.type == "invalid_request_error"


def test_neutral_values_of_what_we_lack_are_let_through(running: Running) -> None:
    options = {"stream": False, "presence_penalty": 0, "frequency_penalty": 0.0, "response_format": {"type": "text"}}
    assert texts(running, seed=1, user="someone", logprobs=False, **options) == texts(running, seed=1)


def test_a_body_that_is_no_json_and_an_unknown_path_answer_in_the_same_shape(running: Running) -> None:
    broken = httpx.post(f"{running.address}/v1/chat/completions", content="{", headers={"content-type": "text/json"})
    unknown = httpx.get(f"{running.address}/v1/nothing")
    assert (broken.status_code, unknown.status_code) == (400, 404)
    for answer in (broken, unknown):
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


# --- Administration


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/admin/versions"),
        ("DELETE", "/admin/versions/left"),
        ("PUT", "/admin/aliases"),
        ("DELETE", "/admin/aliases/letters/current"),
        ("POST", "/admin/rewards"),
        ("GET", "/admin/state"),
    ],
)
def test_the_admin_api_is_closed_without_its_token(
    running: Running, headers: dict[str, str], method: str, path: str
) -> None:
    answer = httpx.request(method, f"{running.address}{path}", headers=headers, json={})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_completions_need_the_key_where_one_is_set(models: Path) -> None:
    arguments = ["--allowed-root", str(models), "--threads", "1", "--model", f"left={models / 'left'}"]
    keys = {"PALATE_MODEL_SERVER_TOKEN": TOKEN, "PALATE_MODEL_SERVER_API_KEY": "a key"}
    with serving(arguments, keys) as running:
        assert texts(running)
        with pytest.raises(openai.AuthenticationError):
            texts(Running(running.address, running.server, running.openai.with_options(api_key="no"), running.admin))
        assert httpx.get(f"{running.address}/v1/models").status_code == 401
        assert httpx.get(f"{running.address}/readyz").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{running.address}/v1", api_key="none", max_retries=0).models.list()


def test_loading_the_same_again_changes_nothing_and_other_files_need_another_name(
    running: Running, models: Path
) -> None:
    again = running.load("left", models / "left")
    assert again.status_code == 200
    weights = 4 * load_model(models / "left")[0].num_parameters()
    assert weights <= LoadedVersion.model_validate(again.json()).bytes < weights + 1000
    other = running.load("left", models / "right")
    assert other.status_code == 409
    assert "another name" in other.json()["error"]["message"]


def refusal(answer: httpx.Response, status: int, code: str) -> str:
    """The message of a refusal that has this status and code."""
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    message: str = answer.json()["error"]["message"]
    return message


def test_a_folder_outside_the_roots_is_refused_however_it_is_reached(
    running: Running, models: Path, tmp_path: Path
) -> None:
    outside = save(tmp_path / "outside", random_model())
    linked = models / "linked"
    linked.symlink_to(outside)
    copied = models / "copied"
    shutil.copytree(outside, copied)
    (copied / "model.safetensors").unlink()
    (copied / "model.safetensors").symlink_to(outside / "model.safetensors")
    for folder in (outside, linked, models / ".." / tmp_path.name / "outside", copied):
        assert "outside" in refusal(running.load("sneaky", folder), 403, "path_not_allowed")


def test_a_folder_whose_files_hash_otherwise_is_refused(running: Running, models: Path) -> None:
    wanted = LoadVersion(name="other", path=str(models / "left"), sha256=hashlib.sha256(b"").hexdigest())
    answer = running.admin.post("/admin/versions", json=wanted.model_dump())
    assert "have changed" in refusal(answer, 400, "model_refused")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_pickled_weights(folder: Path) -> None:
    without_weights(folder)
    torch.save({}, folder / "pytorch_model.bin")


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a tensor in sight")


def with_weights_that_are_not_numbers(folder: Path) -> None:
    model, tokenizer = random_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(torch.nan)
    save(folder, (model, tokenizer))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_weights, "no .safetensors file"),
        (with_pickled_weights, "can run code"),
        (without_config, "no config.json"),
        (with_broken_weights, "not a safetensors file"),
        (with_weights_that_are_not_numbers, "damaged"),
        (shutil.rmtree, "no folder"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_in_words(
    running: Running, models: Path, spoil: Callable[[Path], None], words: str
) -> None:
    folder = models / f"spoiled-{spoil.__name__}"
    shutil.copytree(models / "free", folder)
    spoil(folder)
    has_weights = folder.is_dir() and (folder / "model.safetensors").exists()
    sha256 = weights_sha256(folder) if has_weights else "0" * 64
    wanted = LoadVersion(name="spoiled", path=str(folder), sha256=sha256)
    assert words in refusal(running.admin.post("/admin/versions", json=wanted.model_dump()), 400, "model_refused")


def test_a_version_that_does_not_fit_is_refused_in_numbers(running: Running, models: Path) -> None:
    large = random_model()[0].config
    large.hidden_size, large.intermediate_size = 256, 2048
    save(models / "large", (type(random_model()[0])(large), random_model()[1]))
    for name in ("left", "right", "free", "plain"):
        running.point(f"kept/{name}", name)
    message = refusal(running.load("large", models / "large"), 409, "model_memory_exceeded")
    assert "MB" in message
    for name in ("left", "right", "free", "plain"):
        assert running.admin.delete(f"/admin/aliases/kept/{name}").status_code == 204


# --- While requests are under way


def test_aliases_move_under_load_without_an_error_and_each_reply_names_who_wrote_it(running: Running) -> None:
    """Eight clients ask while the alias goes back and forth; who writes was right at some time of the request."""
    running.point("line/current", "left")
    pointed = [(0.0, float("inf"), "left")]
    done = threading.Event()

    def ask(_: int) -> list[tuple[float, float, str, str]]:
        seen = []
        while not done.is_set():
            asked = time.monotonic()
            reply = running.openai.chat.completions.create(
                model="line/current", messages=HELLO, n=2, max_tokens=24, temperature=1.0
            )
            text = "".join(choice.message.content for choice in reply.choices)
            seen.append((asked, time.monotonic(), reply.model, text))
        return seen

    with ThreadPoolExecutor(8) as clients:
        asking = [clients.submit(ask, number) for number in range(8)]
        for version in ["right", "left"] * 12:
            before = time.monotonic()
            assert running.point("line/current", version).status_code == 200
            # Until the answer came, either may have been current.
            pointed[-1] = (pointed[-1][0], time.monotonic(), pointed[-1][2])
            pointed.append((before, float("inf"), version))
            time.sleep(0.08)
        done.set()
        replies = [reply for client in asking for reply in client.result()]

    assert min(len(client.result()) for client in asking) >= 3
    assert {version for _, _, version, _ in replies} == {"left", "right"}
    for asked, answered, version, text in replies:
        assert set(text) <= set(LETTERS[version])
        assert any(start <= answered and end >= asked for start, end, name in pointed if name == version)


def test_an_unloaded_version_finishes_its_requests_and_then_leaves_memory(running: Running, models: Path) -> None:
    save(models / "leaving", lettered_model("wxyz", context=8192, seed=1))
    assert running.load("leaving", models / "leaving").status_code == 200
    version = running.server.registry.find("leaving")
    assert version is not None
    weights = weakref.ref(version.model)
    del version
    with ThreadPoolExecutor(1) as clients:
        asking = clients.submit(texts, running, model="leaving", max_tokens=600, n=2)
        until(lambda: running.under_way("leaving") == 1)
        assert running.admin.delete("/admin/versions/leaving").status_code == 204
        with pytest.raises(openai.NotFoundError):
            texts(running, model="leaving")
        assert not asking.done()
        assert weights() is not None
        assert [len(text) for text in asking.result()] == [600, 600]
    until(lambda: gc.collect() >= 0 and weights() is None)


def test_a_version_under_an_alias_is_not_unloaded(running: Running) -> None:
    running.point("pinned/current", "left")
    answer = running.admin.delete("/admin/versions/left")
    assert "pinned/current points at it" in refusal(answer, 409, "version_in_use")
    assert running.admin.delete("/admin/aliases/pinned/current").status_code == 204
    assert running.admin.delete("/admin/aliases/pinned/current").status_code == 404


def test_a_client_that_leaves_takes_its_request_with_it(running: Running) -> None:
    body = {"model": "left", "messages": HELLO, "max_tokens": 8000, "n": 8}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{running.address}/v1/chat/completions", json=body, timeout=0.3)
    until(lambda: running.under_way("left") == 0, seconds=5)


def test_a_short_request_and_the_health_page_answer_while_a_long_one_runs(running: Running) -> None:
    with ThreadPoolExecutor(1) as clients:
        asking = clients.submit(texts, running, max_tokens=1500, n=4)
        until(lambda: running.under_way("left") == 1)
        assert len(texts(running, model="right", max_tokens=8)[0]) == 8
        assert httpx.get(f"{running.address}/healthz").status_code == 200
        assert httpx.get(f"{running.address}/readyz").status_code == 200
        assert not asking.done()
        assert len(asking.result()) == 4
