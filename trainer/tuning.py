"""How a run trains its model: all weights or an adapter, on which base, in which number format, and what it writes.

On CUDA matrix products are computed in bfloat16: all weights are trained as float32 ones, and an adapter, float32 too,
stands beside a base that is kept in bfloat16. On a CPU everything is float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer.adapters import (
    adapter_parameters,
    decoder_layers,
    has_adapter,
    is_adapter,
    load_adapter,
    merge_adapter,
    new_adapter,
    shared_copy,
    train_adapter_alone,
)
from trainer.artifact import round_weights, write_adapter, write_model
from trainer.checkpoints import KEPT, trained_weights
from trainer.contract.run import Hyperparameters, ModelRef, RunRequest, Tuning
from trainer.devices import autocast_dtype, fitting_device
from trainer.errors import ModelError
from trainer.models import base_of, load_tokenizer, load_weights, stored_dtype, stored_parameters, verify_model
from trainer.sharding import reshard

LORA_ABOVE_PARAMETERS = 500_000_000
"""Up to here `auto` trains all weights: a base of this size takes about 10 GB to train whole."""
ADAPTER_BYTES = 4
"""Of each number of an adapter, in memory and on disk."""


@dataclass(frozen=True)
class Plan:
    """What a run trains and writes. `kind` is never `auto`."""

    kind: Tuning
    base: ModelRef
    """The weights that are loaded; an adapter stands on them."""
    start_folder: Path
    merged: bool

    @property
    def writes_adapter(self) -> bool:
        """Whether what is written needs its base."""
        return self.kind is not Tuning.FULL and not self.merged


@dataclass(frozen=True)
class Prepared:
    """The policy, its trained weights asking for gradients, and the frozen reference, with their tokenizers."""

    plan: Plan
    policy: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    reference: PreTrainedModel
    reference_tokenizer: PreTrainedTokenizerBase


def prepare(request: RunRequest, *, sharded: bool = False) -> Prepared:
    """Check and load what a run starts from and is compared with. Raises ModelError.

    The reference is what the request states, whatever adapter is trained: where both stand on the same base, they share
    its weights in memory. What is to be `sharded` stays beside the CPU, as it need not fit elsewhere.
    """
    plan = planned(request)
    if sharded:
        _refuse_to_shard(plan)
    reference_folder = verify_model(request.reference)
    policy = _loaded(plan, torch.device("cpu") if sharded else fitting_device())
    reference = _reference(request, plan, policy)
    _open_to_training(policy, plan, request.hyperparameters, seed=request.seed)
    return Prepared(
        plan=plan,
        policy=policy,
        tokenizer=load_tokenizer(plan.start_folder),
        reference=reference,
        reference_tokenizer=load_tokenizer(reference_folder),
    )


def unsharded_policy(request: RunRequest, plan: Plan, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """The policy with the trained weights of a sharded one, on the CPU."""
    policy = _loaded(plan, torch.device("cpu"))
    _open_to_training(policy, plan, request.hyperparameters, seed=request.seed)
    policy.load_state_dict(weights, strict=False)
    return policy


def _loaded(plan: Plan, device: torch.device) -> PreTrainedModel:
    return load_weights(Path(plan.base.path), dtype=_loaded_dtype(plan, fitting_device())).to(device)


def _refuse_to_shard(plan: Plan) -> None:
    if plan.kind is Tuning.LORA_TOP:
        raise ModelError("The top layers alone are trained by processes that each hold the whole model.")
    if plan.merged and plan.kind is not Tuning.FULL:
        raise ModelError(
            "A sharded model's adapter cannot be merged in the run. Have the run write the adapter, and merge it after."
        )


def planned(request: RunRequest) -> Plan:
    """What a request comes to, its start being checked. An adapter that is trained further stays on its base."""
    folder = verify_model(request.start)
    base = base_of(request.start) or request.start
    kind = request.hyperparameters.tuning
    if kind is Tuning.AUTO:
        is_large = stored_parameters(Path(base.path)) > LORA_ABOVE_PARAMETERS
        kind = Tuning.LORA if is_large or is_adapter(folder) else Tuning.FULL
    return Plan(kind, base, folder, merged=request.hyperparameters.merged)


def _loaded_dtype(plan: Plan, device: torch.device) -> torch.dtype:
    if device.type == "cpu" or plan.kind is Tuning.FULL:
        return torch.float32
    return stored_dtype(Path(plan.base.path)) if plan.merged else torch.bfloat16


def _reference(request: RunRequest, plan: Plan, policy: PreTrainedModel) -> PreTrainedModel:
    base = base_of(request.reference) or request.reference
    if plan.kind is not Tuning.FULL and base.sha256 == plan.base.sha256:
        model = shared_copy(policy)
    else:
        dtype = autocast_dtype(fitting_device()) or torch.float32
        model = load_weights(Path(base.path), dtype=dtype).to(policy.device)
    if is_adapter(Path(request.reference.path)):
        load_adapter(model, Path(request.reference.path))
    return model.requires_grad_(False)


def _open_to_training(policy: PreTrainedModel, plan: Plan, settings: Hyperparameters, *, seed: int) -> None:
    layers = trained_layers(policy, plan, settings)
    if is_adapter(plan.start_folder):
        load_adapter(policy, plan.start_folder, wide=True)
    elif plan.kind is not Tuning.FULL:
        new_adapter(policy, rank=settings.lora_rank, alpha=settings.lora_alpha, seed=seed, layers=layers)
    if plan.kind is not Tuning.FULL:
        train_adapter_alone(policy, layers=layers)
    elif has_adapter(policy):
        merge_adapter(policy)
        policy.requires_grad_(True)
    policy.eval()


def trained_layers(policy: PreTrainedModel, plan: Plan, settings: Hyperparameters) -> list[nn.Module] | None:
    """The layers that are trained, lowest first; None for all that there is."""
    return decoder_layers(policy)[-settings.lora_layers :] if plan.kind is Tuning.LORA_TOP else None


def needed_disk_bytes(model: PreTrainedModel, plan: Plan, *, keeps_best: bool = False) -> int:
    """What checkpoints and the trained model will take: two moments beside each trained number, `KEPT` checkpoints and
    one more before the oldest goes; where the weights of the best step are kept, those of two.
    """
    trained = sum(tensor.nbytes for tensor in trained_weights(model).values())
    adapter = sum(ADAPTER_BYTES * parameter.numel() for parameter in adapter_parameters(model))
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return (3 * (KEPT + 1) + 2 * keeps_best) * trained + (adapter if plan.writes_adapter else weights)


def settle(model: PreTrainedModel, plan: Plan) -> None:
    """Turn a trained model into what will be served, so that what is measured is what is served."""
    reshard(model)
    if plan.writes_adapter:
        return
    if has_adapter(model):
        merge_adapter(model)
    round_weights(model, stored_dtype(Path(plan.base.path)))


def write_version(model: PreTrainedModel, plan: Plan, folder: Path) -> None:
    """Write a settled model: an adapter's folder, or a full one in the number format of its base.

    One that an earlier start left, before it could report, goes first: there need not be room for both.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if plan.writes_adapter:
        write_adapter(model, folder, start=plan.start_folder, base=plan.base)
    else:
        write_model(model, folder, start=plan.start_folder, dtype=stored_dtype(Path(plan.base.path)))
