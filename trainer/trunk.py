"""The frozen layers below the ones that are trained, computed once for each tree and kept.

Where only the topmost layers are trained, what they are given never changes. It is computed for every tree by itself,
whatever else is in the batch, so the numbers do not depend on what is kept: a run that keeps nothing, or is taken up
again, has the same to the last bit. Kept in memory first, then in files, both within bounds.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from trainer.adapters import decoder_layers
from trainer.logps import TRIED, Scorer
from trainer.memory import bytes_left
from trainer.packing import Pack, Tree

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.25
"""Of the memory that is left when training begins."""
DISK_SHARE = 0.25
MOST_FILE_BYTES = 32 * 2**30
"""Of the free disk, and at most so much, for what does not fit into memory."""
_TOLERANCE = 1e-4
"""Relative, of float32: a tree by itself and in a batch differ by rounding."""
_COARSE_TOLERANCE = 0.1


class _Reached(Exception):
    """The forward has come to the trained layers."""


class Kept:
    """Tensors by tree: in memory up to `memory_bytes`, then in files of `folder` up to `file_bytes`."""

    def __init__(self, *, memory_bytes: int, folder: Path, file_bytes: int = 0) -> None:
        self._memory_bytes = memory_bytes
        self._file_bytes = file_bytes
        self._folder = folder
        self._in_memory: dict[Tree, Tensor] = {}
        self._in_files: dict[Tree, Path] = {}

    def find(self, tree: Tree) -> Tensor | None:
        """What is kept of a tree, if anything."""
        if tree in self._in_files:
            hidden: Tensor = load_file(self._in_files[tree])["hidden"]
            return hidden
        return self._in_memory.get(tree)

    def keep(self, tree: Tree, hidden: Tensor) -> None:
        """Keep it where there is room."""
        if hidden.nbytes <= self._memory_bytes:
            self._memory_bytes -= hidden.nbytes
            self._in_memory[tree] = hidden
        elif hidden.nbytes <= self._file_bytes:
            self._file_bytes -= hidden.nbytes
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{len(self._in_files)}.safetensors"
            save_file({"hidden": hidden.cpu().contiguous()}, path)
            self._in_files[tree] = path


class FrozenLayers:
    """What a model's trained layers are given of each tree, computed or kept."""

    def __init__(self, scorer: Scorer, trained: Sequence[nn.Module], kept: Kept) -> None:
        layers = decoder_layers(scorer.model)
        self._scorer = scorer
        self._first = trained[0]
        self._below = layers[: layers.index(trained[0])]
        self._kept = kept

    @contextmanager
    def standing_in(self, trees: Sequence[Tree], pack: Pack) -> Iterator[None]:
        """For one forward over a pack of these trees: layers below pass on, the first trained one gets what is kept."""
        hidden = _side_by_side([self._hidden(tree) for tree in trees], pack)

        def given(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (hidden, *inputs[1:])

        with ExitStack() as stack:
            for layer in self._below:
                layer.__dict__["forward"] = _pass_on
                stack.callback(layer.__dict__.pop, "forward")
            stack.callback(self._first.register_forward_pre_hook(given).remove)
            yield

    def _hidden(self, tree: Tree) -> Tensor:
        found = self._kept.find(tree)
        if found is None:
            found = self._computed(tree)
            self._kept.keep(tree, found)
        return found.to(self._scorer.model.device)

    @torch.no_grad()
    def _computed(self, tree: Tree) -> Tensor:
        """What the first trained layer is given of one tree, shape (rows, tokens, width)."""
        found: list[Tensor] = []

        def stop(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.append(inputs[0])
            raise _Reached

        hook = self._first.register_forward_pre_hook(stop)
        try:
            self._scorer.forward_plainly([tree])
        except _Reached:
            pass
        finally:
            hook.remove()
        return found[0].clone()


def _pass_on(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden


def _side_by_side(hidden: Sequence[Tensor], pack: Pack) -> Tensor:
    """Trees as their pack lays them out: one after the other, or each padded to the widest."""
    if pack.trunks:
        return torch.cat(list(hidden), dim=1)
    width = pack.input_ids.shape[1]
    return torch.cat([functional.pad(each, (0, 0, 0, width - each.shape[1])) for each in hidden])


@contextmanager
def kept_trunk(scorer: Scorer, trained: Sequence[nn.Module] | None, folder: Path) -> Iterator[None]:
    """Have a scorer keep what lies below the trained layers, while the block lasts; nothing where all are trained.

    `folder` is for what does not fit into memory; it is gone afterwards.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if trained is None or len(trained) == len(decoder_layers(scorer.model)):
        yield
        return
    memory_bytes = int(MEMORY_SHARE * bytes_left(torch.device("cpu")))
    file_bytes = min(MOST_FILE_BYTES, int(DISK_SHARE * shutil.disk_usage(folder.parent).free))
    trunk = FrozenLayers(scorer, trained, Kept(memory_bytes=memory_bytes, folder=folder, file_bytes=file_bytes))
    scorer.trunk = trunk if _fits(scorer, trunk) else None
    try:
        yield
    finally:
        scorer.trunk = None
        shutil.rmtree(folder, ignore_errors=True)


@torch.no_grad()
def _fits(scorer: Scorer, trunk: FrozenLayers) -> bool:
    """Whether a model's layers hand on nothing but what they are given, found by trying."""
    trees = [TRIED.within(scorer.vocabulary)]
    expected = scorer.score(trees).logps
    scorer.trunk = trunk
    try:
        found = scorer.score(trees).logps
    except Exception as error:  # whatever a model's own code raises where it is called otherwise than it knows
        log.info("The frozen layers are computed anew in every step", extra={"fields": {"reason": str(error)}})
        return False
    finally:
        scorer.trunk = None
    coarse = scorer.autocast is not None or scorer.model.dtype is not torch.float32
    tolerance = _COARSE_TOLERANCE if coarse else _TOLERANCE
    fits = bool(((found - expected).abs() <= tolerance * expected.abs().clamp(min=1)).all())
    if not fits:
        log.info("The frozen layers are computed anew in every step", extra={"fields": {"reason": "numbers differ"}})
    return fits
