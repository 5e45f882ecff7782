"""The model server as a process, and what it is started with."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.factories.serving import lettered_model, save
from trainer.serving.server import serve
from trainer.serving.settings import SettingsError, is_loopback, parse_settings

ROOT = Path(__file__).parents[2]
SECRETS = {"PALATE_MODEL_SERVER_TOKEN": "t" * 16, "PALATE_MODEL_SERVER_API_KEY": "k" * 16}


def test_the_process_says_where_it_listens_and_its_token_then_serves_until_told_to_stop(tmp_path: Path) -> None:
    save(tmp_path / "left", lettered_model("ab"))
    command = [sys.executable, "-m", "trainer", "serve", "--port", "0", "--threads", "1"]
    command += ["--allowed-root", str(tmp_path), "--model", f"left={tmp_path / 'left'}", "--alias", "line/current=left"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PALATE_")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = re.fullmatch(r"Model server on (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
            token = re.fullmatch(r"Admin token .*: (\S{40,})\n", process.stdout.readline())
            assert address
            assert token
            client: Any = openai.OpenAI(base_url=f"{address[1]}/v1", api_key="none")
            reply = client.chat.completions.create(model="line/current", messages=[{"role": "user", "content": "Hi"}])
            assert reply.model == "left"
            headers = {"Authorization": f"Bearer {token[1]}"}
            assert httpx.get(f"{address[1]}/admin/state", headers=headers).json()["aliases"] == {"line/current": "left"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGTERM)
        finally:
            process.kill()


def arguments(tmp_path: Path, *more: str) -> list[str]:
    """A command line with what is always needed."""
    return ["--allowed-root", str(tmp_path), *more]


@pytest.mark.parametrize("missing", list(SECRETS))
def test_a_server_that_others_can_reach_needs_both_secrets(tmp_path: Path, missing: str) -> None:
    with pytest.raises(SettingsError, match=f"{missing} must hold a secret of at least 16 characters"):
        parse_settings(arguments(tmp_path, "--host", "0.0.0.0"), SECRETS | {missing: "short"})  # noqa: S104
    assert parse_settings(arguments(tmp_path, "--host", "0.0.0.0"), SECRETS).api_key == "k" * 16  # noqa: S104


def test_a_token_is_drawn_where_none_is_set(tmp_path: Path) -> None:
    first, second = (parse_settings(arguments(tmp_path), {}) for _ in range(2))
    assert first.admin_token_was_drawn
    assert first.admin_token != second.admin_token
    assert not parse_settings(arguments(tmp_path), SECRETS).admin_token_was_drawn


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("palate", False)],  # noqa: S104
)
def test_only_addresses_of_this_machine_alone_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_taken_port_and_a_missing_model_end_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve(arguments(tmp_path, "--port", port)) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
    missing = str(tmp_path / "missing")
    assert serve(arguments(tmp_path, "--port", "0", "--threads", "1", "--model", f"left={missing}")) == 1
    assert f"There is no folder at {missing}" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert serve(["--allowed-root", str(tmp_path / "file")]) == 1
    assert "is a file" in capsys.readouterr().err


def test_the_starter_model_answers_and_ends_by_itself() -> None:
    from tests.factories.model_server import serving

    folder = ROOT / "trainer" / "starter" / "model"
    options = ["--allowed-root", str(folder.parent), "--threads", "1", "--model", f"starter-v0={folder}"]
    with serving(options, {}) as running:
        ask = running.openai.chat.completions.create
        question = [{"role": "user", "content": "What is the capital of France?"}]
        drawn = ask(model="starter-v0", messages=question, n=8, seed=1, temperature=0.9, top_p=0.95, max_tokens=96)
        assert {choice.finish_reason for choice in drawn.choices} == {"stop"}
        assert sum("Paris" in choice.message.content for choice in drawn.choices) >= 7
        assert len({choice.message.content for choice in drawn.choices}) >= 3


@pytest.mark.real
def test_the_story_model_writes_a_story_and_stops_at_its_end_token(real_data: Path) -> None:
    from tests.factories.model_server import serving

    folder = real_data / "models" / "tinystories-260k"
    with serving(["--allowed-root", str(real_data), "--threads", "1", "--model", f"stories={folder}"], {}) as running:
        ask = running.openai.chat.completions.create
        start = [{"role": "user", "content": "Once upon a time"}]
        [greedy] = ask(model="stories", messages=start, temperature=0).choices
        # The model's published sample, from llama2.c's documentation, begins like this.
        assert greedy.message.content.startswith(", there was a little girl named Lily. She loved to play outside in")
        assert greedy.finish_reason == "stop"
        assert greedy.model_extra["palate"]["token_ids"][-1] == 1
        assert "<s>" not in greedy.message.content
        drawn = ask(model="stories", messages=start, n=8, seed=1, temperature=0.9, top_p=0.95)
        assert drawn.usage.prompt_tokens == 5
        texts = [choice.message.content for choice in drawn.choices]
        assert len(set(texts)) == 8
        ended = [choice for choice in drawn.choices if choice.finish_reason == "stop"]
        assert len(ended) >= 2
        assert all(choice.model_extra["palate"]["token_ids"][-1] == 1 for choice in ended)
        assert all(" was " in text or " were " in text for text in texts)
