"""Drawing completions of many prompts in one batch."""

import pytest
import torch

from tests.factories.serving import lettered_model, random_model
from trainer import drawing as drawing_module
from trainer.drawing import Drawing, draw_completions

PROMPTS = [tuple(range(10, 10 + length)) for length in (3, 40, 7, 12)]
GREEDY = Drawing(copies=1, temperature=0, top_p=1, max_tokens=12, seed=0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3"])
def test_greedy_completions_are_those_of_transformers_one_by_one(architecture: str) -> None:
    model, _ = random_model(architecture=architecture)
    drawn = draw_completions(model, PROMPTS, GREEDY, end_ids={1})
    for prompt, (ours,) in zip(PROMPTS, drawn, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=1, pad_token_id=0
        )
        assert ours == theirs[0, len(prompt) :].tolist()


def test_a_sample_depends_on_its_seed_and_prompt_and_not_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = random_model()
    sampling = Drawing(copies=3, temperature=1.0, top_p=0.95, max_tokens=10, seed=5)
    together = draw_completions(model, PROMPTS, sampling, end_ids={1})
    monkeypatch.setattr(drawing_module, "ROWS_PER_BATCH", 3)
    assert draw_completions(model, PROMPTS, sampling, end_ids={1}) == together
    assert len({tuple(tokens) for tokens in together[0]}) == 3


def test_a_completion_ends_with_its_end_token_or_at_the_limit() -> None:
    model, _ = random_model()
    sampling = Drawing(copies=8, temperature=1.0, top_p=1.0, max_tokens=30, seed=1)
    ends = set(range(100, 140))
    drawn = [tokens for copies in draw_completions(model, PROMPTS, sampling, end_ids=ends) for tokens in copies]
    assert {len(tokens) == 30 or tokens[-1] in ends for tokens in drawn} == {True}
    assert all(ends.isdisjoint(tokens[:-1]) for tokens in drawn)
    assert len({len(tokens) for tokens in drawn}) > 2


def test_progress_is_told_to_the_end() -> None:
    model, _ = lettered_model("ab")
    shares: list[float] = []
    draw_completions(model, PROMPTS, GREEDY, end_ids={1}, on_progress=shares.append)
    assert shares[-1] == 1


def test_no_prompts_make_no_completions() -> None:
    model, _ = random_model()
    assert draw_completions(model, [], GREEDY, end_ids={1}) == []
