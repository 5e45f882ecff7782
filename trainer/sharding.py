"""A model of which every rank holds a share alone (FSDP2: `torch.distributed.fsdp.fully_shard`).

Each layer's weights are put together for as long as it computes; its gradients are summed over the ranks and divided as
soon as they are there, and the optimizer's moments are divided likewise. What is outside the layers (embedding, last
norm, head) is one group that stays together from a forward on, because the head's matrix is used after the forward of
the module that owns it (`completion_head`). `reshard` divides it again, and must be called after forwards without
backward, before a step and before weights are looked at: what was put together is not seen to change.

The ranks need each other in every forward and every backward, so all of them must do as many of each. In a step they
do by count (`step`). Whatever else the leader computes is announced: the followers then do a forward of their own, of
one token, as its only use is the weights that they bring (`lend`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from trainer.adapters import decoder_layers
from trainer.ranks import Ranks

_IN_STEP: ContextVar[bool] = ContextVar("in_step", default=False)


def shard(model: PreTrainedModel, ranks: Ranks, *, announced_as: object) -> None:
    """Divide a model among the ranks, in place. Before each of its forwards outside a step the leader tells the others
    `announced_as`."""
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (ranks.count,))
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # A sum: the loss is normalised by the whole batch beforehand. gloo knows no other factors.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)

    def announce(*_: object) -> None:
        if not _IN_STEP.get():
            ranks.tell(announced_as)

    if ranks.leads:
        model.register_forward_pre_hook(announce, prepend=True)


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether the ranks need each other in every forward."""
    return isinstance(model, FSDPModule)


@contextmanager
def in_step() -> Iterator[None]:
    """While all ranks do the same number of forwards, so that none is announced."""
    token = _IN_STEP.set(True)
    try:
        yield
    finally:
        _IN_STEP.reset(token)


def lend(model: PreTrainedModel, *, backward: bool = False) -> None:
    """Take part in a forward, and its backward, for the sake of the others: with nothing of one's own to compute."""
    token_ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.set_grad_enabled(backward):
        logits: Tensor = model(input_ids=token_ids, use_cache=False).logits
        if backward:
            (logits.sum() * 0).backward()  # type: ignore[no-untyped-call]


def keep_together(model: torch.nn.Module) -> None:
    """Put what is outside the layers together for good: of a frozen model, whose head is asked by itself."""
    if isinstance(model, FSDPModule):
        model.unshard()


def reshard(model: torch.nn.Module) -> None:
    """Let go of what was put together for a forward without backward. All ranks must, at the same point."""
    if isinstance(model, FSDPModule):
        model.reshard()


def whole(content: Any, *, keep: bool = True) -> Any:
    """A state (tensors in dictionaries and lists) with every divided tensor put together, on the CPU.

    All ranks must ask, for the same; those that do not `keep` it get None for each divided tensor.
    """
    if isinstance(content, DTensor):
        together = content.full_tensor()
        return together.cpu() if keep else None
    if isinstance(content, Mapping):
        return {key: whole(value, keep=keep) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(whole(value, keep=keep) for value in content)
    return content


def number(tensor: Tensor) -> float:
    """The value of a tensor of one number, whether or not it is divided."""
    return float(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model these weights, which are whole; every rank takes its share of them."""
    reshard(model)
    own = dict(model.named_parameters())
    model.load_state_dict(
        {name: divided_as(own[name], tensor) if name in own else tensor for name, tensor in weights.items()},
        strict=False,
    )


def load_moments(optimizer: torch.optim.Optimizer, content: Mapping[str, Any]) -> None:
    """Give an optimizer the state of a whole one; every rank takes its share of it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {name: divided_as(parameters[index], value) for name, value in values.items()}
        for index, values in content["state"].items()
    }
    optimizer.load_state_dict({**content, "state": state})


def divided_as(like: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, divided as another of its shape is."""
    if isinstance(like, DTensor) and tensor.shape == like.shape:
        here = tensor.to(like.device)
        return distribute_tensor(here, like.device_mesh, like.placements, src_data_rank=None)
    return tensor
