"""Which library multiplies matrices on a CPU: what torch takes by itself (MKL), or oneDNN, which torch brings too.

MKL keeps to AVX2 on AMD's CPUs, oneDNN does not; so where such a CPU has AVX-512, both are tried once and the faster
one is taken. Everywhere else torch's own choice stands. The last bits differ, so a run keeps its choice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from trainer.contract.run import Matrices

WORTHWHILE = 1.15
"""How many times as fast oneDNN must be to be taken: a measurement on a machine that does other work too varies."""
_TRIED_TOKENS, _TRIED_WIDTH = 1024, 1024

log = logging.getLogger(__name__)


def multiplied_by(matrices: Matrices) -> AbstractContextManager[Any]:
    """Linear layers whose forwards are within use this library, and so do their backwards, whenever they are."""
    return _ThroughOneDnn() if matrices is Matrices.ONEDNN else nullcontext()


def product(one: Tensor, other: Tensor, matrices: Matrices) -> Tensor:
    """one (rows, inner) times other (inner, columns), by that library where it can."""
    return _by_onednn(one, other.t()) if matrices is Matrices.ONEDNN and _eligible(one, other) else one @ other


def fitting_matrices(model: PreTrainedModel) -> Matrices:
    """The faster library for a model's products: tried where oneDNN may be, else torch's own choice."""
    if model.device.type != "cpu" or model.dtype != torch.float32 or not may_be_faster():
        return Matrices.TORCH
    config = model.config.get_text_config()
    by_torch, by_onednn = seconds_of_both(min(_TRIED_WIDTH, config.hidden_size))
    log.info("Matrix products: %.1f ms by torch, %.1f ms by oneDNN", 1e3 * by_torch, 1e3 * by_onednn)
    return faster(by_torch, by_onednn)


def faster(by_torch: float, by_onednn: float) -> Matrices:
    """Which to take, where each took so many seconds."""
    return Matrices.ONEDNN if by_torch > WORTHWHILE * by_onednn else Matrices.TORCH


def may_be_faster(cpu: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this is a CPU on which MKL leaves AVX-512 aside, and torch has oneDNN."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        words = set(cpu.read_text().split())
    except OSError:
        return False
    return "AuthenticAMD" in words and "avx512f" in words


def seconds_of_both(width: int, *, times: int = 3) -> tuple[float, float]:
    """CPU seconds of a linear layer, forward and backward, by torch's choice and by oneDNN: the best of some times,
    taken in turn."""
    inputs = torch.ones(_TRIED_TOKENS, width, requires_grad=True)
    weight = torch.ones(4 * width, width, requires_grad=True)
    best = dict.fromkeys(Matrices, float("inf"))
    for _ in range(times + 1):  # the first of each is for getting warm, and never the fastest
        for matrices in Matrices:
            begun = time.process_time()
            with multiplied_by(matrices):
                found = functional.linear(inputs, weight)
            torch.autograd.grad(found, (inputs, weight), torch.ones_like(found))
            best[matrices] = min(best[matrices], time.process_time() - begun)
    return best[Matrices.TORCH], best[Matrices.ONEDNN]


def _eligible(*tensors: Tensor) -> bool:
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


def _by_onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """inputs (…, inner) times weight (columns, inner) transposed, plus the bias."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _by_onednn(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        wants_inputs, wants_weight, wants_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _by_onednn(gradient, weight.t()) if wants_inputs else None,
            _by_onednn(rows.t(), inputs.flatten(0, -2).t()) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


class _ThroughOneDnn(TorchFunctionMode):
    """Has linear layers, whatever model they are in, multiply by oneDNN."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear and not kwargs and _eligible(*(each for each in args if each is not None)):
            return _Linear.apply(*args, *([None] if len(args) == 2 else []))  # type: ignore[no-untyped-call]
        if func is torch.addmm and not kwargs and _eligible(*args) and args[0].dim() == 1:  # GPT-2's layers
            return _Linear.apply(args[1], args[2].t(), args[0])  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))
