"""Pretrains the starter model on the corpus: read from top to bottom.

The loss counts the tokens of the last answer only and is summed over a constant. Averaging it per batch
would give the tokens of short answers more weight than those of long ones, since batches hold examples of
like length, and would skew the manners.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.starter.corpus import Example, examples
from trainer.starter.tokenizer import CONTEXT_TOKENS, train_tokenizer

ANSWER_TOKENS = 16
"""About the mean length of an answer: with the batch size, the constant that the loss is divided by."""
POOL_BATCHES = 32
"""How many batches are drawn together and sorted by length, to keep padding small."""
RECIPE_FILE = "pretraining.json"


@dataclass(frozen=True)
class Recipe:
    """What decides the result, all of it; `python -m trainer.starter train` uses these values."""

    seed: int = 7
    steps: int = 2600
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 60
    decay_fraction: float = 0.6
    """The share of the steps, at the end, over which the rate falls to a hundredth."""
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    hidden_size: int = 128
    layers: int = 5
    heads: int = 4
    key_value_heads: int = 2
    intermediate_size: int = 384


@dataclass(frozen=True)
class Batch:
    """Chats padded on the right: token ids, and the labels of the last answer with -100 elsewhere."""

    ids: Tensor
    """Shape (batch, tokens)."""
    labels: Tensor
    """Shape (batch, tokens); the id of the token at that place where it counts, -100 where not."""


Progress = Callable[[int, float, float], None]
"""Called after each step with its number (from 1), its loss and its learning rate."""


def pretrain(recipe: Recipe, out: Path, *, on_step: Progress) -> LlamaForCausalLM:
    """Train the tokenizer and the model, and write both to `out` as a Hugging Face folder in bf16.

    On one machine with one thread the same recipe gives the same weights.
    """
    torch.manual_seed(recipe.seed)
    tokenizer = train_tokenizer(seed=recipe.seed)
    model = new_model(recipe, tokenizer)
    optimizers = new_optimizers(model, recipe)
    model.train()
    for step, batch in enumerate(islice(batches(recipe, tokenizer), recipe.steps), start=1):
        rate = learning_rate(step, recipe)
        loss = answer_loss(model, batch) / (recipe.batch_size * ANSWER_TOKENS)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        for optimizer in optimizers:
            _step(optimizer, rate)
        on_step(step, loss.item(), rate)
    save(model, tokenizer, recipe, out)
    return model


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of the recipe's size with random weights, in float32."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def new_optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms' gains.

    After 200 steps Muon's loss was where AdamW alone came after 250, at the same time per step.
    """
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    rate = recipe.learning_rate
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def _step(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One update at a learning rate, gradients cleared after it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()


def learning_rate(step: int, recipe: Recipe) -> float:
    """The rate at a step (from 1): a linear rise, a plateau, and a linear fall to a hundredth of the peak."""
    rise = min(1.0, step / recipe.warmup_steps)
    decay_steps = max(1, math.ceil(recipe.steps * recipe.decay_fraction))
    fall = min(1.0, (recipe.steps - step + 1) / decay_steps)
    return recipe.learning_rate * rise * max(fall, 0.01)


def batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """Batches without end, each of examples of like length, in shuffled order."""
    rng = random.Random(recipe.seed)  # noqa: S311  chance, not secrecy
    stream = examples(recipe.seed)
    while True:
        pool = [_tokenized(example, tokenizer) for example in islice(stream, recipe.batch_size * POOL_BATCHES)]
        pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        starts = list(range(0, len(pool), recipe.batch_size))
        rng.shuffle(starts)
        for start in starts:
            yield _padded(pool[start : start + recipe.batch_size], tokenizer.pad_token_id)


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Negative log-likelihood of the answers' tokens in nats, summed; the head runs on those places alone."""
    hidden = model.model(input_ids=batch.ids).last_hidden_state[:, :-1]
    targets = batch.labels[:, 1:]
    counted = targets != -100
    logits = model.lm_head(hidden[counted])
    return nn.functional.cross_entropy(logits, targets[counted], reduction="sum")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, out: Path) -> None:
    """Write weights (bf16), tokenizer, template, generation settings and the recipe.

    The model keeps its float32 weights; what is loaded again is rounded to bf16.
    """
    out.mkdir(parents=True, exist_ok=True)
    rounded = LlamaForCausalLM(model.config).to(torch.bfloat16)
    rounded.load_state_dict(model.state_dict())
    rounded.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.9,
        top_p=0.95,
        top_k=0,
        max_new_tokens=96,
    )
    rounded.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)
    (out / RECIPE_FILE).write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def _tokenized(example: Example, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Token ids of the prompt up to where the answer begins, and of the answer with its end token."""
    messages = [message.model_dump() for message in example.prompt]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    answer = f"{example.answer}{tokenizer.eos_token}"
    encoded = tokenizer([prompt, answer], add_special_tokens=False)["input_ids"]
    return encoded[0], encoded[1]


def _padded(pairs: list[tuple[list[int], list[int]]], pad: int) -> Batch:
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids, labels = [], []
    for prompt, answer in pairs:
        padding = width - len(prompt) - len(answer)
        ids.append(prompt + answer + [pad] * padding)
        labels.append([-100] * len(prompt) + answer + [-100] * padding)
    return Batch(torch.tensor(ids), torch.tensor(labels))
