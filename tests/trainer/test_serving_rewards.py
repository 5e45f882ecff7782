"""Rewards from the model server: those of the model, on the token of admins, within the memory."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.factories.model_server import TOKEN, Running, serving
from tests.factories.serving import random_model, save
from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.contract.files import weights_sha256
from trainer.models import stored_parameters
from trainer.reward.model import load_reward_model, write_reward_model

PROMPT = [{"role": "user", "content": "Say something."}]


def write_judge(root: Path, name: str, *, seed: int) -> Path:
    """The folder of a random reward model."""
    start = save(root / f"{name}-start", random_model(seed=seed))
    model, tokenizer = load_reward_model(start)
    torch.nn.init.normal_(model.get_submodule("score").weight, generator=torch.Generator().manual_seed(seed))
    write_reward_model(model, tokenizer, root / name, start=start, dtype=torch.float32)
    shutil.rmtree(start)
    return root / name


@pytest.fixture(scope="module")
def judges(models: Path) -> dict[str, Path]:
    """Two reward models in the allowed folder."""
    return {name: write_judge(models, name, seed=seed) for name, seed in (("judge", 1), ("other", 2))}


def asked(running: Running, folder: Path, *texts: str, **changed: Any) -> httpx.Response:
    """What the server answers about texts."""
    model = {"name": folder.name, "path": str(folder), "sha256": weights_sha256(folder), **changed}
    return running.admin.post("/admin/rewards", json={"reward_model": model, "prompt": PROMPT, "texts": list(texts)})


def expected(folder: Path, *texts: str) -> list[float]:
    """What the model itself says, one text at a time."""
    model, tokenizer = load_reward_model(folder)
    prompt = prompt_token_ids(tokenizer, [Message(role="user", content="Say something.")])
    rows = [torch.tensor([[*prompt, *completion_token_ids(tokenizer, text)]]) for text in texts]
    with torch.no_grad():
        return [float(model(input_ids=row).logits) for row in rows]


def test_rewards_are_those_of_the_model_asked_also_when_another_takes_its_place(
    running: Running, judges: dict[str, Path]
) -> None:
    texts = ("Yes!", "No, never.", "Yes!", "x" * 500)
    for name in ("judge", "other", "judge"):
        answer = asked(running, judges[name], *texts)
        assert answer.status_code == 200, answer.text
        *found, too_long = answer.json()["rewards"]
        assert too_long is None
        assert found == pytest.approx(expected(judges[name], *texts[:3]), rel=1e-5, abs=1e-5)
        assert found[0] == found[2] != found[1]
    assert {version.name for version in running.state().versions}.isdisjoint(judges)


def test_rewards_are_given_to_the_admin_alone(running: Running, judges: dict[str, Path]) -> None:
    body = {
        "reward_model": {"name": "judge", "path": str(judges["judge"]), "sha256": "0" * 64},
        "prompt": PROMPT,
        "texts": ["x"],
    }
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert httpx.post(f"{running.address}/admin/rewards", json=body, headers=headers).status_code == 401


def test_what_cannot_give_rewards_is_refused_in_words(
    running: Running, judges: dict[str, Path], models: Path, tmp_path: Path
) -> None:
    judge = judges["judge"]
    changed = asked(running, judge, "x", sha256="0" * 64)
    assert (changed.status_code, "have changed" in changed.text) == (400, True)
    writer = asked(running, models / "free", "x")
    assert (writer.status_code, "holds no reward model" in writer.text) == (400, True)
    outside = write_judge(tmp_path, "outside", seed=3)
    assert asked(running, outside, "x").status_code == 403
    assert asked(running, judge).status_code == 400, "no texts"
    assert asked(running, judge, *["x"] * 65).status_code == 400
    assert asked(running, judge, "x").status_code == 200, "a refusal does no harm to what comes after"


def test_a_reward_model_is_not_loaded_to_write(running: Running, judges: dict[str, Path]) -> None:
    answer = running.load("judge", judges["judge"])
    assert answer.status_code == 400
    assert "writes no text" in answer.json()["error"]["message"]


def test_a_reward_model_counts_among_what_takes_memory(models: Path, judges: dict[str, Path]) -> None:
    needed = 4 * stored_parameters(judges["judge"])
    environment = {"PALATE_MODEL_SERVER_TOKEN": TOKEN}
    arguments = ["--allowed-root", str(models), "--threads", "1", "--max-model-bytes"]
    with serving([*arguments, str(needed - 1)], environment) as too_small:
        refused = asked(too_small, judges["judge"], "x")
        assert refused.status_code == 409
        assert "needs" in refused.json()["error"]["message"]
    with serving([*arguments, str(needed + 10_000)], environment) as small:
        assert asked(small, judges["judge"], "x").status_code == 200
        assert asked(small, judges["other"], "x").status_code == 200, "one takes the other's place"
        beside = small.load("free", models / "free")
        assert beside.status_code == 409
        assert "a reward model" in beside.json()["error"]["message"]
        assert asked(small, judges["judge"], "x", sha256="0" * 64).status_code == 400
        assert small.server.registry.set_aside_bytes == 0, "what was let go for one that was refused is free again"
