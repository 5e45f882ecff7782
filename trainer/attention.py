"""What attention here, in training and in serving, has in common: plain scaled dot products, with their log-sum-exp.

With the log-sum-exp of its scores, what a query finds among some keys can be merged with what it finds among others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HARMLESS = frozenset({"is_causal", "position_ids", "use_cache", "output_attentions", "output_hidden_states"})
"""What models hand to their attention that changes nothing here. Anything else (a sliding window, attention sinks,
soft-capped scores) makes an attention that this one is not."""


class OtherAttentionError(Exception):
    """The model wants another attention than plain scaled dot products."""


def plain_scaling(query: Tensor, attention_mask: Tensor | None, scaling: float | None, others: dict[str, Any]) -> float:
    """By what scores are multiplied; raises OtherAttentionError where a model asks for more than plain attention.

    `others` are the further arguments that transformers hands over.
    """
    wanted = [name for name, value in others.items() if value is not None and name not in {*HARMLESS, "dropout"}]
    if attention_mask is not None:
        wanted.append("a mask")
    if others.get("dropout"):
        wanted.append("dropout")
    if wanted:
        raise OtherAttentionError(f"its attention takes {', '.join(wanted)}")
    return float(query.shape[-1] ** -0.5 if scaling is None else scaling)


def attends_in_chunks(config: Any) -> bool:
    """Whether a model (Llama 4) looks back no further than its chunk begins, by a mask alone: transformers builds that
    for its own attentions and for no other, so nothing that is handed over tells.
    """
    kinds = getattr(config, "layer_types", None) or ()
    return bool(getattr(config, "attention_chunk_size", None)) or "chunked_attention" in kinds


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """What each query (batch, heads, queries, head size) finds, and the log-sum-exp of its scores.

    `mask` is added to scores, of the query's number format and of a shape that broadcasts.
    """
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # type: ignore[no-any-return]
            query, key, value, 0.0, causal, attn_mask=mask, scale=scaling
        )
    return attend_plainly(query, key, value, scaling=scaling, mask=mask, causal=causal)


def attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """The same by plain operations, for devices whose kernel torch does not offer with the log-sum-exp."""
    scores = scores_of(query, key, scaling=scaling, causal=causal)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1).to(value.dtype) @ value, scores.logsumexp(-1)


def scores_of(query: Tensor, key: Tensor, *, scaling: float, causal: bool) -> Tensor:
    """Scaled scores in float32 or wider, shape (batch, heads, queries, keys)."""
    scores = wide(query @ key.transpose(-1, -2)) * scaling
    if causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, -torch.inf)
    return scores


def wide(tensor: Tensor) -> Tensor:
    """The same in float32, unless it is wider already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
