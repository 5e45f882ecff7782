"""Freed memory stays with the process that will soon want as much again.

A training step allocates the same large tensors as the one before it. glibc gives each back to the system as soon as it
is free, and the system clears the pages of the next one: 4 to 6 % of a step on a CPU (`benchmarks/trainer.py`).
Elsewhere than on glibc nothing is changed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of settings, from malloc.h."""
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """From now on this process holds on to memory that is freed, and allocates from it.

    Between its peaks it holds more than it uses.
    """
    set_option = _of_glibc("mallopt")
    if set_option:
        set_option(_MMAP_MAX, 0)
        set_option(_TRIM_THRESHOLD, _NEVER)


def give_back_freed_memory() -> None:
    """Give what is free now back to the system, once."""
    trim = _of_glibc("malloc_trim")
    if trim:
        trim(ctypes.c_size_t(0))


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None)
