"""Versions with an adapter on the model server: one base in memory, swapped while requests are under way."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.factories.adapters import write_moved
from tests.factories.model_server import HELLO, TOKEN, Running, serving, until
from tests.factories.serving import lettered_model, random_model, save
from tests.factories.snapshots import model_ref
from tests.trainer.test_serving_process import ROOT
from trainer.contract.files import weights_sha256
from trainer.contract.run import ModelRef
from trainer.contract.server import LoadVersion
from trainer.models import load_model


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An allowed root with a base that never ends, two adapters on it, and one on a GPT-2."""
    root = tmp_path_factory.mktemp("line")
    base = model_ref(save(root / "v0", lettered_model("abcdefgh", context=8192)))
    for number in (1, 2):
        write_moved(root / f"v{number}", base, seed=number)
    other = model_ref(save(root / "other-v0", random_model(architecture="gpt2", context=64, template=False)))
    write_moved(root / "other-v1", other)
    return root


@pytest.fixture
def running(line: Path) -> Iterator[Running]:
    """A server that has room for one base, and little more."""
    weights = 4 * load_model(line / "v0")[0].num_parameters()
    arguments = ["--allowed-root", str(line), "--threads", "1", "--max-model-bytes", str(int(1.9 * weights))]
    with serving(arguments, {"PALATE_MODEL_SERVER_TOKEN": TOKEN}) as running:
        yield running


def said(running: Running, model: str, **options: Any) -> str:
    """What a version writes."""
    wanted: dict[str, Any] = {"messages": HELLO, "max_tokens": 40, "seed": 5, **options}
    reply = running.openai.chat.completions.create(model=model, **wanted)
    assert reply.model == model
    return str(reply.choices[0].message.content)


def test_versions_on_one_base_share_its_weights_and_compute_what_they_would_alone(running: Running, line: Path) -> None:
    for name in ("v1", "v0", "v2"):
        answer = running.load(name, line / name)
        assert answer.status_code == 200, answer.text
    loaded = {name: running.server.registry.find(name) for name in ("v0", "v1", "v2")}
    assert len({id(version.weights) for version in loaded.values() if version}) == 1
    token_ids = torch.arange(5, 30)[None]
    for name, version in loaded.items():
        assert version is not None
        with torch.inference_mode():
            version.model.set_attn_implementation("sdpa")
            found = version.model(token_ids).logits
            expected = load_model(line / name)[0](token_ids).logits
        assert torch.equal(found, expected)
        running.admin.delete(f"/admin/versions/{name}")
    assert running.server.registry.find_weights(weights_sha256(line / "v0")) is None


def test_a_version_on_a_loaded_base_is_read_as_fast_as_the_base(running: Running, line: Path) -> None:
    for name in ("other-v0", "other-v1"):
        assert running.load(name, line / name).status_code == 200
    readers = [running.server.registry.find(name).reader for name in ("other-v0", "other-v1")]  # type: ignore[union-attr]
    assert readers[0] is readers[1]
    assert said(running, "other-v0") != said(running, "other-v1")


def test_a_base_that_is_not_there_or_not_allowed_is_told(running: Running, line: Path, tmp_path: Path) -> None:
    base = model_ref(save(line / "gone-v0", random_model(seed=8)))
    write_moved(line / "gone-v1", base)
    shutil.move(line / "gone-v0", tmp_path / "gone-v0")
    answer = running.load("gone-v1", line / "gone-v1")
    assert answer.status_code == 400
    assert "gone-v1 is an adapter on gone-v0. There is no folder at" in answer.json()["error"]["message"]
    outside = ModelRef(name="gone-v0", path=str(tmp_path / "gone-v0"), sha256=base.sha256)
    wanted = LoadVersion(
        name="gone-v1", path=str(line / "gone-v1"), sha256=weights_sha256(line / "gone-v1"), base=outside
    )
    answer = running.admin.post("/admin/versions", json=wanted.model_dump())
    assert "lies outside" in answer.json()["error"]["message"]
    shutil.move(tmp_path / "gone-v0", line / "moved-v0")
    there = outside.model_copy(update={"path": str(line / "moved-v0")})
    wanted = wanted.model_copy(update={"base": there})
    assert running.admin.post("/admin/versions", json=wanted.model_dump()).status_code == 200
    running.admin.delete("/admin/versions/gone-v1")
    save(line / "moved-v0", random_model(seed=9))
    answer = running.admin.post("/admin/versions", json=wanted.model_dump())
    assert "gone-v1 is an adapter on gone-v0. The files of gone-v0" in answer.json()["error"]["message"]


