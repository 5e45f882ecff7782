"""How much goes through a model at once: what memory is left, and how much of it a token of training takes.

Measured once, when a run first starts, and kept with the run: in which parts a batch is computed shows in the last bits
of a gradient, so a run taken up again must not measure anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from transformers import DynamicCache, PreTrainedModel

from trainer.allocator import give_back_freed_memory
from trainer.completion_head import Distributions
from trainer.contract.base import Contract
from trainer.models import context_tokens
from trainer.packing import Tree

if TYPE_CHECKING:
    from trainer.logps import Scorer

SHARE = 0.5
"""Of the memory that is left, for what is kept between forward and backward; the rest is for what passes."""
REFERENCE_SHARE = 0.25
"""Of the memory that is left, the most for what is kept of the reference throughout."""
REFERENCE_BYTES = 512 * 2**20
"""The most that is kept of it, however much is left."""
HEAP_BYTES = 128 * 2**20
"""What libraries take as they are first used, and what lies between allocations: some 140 MB were seen in runs of 22
million parameters, of which the rest of what is left can bear a little."""
BYTES_OF_A_NUMBER = 4
BYTES_OF_A_DRAWN_LOGIT = 52
"""Where a nucleus is so wide that all of the vocabulary is sorted for it, with the numbers of its tokens."""
_LEAST_TOKENS, _LEAST_LOGITS = 256, 1_000_000
_CGROUP = Path("/sys/fs/cgroup")


class Limits(Contract):
    """The most that one forward takes; one tree at the least, whatever they say."""

    tokens: Annotated[int, Field(ge=1)] = 16_384
    """Read at once, padding included."""
    logits: Annotated[int, Field(ge=1)] = 64_000_000
    """Numbers that the head produces at once and keeps: completion tokens times vocabulary."""
    reference_bytes: Annotated[int, Field(ge=0)] = REFERENCE_BYTES
    """For what is kept of the reference's distributions over the training completions."""
    drawn_tokens: Annotated[int, Field(ge=1)] = 65_536
    """In the caches of all completions that are drawn at once, prompts included."""
    drawn_logits: Annotated[int, Field(ge=1)] = 16_000_000
    """Numbers that the head produces at once for their next tokens."""
    recompute: bool = False
    """Whether layers keep nothing for the backward pass but what they were given (gradient checkpointing)."""

    def halved(self) -> Limits:
        """Half of what is computed at once, for when memory ran out, and layers that keep less."""
        halves = {"tokens": max(1, self.tokens // 2), "logits": max(1, self.logits // 2)}
        return self.model_copy(update={**halves, "recompute": True})

    @property
    def can_be_halved(self) -> bool:
        """Whether less would be tried with any hope."""
        return self.tokens > _LEAST_TOKENS or self.logits > _LEAST_LOGITS


MOST_ON_A_GPU = Limits(tokens=65_536, logits=1_000_000_000)
"""A forward and backward of a few thousand tokens has a GPU wait for its next kernel most of the time."""


def fitting_limits(
    scorer: Scorer,
    trees: Sequence[Tree] = (),
    *,
    drifts: bool = False,
    device: torch.device | None = None,
    shares: int = 1,
) -> Limits:
    """What memory allows now, at most the defaults: more would be no faster.

    What training takes however little goes through at once comes first (`bytes_to_train_in`), then what is kept of a
    reference, where the loss `drifts` from one. Where the longest of `trees`, which is never divided, does not fit,
    layers keep less.
    """
    device = device or scorer.model.device
    most = MOST_ON_A_GPU if device.type == "cuda" else Limits()
    left = max(0, bytes_to_train_in(scorer.model, device, shares))
    of_reference = min(REFERENCE_BYTES, int(REFERENCE_SHARE * left))
    room = int(SHARE * (left - (of_reference if drifts else 0)))
    each = bytes_per_token(scorer)
    layers = scorer.model.config.get_text_config().num_hidden_layers
    drawn_token = max(1, each // layers + (bytes_in_cache(scorer.model) if scorer.writes else 0))
    recompute = max((scorer.read_tokens([tree]) for tree in trees), default=0) * each > room // 2
    if recompute:
        each = _recomputed_bytes_per_token(scorer, each)
    return Limits(
        tokens=min(most.tokens, max(_LEAST_TOKENS, room // 2 // max(1, each))),
        logits=min(most.logits, max(_LEAST_LOGITS, room // 2 // bytes_per_logit(scorer, drifts=drifts))),
        reference_bytes=of_reference,
        drawn_tokens=min(most.drawn_tokens, max(_LEAST_TOKENS, room // 2 // drawn_token)),
        drawn_logits=min(most.drawn_logits, max(_LEAST_LOGITS, room // 2 // BYTES_OF_A_DRAWN_LOGIT)),
        recompute=recompute,
    )


def bytes_to_train_in(model: PreTrainedModel, device: torch.device, shares: int = 1) -> int:
    """What is left beside all that training takes however little goes through at once; below zero where that lacks.

    A model that is yet to go to `device`, one of so many `shares` of it, takes room there too, and its reference.
    """
    is_there = device.type == model.device.type
    to_come = 0 if is_there else sum(weight.nbytes for weight in model.parameters())
    heap = HEAP_BYTES if device.type == "cpu" else 0
    return bytes_left(device) - heap - (fixed_bytes(model) + 2 * to_come) // shares


def fixed_bytes(model: PreTrainedModel) -> int:
    """What training takes beside what the model does already: gradients and their two moments, and the largest gradient
    twice more, as a matrix that is both embedding and head gets one from either end before they are added up. Weights
    that are still pages of the file they came from take memory once an update writes to them."""
    files = _mapped_files()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    of_a_file = [each for each in trained if any(begin <= each.data_ptr() < end for begin, end in files)]
    sizes = [int(each.nbytes) for each in trained]
    return 3 * sum(sizes) + 2 * max(sizes, default=0) + sum(int(each.nbytes) for each in of_a_file)


def _mapped_files() -> list[tuple[int, int]]:
    """Where files lie in this process's memory: begin and end of each; none but on Linux."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    places = [line.split(maxsplit=5) for line in lines]
    bounds = [place[0].split("-") for place in places if len(place) > 5 and place[5].startswith("/")]
    return [(int(begin, 16), int(end, 16)) for begin, end in bounds]


def _recomputed_bytes_per_token(scorer: Scorer, kept: int) -> int:
    """What is kept of a token where layers compute anew: what each was given, and all of the one that is at it."""
    config = scorer.model.config.get_text_config()
    layers = config.num_hidden_layers
    return int(layers * config.hidden_size * scorer.model.dtype.itemsize + kept // layers)


def bytes_per_token(scorer: Scorer) -> int:
    """What a forward keeps for its backward per token that it reads, the head's logits apart.

    The difference between a longer prompt and a shorter one, with the same completion.
    """
    return _growth(scorer.model, lambda count: _kept_bytes(scorer, Tree((0,) * count, ((0, 0),))))


def bytes_per_logit(scorer: Scorer, *, drifts: bool) -> int:
    """What is kept of each number that the head produces: the difference between a longer completion and a shorter one.

    Where the loss `drifts` from a reference, the reference's are among it. A head that is the model's own has gradients
    of that size beside.
    """

    def kept(count: int) -> int:
        tree = Tree((0,), ((0,) * count,))
        return _kept_bytes(scorer, tree, scorer.distributions([tree]) if drifts else None)

    of_head = (_growth(scorer.model, kept) - bytes_per_token(scorer)) // scorer.vocabulary
    return max(BYTES_OF_A_NUMBER, of_head + (2 * BYTES_OF_A_NUMBER if scorer.own_head else 0))


@torch.no_grad()
def bytes_in_cache(model: PreTrainedModel) -> int:
    """What is kept of a token while completions are drawn: its keys and values."""

    def kept(count: int) -> int:
        cache = DynamicCache(config=model.config)
        token_ids = torch.zeros(1, count, dtype=torch.long, device=model.device)
        model.base_model(input_ids=token_ids, past_key_values=cache, use_cache=True)
        held = [value for layer in cache.layers for value in vars(layer).values()]
        return sum(tensor.nbytes for tensor in held if isinstance(tensor, torch.Tensor))

    return _growth(model, kept)


def _growth(model: PreTrainedModel, kept: Callable[[int], int]) -> int:
    """By how many bytes what is kept grows with a token."""
    long = min(40, context_tokens(model) - 2)
    short = max(1, long // 5)
    return (kept(long) - kept(short)) // max(1, long - short)


def _kept_bytes(scorer: Scorer, tree: Tree, reference: Distributions | None = None) -> int:
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in scorer.model.parameters()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        scorer.score([tree], reference)
    return sum(count for place, count in seen.items() if place not in weights)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on the machine or on the accelerator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def bytes_left(device: torch.device) -> int:
    """Memory that this process may still take, on the machine or in its control group. What the process holds and does
    not use counts as well: of a GPU's it stays with torch, of the machine's it is given back first."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    give_back_freed_memory()
    return min([_available(), *_left_in_groups()])


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("MemAvailable:")]
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):  # no Linux: what most machines have
        return 4 * 2**30


def _left_in_groups() -> Iterator[int]:
    """What the control groups of this process leave, those above it too; cached files do not count as taken."""
    for folder in _groups():
        for most, taken in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                limit = int((folder / most).read_text())
                used = int((folder / taken).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            yield max(0, limit - used + int(stat.get("inactive_file", 0)))


def _groups() -> Iterator[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in {"", "memory"}:
            root = _CGROUP / controllers
            folder = root / path.lstrip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(root))
