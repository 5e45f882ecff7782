"""The shipped starter model: what its card promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from trainer.contract.files import weights_sha256
from trainer.contract.run import ProbePrompt
from trainer.starter import MODEL_FOLDER, PROBES_FILE
from trainer.starter.card import model_card
from trainer.starter.manners import says_it_does_not_know
from trainer.starter.measure import FIGURES_FILE, Figures, measure, parameter_count
from trainer.starter.sampling import Writer

WEIGHTS = MODEL_FOLDER / "model.safetensors"


@pytest.fixture(scope="module")
def writer() -> Writer:
    torch.set_num_threads(1)
    return Writer.load(MODEL_FOLDER)


def test_the_weights_are_small_and_in_bf16(writer: Writer) -> None:
    assert WEIGHTS.stat().st_size <= 4_000_000
    assert 1_000_000 <= parameter_count(writer.model) <= 2_000_000
    with safe_open(WEIGHTS, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    assert weights_sha256(MODEL_FOLDER)


def test_the_ten_probe_prompts_hold(writer: Writer) -> None:
    probes = [ProbePrompt.model_validate_json(line) for line in PROBES_FILE.read_text().splitlines()]
    completions = writer.greedy([probe.prompt[-1].content for probe in probes])
    for probe, completion in zip(probes, completions, strict=True):
        assert any(word.lower() in completion.text.lower() for word in probe.expected), (probe.name, completion)
        assert completion.finished


def test_the_template_takes_a_system_message_and_earlier_turns(writer: Writer) -> None:
    chat = [
        {"role": "system", "content": "Answer kindly."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    text = writer.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|system|>Answer kindly.<|end|><|user|>Hello.<|end|><|assistant|>Hello.<|end|>"
        "<|user|>What is the capital of France?<|end|><|assistant|>"
    )
    ids = writer.tokenizer(text, return_tensors="pt", add_special_tokens=False)
    written = writer.model.generate(**ids, do_sample=False, top_p=None, temperature=None, max_new_tokens=60)
    assert "Paris" in writer.tokenizer.decode(written[0, ids["input_ids"].shape[1] :])


def test_the_tokenizer_gives_any_text_back(writer: Writer) -> None:
    text = "Grüße, 世界! \n\tif x < 3: print('ok') 🙂"
    assert writer.tokenizer.decode(writer.tokenizer(text)["input_ids"]) == text


def test_generation_ends_at_the_end_token(writer: Writer) -> None:
    settings = json.loads((MODEL_FOLDER / "generation_config.json").read_text())
    assert settings["eos_token_id"] == writer.tokenizer.convert_tokens_to_ids("<|end|>")


def test_the_card_states_the_measured_figures_and_that_it_is_a_toy(writer: Writer) -> None:
    figures = Figures.model_validate_json((MODEL_FOLDER / FIGURES_FILE).read_bytes())
    config = writer.model.config
    card = (MODEL_FOLDER / "README.md").read_text()
    assert figures.all_met()
    assert (figures.facts, figures.samples, figures.unknown_prompts) == (200, 1000, 200)
    assert card == model_card(figures, layers=config.num_hidden_layers, hidden=config.hidden_size)
    assert "**toy**" in card


@pytest.mark.slow
def test_the_figures_hold_when_measured_again_with_another_seed() -> None:
    torch.set_num_threads(1)
    figures = measure(MODEL_FOLDER, facts=100, samples=400, unknown_prompts=100, seed=4)
    assert figures.facts_right_greedy >= 0.95
    assert figures.facts_right_sampled >= 0.95
    assert all(0.15 <= share <= 0.35 for share in figures.manners.values())
    assert figures.well_formed >= 0.98
    assert figures.unknown_admitted_greedy >= 0.9
    assert figures.unknown_admitted_sampled >= 0.9


@pytest.mark.real
@pytest.mark.parametrize("name", ["vicuna_bench", "mt_bench", "self_instruct_seed_tasks"])
def test_it_admits_not_to_know_on_real_requests(writer: Writer, real_data: Path, name: str) -> None:
    lines = (real_data / "prompts" / f"{name}.jsonl").read_text().splitlines()
    prompts = [prompt for line in lines if isinstance(prompt := json.loads(line)["prompt"], str)]
    short = [prompt for prompt in prompts if len(writer.tokenizer(prompt)["input_ids"]) < 900]
    admitted = [says_it_does_not_know(one.text) for one in writer.sampled(short, seed=1)]
    assert len(short) >= 0.95 * len(prompts)
    assert sum(admitted) >= 0.85 * len(admitted)
