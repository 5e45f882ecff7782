"""Rotary embeddings whose frequencies depend on the longest sequence of a forward: up to which length all read alike.

"longrope" (Phi-3, Phi-4-mini) has two sets of frequencies and takes the long one for all that a forward reads as soon
as one sequence in it is longer than the original context; "dynamic" computes them from the very length, beyond the
context. So what is longer must not be read together with what is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def most_tokens_read_alike(model: PreTrainedModel) -> int:
    """Up to how many tokens sequences of any length are read by the same frequencies; sys.maxsize where all are."""
    config = model.config.get_text_config()
    lengths = {
        "longrope": lambda rope: rope["original_max_position_embeddings"],
        "dynamic": lambda rope: config.max_position_embeddings,
    }
    found = [lengths[rope["rope_type"]](rope) for rope in _ropes(config) if rope.get("rope_type") in lengths]
    return min(found, default=sys.maxsize)


def forget_longest(model: nn.Module) -> None:
    """Have dynamic frequencies follow from what is read next: they keep to the longest sequence seen otherwise."""
    for module in model.modules():
        rope: Any = module
        if getattr(module, "rope_type", None) == "dynamic" and rope.max_seq_len_cached > rope.original_max_seq_len:
            module.register_buffer("inv_freq", rope.original_inv_freq, persistent=False)
            rope.max_seq_len_cached = rope.original_max_seq_len


def _ropes(config: Any) -> Iterator[dict[str, Any]]:
    """What a config says of its rotary embeddings: of all layers together, or of each kind of layer."""
    stated = getattr(config, "rope_parameters", None) or {}
    yield stated
    yield from (rope for rope in stated.values() if isinstance(rope, dict))
