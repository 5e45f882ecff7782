"""Pretraining the starter model: a few steps of a smaller one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.contract.files import weights_sha256
from trainer.starter.corpus import examples
from trainer.starter.pretrain import Recipe, batches, learning_rate, pretrain
from trainer.starter.tokenizer import train_tokenizer

SMALL = Recipe(
    steps=24, batch_size=16, warmup_steps=4, hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=64
)


def train_small(out: Path) -> list[float]:
    losses: list[float] = []
    pretrain(SMALL, out, on_step=lambda _step, loss, _rate: losses.append(loss))
    return losses


def test_a_few_steps_lower_the_loss_and_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    losses = train_small(tmp_path / "one")
    assert losses == train_small(tmp_path / "other")
    assert weights_sha256(tmp_path / "one") == weights_sha256(tmp_path / "other")
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_loss_counts_the_answer_and_its_end_and_nothing_else() -> None:
    tokenizer = train_tokenizer(seed=SMALL.seed, chats=2000)
    batch = next(batches(SMALL, tokenizer))
    answers = {example.answer for example, _ in zip(examples(SMALL.seed), range(16 * 32), strict=False)}
    for labels in batch.labels:
        text = tokenizer.decode(labels[labels != -100])
        assert text.endswith("<|end|>")
        assert text.removesuffix("<|end|>") in answers


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = Recipe(steps=100, warmup_steps=10, decay_fraction=0.5, learning_rate=1.0)
    rates = [learning_rate(step, recipe) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:50] == [1.0] * 41
    assert rates[-1] == pytest.approx(0.02)
    assert torch.tensor(rates[50:]).diff().le(0).all()
