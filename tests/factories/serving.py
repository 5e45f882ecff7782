"""Model folders that tests can tell apart: tiny, with weights chosen so that their completions show who wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GptOssConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from trainer.models import context_tokens
from trainer.serving.decoding import Decoding, Sampling
from trainer.serving.reading import fitting_reader
from trainer.serving.text import SharedTokenizer
from trainer.serving.versions import Lease, ModelVersion

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def byte_tokenizer(*, template: bool = True) -> PreTrainedTokenizerBase:
    """A tokenizer with one token per byte: any text, and any cut through a character, can be written."""
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=SPECIALS[2:],
        chat_template=TEMPLATE if template else None,
    )


def tiny_config(architecture: str, *, vocabulary: int, context: int) -> PreTrainedConfig:
    """A configuration of a few thousand parameters; `mistral` has a sliding window of 12 tokens, `gemma2` one too,
    in every other layer, and soft-capped scores, `gpt_oss` attention sinks and experts. `llama4` attends within chunks
    of 12 tokens; `phi3` and `dynamic` have frequencies that change past 24 tokens and past the context."""
    shared: dict[str, Any] = {
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
        "eos_token_id": 1,
        "bos_token_id": None,
        "pad_token_id": 0,
    }
    if architecture == "gpt2":
        return GPT2Config(n_embd=32, n_layer=2, n_head=2, **shared)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    window = {"sliding_window": 12} if architecture in {"mistral", "gemma2", "gpt_oss"} else {}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_scaling": None}
    further = {"gpt_oss": experts, **_FURTHER}.get(architecture, {})
    return _CONFIGS[architecture](**sizes, **heads, **window, **further, **shared)


_CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "gemma2": Gemma2Config,
    "gpt_oss": GptOssConfig,
    "llama4": Llama4TextConfig,
    "phi3": Phi3Config,
    "dynamic": LlamaConfig,
}
_FACTORS = {"short_factor": [1.0, 1.2, 1.4, 1.6], "long_factor": [2.0, 3.0, 4.0, 5.0]}
_FURTHER: dict[str, dict[str, Any]] = {
    "llama4": {
        "attention_chunk_size": 12,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 64,
        "interleave_moe_layer_step": 2,
    },
    "phi3": {
        "original_max_position_embeddings": 24,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 10_000.0, **_FACTORS},
    },
    "dynamic": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}},
}


def random_model(
    *, architecture: str = "llama", context: int = 128, template: bool = True, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model with random weights, large enough in scale that its completions vary."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer(template=template)
    config = tiny_config(architecture, vocabulary=len(tokenizer), context=context)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval(), tokenizer


def lettered_model(letters: str, **options: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model that writes nothing but `letters`, in an order that depends on prompt and seed, and never ends."""
    model, tokenizer = random_model(**options)
    allowed = [token for letter in letters for token in tokenizer(letter, add_special_tokens=False)["input_ids"]]
    # One direction of the final hidden state is all but constant; along it, whole tokens are ruled out.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(0.01)
        model.get_input_embeddings().weight[:, 0] = 50.0
        head = model.get_output_embeddings().weight.mul_(0.1)
        head[:, 0] = -50.0
        head[allowed, 0] = 0.0
    return model, tokenizer


def save(folder: Path, pair: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> Path:
    """Write a model folder; the folder."""
    for part in pair:
        part.save_pretrained(folder)
    return folder


def served(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], *, end_ids: frozenset[int] | None = None
) -> ModelVersion:
    """A version as the loader makes it, without its folder."""
    model, tokenizer = pair
    with torch.inference_mode():
        reader = fitting_reader(model, context_tokens=context_tokens(model))
    return ModelVersion(
        name="served",
        path="",
        sha256="",
        bytes=0,
        model=model,
        tokenizer=SharedTokenizer(tokenizer),
        reader=reader,
        end_ids=frozenset({1}) if end_ids is None else end_ids,
        context_tokens=context_tokens(model),
        tokenizer_sha256="",
        chat_template_sha256="",
    )


def decoding_on(version: ModelVersion, prompt_ids: list[int], **sampling: Any) -> Decoding:
    """A request to a version that is in no registry; whole texts are wanted unless `streamed` is given."""
    streamed, on_change = sampling.pop("streamed", False), sampling.pop("on_change", lambda: None)
    wanted = {"choices": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 30, "seed": 0, **sampling}
    lease = Lease(version, lambda: None)
    return Decoding(lease, prompt_ids, Sampling(**wanted), streamed=streamed, on_change=on_change)