def test_a_damaged_adapter_is_refused_and_its_base_serves_on(running: Running, line: Path) -> None:
    assert running.load("v0", line / "v0").status_code == 200
    assert running.load("v1", line / "v1").status_code == 200
    damaged = line / "damaged"
    shutil.copytree(line / "v1", damaged)
    tensors = load_file(damaged / "adapter_model.safetensors")
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}
    save_file(broken, damaged / "adapter_model.safetensors")
    assert "its weights are damaged" in running.load("damaged", damaged).json()["error"]["message"]
    fewer = dict(list(tensors.items())[:-1])
    save_file(fewer, damaged / "adapter_model.safetensors")
    assert "does not fit its base" in running.load("damaged", damaged).json()["error"]["message"]
    assert said(running, "v0")
    assert running.state().refused.keys() == {"damaged"}


# --- In a process of its own


@contextmanager
def server_process(root: Path, *arguments: str) -> Iterator[Running]:
    """A model server as it is run, with what tests reach it by; the server object of `Running` is not there."""
    command = [sys.executable, "-m", "trainer", "serve", "--port", "0", "--threads", "1", "--allowed-root", str(root)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PALATE_")}
    environment["PALATE_MODEL_SERVER_TOKEN"] = TOKEN
    with subprocess.Popen(
        [*command, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = re.fullmatch(r"Model server on (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
            assert address
            client: Any = openai.OpenAI(base_url=f"{address[1]}/v1", api_key="none", max_retries=0)
            admin = httpx.Client(base_url=address[1], headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
            yield Running(address[1], None, client, admin)  # type: ignore[arg-type]
        finally:
            process.kill()


def streamed(running: Running, begun: threading.Event, seed: int) -> tuple[str, str]:
    """A long completion of the line's current version: who wrote it, and what."""
    text, model = "", ""
    for chunk in running.openai.chat.completions.create(
        model="line/current", messages=HELLO, max_tokens=1500, seed=seed, stream=True
    ):
        model = chunk.model
        if chunk.choices and chunk.choices[0].delta.content:
            text += chunk.choices[0].delta.content
            begun.set()
    return model, text


def test_an_adapter_is_swapped_in_while_requests_finish_on_the_one_that_they_began_with(line: Path) -> None:
    options = ["--model", f"v0={line / 'v0'}", "--model", f"v1={line / 'v1'}", "--alias", "line/current=v1"]
    with server_process(line, *options) as running, ThreadPoolExecutor(3) as clients:
        alone = streamed(running, threading.Event(), 0)
        begun = [threading.Event() for _ in range(3)]
        asking = [clients.submit(streamed, running, begun[seed], seed) for seed in range(3)]
        assert all(event.wait(30) for event in begun)
        assert running.load("v2", line / "v2").status_code == 200
        assert running.point("line/current", "v2").status_code == 200
        after = running.openai.chat.completions.create(model="line/current", messages=HELLO, max_tokens=60, seed=0)
        assert running.under_way("v1") == 3, "the swap waited for none of them"
        assert after.model == "v2"
        assert after.choices[0].message.content != alone[1][:60]
        assert running.admin.delete("/admin/versions/v1").status_code == 204
        results = [one.result() for one in asking]
        assert [model for model, _ in results] == ["v1"] * 3
        assert results[0] == alone
        until(lambda: {version.name for version in running.state().versions} == {"v0", "v2"})
        sizes = {version.name: version.bytes for version in running.state().versions}
        assert sizes["v0"] < sizes["v2"] < 1.5 * sizes["v0"]
