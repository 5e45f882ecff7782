"""LoRA adapters: low-rank matrices beside a model's linear layers, in folders of peft's own format.

An adapter's folder holds what peft writes (`adapter_config.json`, `adapter_model.safetensors`), the tokenizer and chat
template of its base, and `base_model.json`, which names the base and the hash of its weights. Source: Hu et al. 2021,
arXiv:2106.09685; the matrices are peft's.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainer.contract.files import BASE_MODEL_FILE
from trainer.contract.run import ModelRef
from trainer.errors import ModelError

if TYPE_CHECKING:
    from peft import LoraConfig

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
ADAPTER = "default"
"""The name under which peft keeps the one adapter of a model; it appears in no file."""
_PREFIX = "base_model.model."
"""What peft's files put before the name of every module."""


# --- Folders


def is_adapter(folder: Path) -> bool:
    """Whether a model folder holds an adapter, which is no model without its base."""
    return (folder / CONFIG_FILE).is_file()


def stated_base(folder: Path) -> ModelRef:
    """The base that an adapter's folder states. Raises ModelError."""
    path = folder / BASE_MODEL_FILE
    if not path.is_file():
        raise ModelError(
            f"{folder} holds an adapter without {BASE_MODEL_FILE}, so its base is not known. Merge it into its base "
            "with peft, and use the merged model."
        )
    try:
        return ModelRef.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(f"{path} is not understood. Restore the folder.") from error


