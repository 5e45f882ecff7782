"""Where a run computes, in which number format, and that it finds the same numbers there every time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def fitting_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The number format of matrix products, where it is not that of the weights."""
    return torch.bfloat16 if device.type == "cuda" else None


def compute_repeatably() -> None:
    """Have a GPU add up in the same order every time, so that a run ends with the numbers of any other like it.

    Must be called before anything is computed there. On a CPU this holds by itself.
    """
    if not torch.cuda.is_available():
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def strictly_repeatable() -> Iterator[None]:
    """For kernels that add up in the same order only where anything else would be an error."""
    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=only_warns)
