"""Gradient checkpointing: of each layer only what it was given is kept, the rest is computed anew in the backward pass.

Costs a second forward, and saves most of what is kept between forward and backward. Source: Chen et al. 2016,
arXiv:1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from trainer.adapters import decoder_layers


@contextmanager
def recomputed(model: PreTrainedModel, around: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """For one forward: every layer forgets its results. `around` gives what must surround one that is done again."""
    layers = decoder_layers(model)
    for layer in layers:
        layer.__dict__["forward"] = _forgetting(layer, around)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _forgetting(layer: nn.Module, around: Callable[[], AbstractContextManager[Any]]) -> Callable[..., Any]:
    forward = layer.forward

    def forgetting(*arguments: Any, **named: Any) -> Any:
        return checkpoint(
            forward, *arguments, use_reentrant=False, preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), around()), **named,
        )  # fmt: skip

    return forgetting