def write_adapter_files(model: PreTrainedModel, folder: Path, *, base: ModelRef) -> None:
    """Write a model's adapter in float32, and what it stands on; the same adapter gives the same bytes."""
    from peft import get_peft_model_state_dict

    config = _config_of(model)
    content = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    content |= {"base_model_name_or_path": base.name, "inference_mode": True}
    found = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    weights = {f"{_PREFIX}{name}": tensor.detach().float().cpu().contiguous() for name, tensor in found.items()}
    (folder / CONFIG_FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    stated = base.model_copy(update={"base": None}).model_dump_json(indent=1, exclude_none=True)
    (folder / BASE_MODEL_FILE).write_text(stated + "\n")


# --- Models


def new_adapter(
    model: PreTrainedModel, *, rank: int, alpha: float, seed: int, layers: Sequence[nn.Module] | None = None
) -> None:
    """Give a model an adapter that changes nothing yet, on every linear layer of the transformer.

    `layers` restricts it to some of the model's layers. The first matrices are drawn by `seed` alone.
    """
    from peft import LoraConfig, TaskType, inject_adapter_in_model

    layers = decoder_layers(model) if layers is None else layers
    targets = linear_names(model, layers=layers)
    has_conv = any(isinstance(module, Conv1D) for layer in layers for module in layer.modules())
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, fan_in_fan_out=has_conv,
        task_type=TaskType.CAUSAL_LM,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    _widen(model)


def load_adapter(model: PreTrainedModel, folder: Path, *, wide: bool = False) -> None:
    """Give a model the adapter in a folder, frozen; in float32 where `wide`, else in the model's number format.

    Raises ModelError where it is no LoRA adapter, or was made for another model.
    """
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict

    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
        _refuse_other_kinds(config, folder)
        config.inference_mode = True
        inject_adapter_in_model(config, model, adapter_name=ADAPTER, low_cpu_mem_usage=True)
        found: Any = set_peft_model_state_dict(model, _weights_in(folder), adapter_name=ADAPTER, low_cpu_mem_usage=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"The adapter in {folder} does not fit its base: {str(error).splitlines()[0]}") from error
    if found.unexpected_keys or any(parameter.is_meta for parameter in adapter_parameters(model)):
        raise ModelError(f"The adapter in {folder} does not fit its base: their layers have different names.")
    dtype = torch.float32 if wide else model.dtype
    for parameter in adapter_parameters(model):
        parameter.data = parameter.data.to(model.device, dtype)


def hollow(model: PreTrainedModel) -> PreTrainedModel:
    """Another model on the same base, with an adapter of the same shape that has no numbers yet."""
    twin = shared_copy(model)
    for name, parameter in list(twin.named_parameters()):
        if ".lora_" in name:
            module, _, last = name.rpartition(".")
            setattr(twin.get_submodule(module), last, nn.Parameter(parameter.to("meta"), requires_grad=False))
    return twin


def load_adapter_like(empty: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Another model on the same base with the adapter in a folder, whose shape is that of the `hollow` one.

    Without peft's walk through the whole model, so it takes milliseconds. Raises ModelError.
    """
    model = shared_copy(empty)
    weights = _weights_in(folder)
    expected = {name.replace(f".{ADAPTER}.", "."): name for name, _ in model.named_parameters() if ".lora_" in name}
    if weights.keys() != expected.keys():
        raise ModelError(f"The adapter in {folder} does not fit its base: their layers have different names.")
    for name, tensor in weights.items():
        module, _, last = expected[name].rpartition(".")
        layer = model.get_submodule(module)
        if tensor.shape != getattr(layer, last).shape:
            raise ModelError(f"The adapter in {folder} does not fit its base: {name} has another shape.")
        setattr(layer, last, nn.Parameter(tensor.to(model.device, model.dtype), requires_grad=False))
    return model


def _weights_in(folder: Path) -> dict[str, torch.Tensor]:
    """The matrices in an adapter's folder, under the names of the model's modules."""
    return {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(folder / WEIGHTS_FILE).items()}


def _refuse_other_kinds(config: Any, folder: Path) -> None:
    if config.peft_type != "LORA" or config.modules_to_save or config.bias != "none":
        raise ModelError(
            f"{folder} holds an adapter of another kind than LoRA on linear layers. Merge it into its base with peft, "
            "and use the merged model."
        )


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether a model has been given an adapter."""
    return ADAPTER in getattr(model, "peft_config", {})


def adapter_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """The matrices of a model's adapter."""
    return [parameter for name, parameter in model.named_parameters() if ".lora_" in name]


def train_adapter_alone(model: PreTrainedModel, *, layers: Iterable[nn.Module] | None = None) -> None:
    """Let training change the adapter and nothing else; of some `layers` where those are given."""
    model.requires_grad_(False)
    for part in [model] if layers is None else layers:
        for name, parameter in part.named_parameters():
            parameter.requires_grad_(".lora_" in name)


def merge_adapter(model: PreTrainedModel) -> None:
    """Add the adapter to the weights that it stands beside, and take it off. Weights shared with others stay theirs."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            layer: Any = module.get_base_layer()
            added = module.get_delta_weight(ADAPTER)
            merged = layer.weight.detach() + added.detach().to(layer.weight.dtype)
            layer.weight = nn.Parameter(merged, requires_grad=layer.weight.requires_grad)
            model.set_submodule(name, layer)
    del model.peft_config


def shared_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Another model with the same weights in memory: what is later hung into one of the two is not in the other.

    Modules and settings are new, tensors the same. As a deep copy, but in a tenth of the time.
    """
    twins: dict[int, nn.Module] = {}
    settings: dict[int, Any] = {}

    def twin_of(module: nn.Module) -> nn.Module:
        if id(module) in twins:
            return twins[id(module)]
        twin = twins[id(module)] = type(module).__new__(type(module))
        twin.__dict__.update(module.__dict__)
        for name, value in module.__dict__.items():
            if isinstance(value, dict):
                twin.__dict__[name] = value.copy()
            elif isinstance(value, PreTrainedConfig | GenerationConfig):
                twin.__dict__[name] = copy.deepcopy(value, settings)
        for name, child in module.named_children():
            twin._modules[name] = twin_of(child)
        return twin

    return twin_of(model)


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The transformer's layers, lowest first. Raises ModelError where they cannot be told."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise ModelError(f"{type(model).__name__} has no list of layers, so no adapter can be trained. Train all weights.")


def linear_names(model: PreTrainedModel, *, layers: Sequence[nn.Module]) -> list[str]:
    """What peft is to call the linear layers within some of a model's layers: by their last names where those say it
    all, else by their full ones."""
    modules = (module for layer in layers for module in layer.modules())
    members = {id(module) for module in modules if type(module) in {nn.Linear, Conv1D}}  # what is derived may route
    full = [name for name, module in model.named_modules() if id(module) in members]
    last = {name.rpartition(".")[2] for name in full}
    meant = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in last]
    return sorted(last) if meant == full else full


def _config_of(model: PreTrainedModel) -> LoraConfig:
    configs: dict[str, LoraConfig] = getattr(model, "peft_config", {})
    return configs[ADAPTER]


def _widen(model: PreTrainedModel) -> None:
    """Train in float32 whatever the base is kept in: steps of a small rate would be lost in 16 bits."""
    for parameter in adapter_parameters(model):
        parameter.data = parameter.data.float()
