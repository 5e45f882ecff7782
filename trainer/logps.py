"""Log-probabilities of completions under a model: exact, for completion tokens alone, each sequence computed once.

There are two ways to lay sequences out and two to compute the head, and all give the same numbers. **In trees**, every
prompt is read once and nothing is padded (`packing`, `tree_attention`); **padded**, sequences stand one below the
other, right for any causal model, as nothing looks to the right. Where the length of what is read matters (`rope`), a
long sequence has a forward of its own. The **fused** head (`completion_head`) knows heads
that are one matrix; the model's **own** head may do more to its logits. `fitting_scorer` finds out by trying what a
model takes.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from trainer.completion_head import Distributions, completion_logps
from trainer.contract.run import Matrices
from trainer.errors import ModelError, NotNumbersError
from trainer.matrices import multiplied_by
from trainer.memory import Limits
from trainer.objectives.terms import drift_kl
from trainer.packing import Pack, Tokens, Tree, packed, padded, runs_that_fit, trees_of
from trainer.recomputing import recomputed
from trainer.rope import forget_longest, most_tokens_read_alike
from trainer.sharding import is_sharded
from trainer.tree_attention import TREE_ATTENTION

if TYPE_CHECKING:
    from trainer.trunk import FrozenLayers

log = logging.getLogger(__name__)

TRIED = Tree((7, 11, 13, 17, 19), ((23, 29, 31, 37), (41, 43), (47,)))
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_LARGE_LOGIT = 100.0
"""What a head is tried with, as some models bend large logits alone."""
_COARSE_TOLERANCE = 0.1
"""Nats of a 16-bit format: two ways to compute the same log-probability differ by its rounding."""


@dataclass(frozen=True)
class Scores:
    """What a forward says of the completions of some trees.

    `logps` in nats, float64, shape (completions,); `drift` is KL(reference || policy) at each completion token in nats,
    zeros where no reference was given, and `offsets` the token's number in its completion, both of shape (tokens,).
    """

    logps: Tensor
    drift: Tensor
    offsets: Tensor


class Scorer:
    """Computes log-probabilities of completions in one of the ways above."""

    writes = True
    """Whether completions can be drawn from its model."""

    def __init__(
        self, model: PreTrainedModel, *, in_trees: bool, own_head: bool, autocast: torch.dtype | None = None
    ) -> None:
        self.model = model
        self.in_trees = in_trees
        self.own_head = own_head
        self.autocast = autocast
        """Number format of matrix products, where it is not that of the weights."""
        self.read_alike = most_tokens_read_alike(model)
        """Tokens of the longest sequence that may be read together with others."""
        self.limits = Limits()
        self.matrices = Matrices.TORCH
        """What multiplies matrices."""
        self.trunk: FrozenLayers | None = None
        """What keeps the frozen layers' results, where only the topmost are trained."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the head scores."""
        return vocabulary_size(self.model)

    def score(self, trees: Sequence[Tree], reference: Distributions | None = None) -> Scores:
        """One forward over the trees; `reference` says what the reference does of the same trees."""
        pack = self._laid_out(trees)
        found = self._forward(trees, pack)
        if self.own_head:
            logps = found.gather(-1, pack.targets.unsqueeze(-1)).squeeze(-1)
            drift = torch.zeros_like(logps)
            if reference:
                drift = drift_kl(found, reference[:])
        else:
            head: Any = self.model.get_output_embeddings()
            bias = getattr(head, "bias", None)
            bias = None if bias is None else self._cast(bias)
            weight = self._cast(head.weight)
            logps, drift = completion_logps(
                found,
                weight,
                bias,
                pack.targets,
                reference,
                matrices=self.matrices,
                most_kept=self.limits.logits,
            )
        return Scores(logps=pack.summed(logps), drift=drift, offsets=pack.offsets)

    @torch.no_grad()
    def distributions(self, trees: Sequence[Tree]) -> Distributions:
        """Log-probabilities of the whole vocabulary at each completion token."""
        found = self._forward(trees, self._laid_out(trees))
        return Distributions(found) if self.own_head else self.distributions_from(found)

    @torch.no_grad()
    def hidden(self, trees: Sequence[Tree]) -> Tensor:
        """What the head is given at each completion token, shape (tokens, width); of a head that is one matrix."""
        return self._forward(trees, self._laid_out(trees))

    def distributions_from(self, hidden: Tensor) -> Distributions:
        """The `distributions` of tokens from their `hidden`."""
        return Distributions(hidden, self.model.get_output_embeddings())

    @torch.no_grad()
    def sequence_logps(self, sequences: Sequence[Tokens]) -> list[float]:
        """log p(completion | prompt) of each sequence, in nats, summed over its completion tokens.

        Raises NotNumbersError where the model computes NaN.
        """
        logps: dict[Tokens, float] = {}
        for trees in self.in_parts(trees_of(sequences)):
            sums = self.score(trees).logps.tolist()
            logps |= zip((sequence for tree in trees for sequence in tree.sequences), sums, strict=True)
        if any(math.isnan(logp) for logp in logps.values()):
            raise NotNumbersError
        return [logps[sequence] for sequence in sequences]

    def in_parts(self, trees: Sequence[Tree]) -> Iterator[list[Tree]]:
        """The trees, longest first, in parts whose forward fits in memory; one tree at the least."""
        longest_first = sorted(trees, key=lambda tree: -tree.longest)
        return runs_that_fit(longest_first, self._fits)

    def read_tokens(self, trees: Sequence[Tree]) -> int:
        """Tokens that one forward over the trees reads, padding included."""
        if self.in_trees:
            return sum(tree.read_tokens for together in self._together(trees) for tree in together)
        return max(tree.longest for tree in trees) * sum(len(tree.completions) for tree in trees)

    def _fits(self, trees: Sequence[Tree]) -> bool:
        read = self.read_tokens(trees)
        scored = sum(tree.scored_tokens for tree in trees)
        return read <= self.limits.tokens and scored * vocabulary_size(self.model) <= self.limits.logits

    def _together(self, trees: Sequence[Tree]) -> list[list[Tree]]:
        """The trees, in order, by what one forward may read: a sequence that is too long for others, alone."""
        if not self._is_long(trees):
            return [[*trees]]
        divided = [each for tree in trees for each in (tree.apart if self._is_long([tree]) else [tree])]
        runs = [(is_long, [*run]) for is_long, run in groupby(divided, key=lambda tree: self._is_long([tree]))]
        return [together for is_long, run in runs for together in ([[tree] for tree in run] if is_long else [run])]

    def _is_long(self, trees: Sequence[Tree]) -> bool:
        return max(tree.longest for tree in trees) > self.read_alike

    def _laid_out(self, trees: Sequence[Tree]) -> Pack:
        if self._is_long(trees):
            return padded(trees, whole=True, device=self.model.device)
        return (packed if self.in_trees else padded)(trees, device=self.model.device)

    def forward_plainly(self, trees: Sequence[Tree]) -> None:
        """One forward over the trees through every layer, for who listens at some of them."""
        self._through_layers(self._laid_out(trees))

    def _forward(self, trees: Sequence[Tree], pack: Pack) -> Tensor:
        """At each completion token what the head is given (tokens, width); with the own head, log-probabilities."""
        several = self._together(trees)
        if len(several) > 1:
            self._refuse_to_share()
            return torch.cat([self._forward(together, self._laid_out(together)) for together in several])
        given: list[Tensor] = []

        def keep_completions(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            chosen = inputs[0].flatten(0, 1)[pack.predictors]
            given.append(chosen)
            return ((chosen if self.own_head else chosen[:0]).unsqueeze(0), *inputs[1:])

        hook = self.model.get_output_embeddings().register_forward_pre_hook(keep_completions)
        try:
            with self._forgetting(pack), self.trunk.standing_in(trees, pack) if self.trunk else nullcontext():
                logits = self._through_layers(pack)
        finally:
            hook.remove()
        if not self.own_head:
            return self._cast(given[0])
        return torch.log_softmax(_wide(logits.squeeze(0)), dim=-1)

    def _through_layers(self, pack: Pack) -> Tensor:
        with self._surrounded(pack) as arguments:
            logits: Tensor = self.model(input_ids=pack.input_ids, use_cache=False, **arguments).logits
        return logits

    def _forgetting(self, pack: Pack) -> AbstractContextManager[None]:
        if not (self.limits.recompute and torch.is_grad_enabled()):
            return nullcontext()
        return recomputed(self.model, lambda: self._surrounded(pack))

    @contextmanager
    def _surrounded(self, pack: Pack) -> Iterator[dict[str, Any]]:
        """What a forward is within, and each layer of it that is computed anew; gives the forward's arguments."""
        if self.read_alike < sys.maxsize:
            forget_longest(self.model)
        autocasting = torch.autocast(self.model.device.type, self.autocast, enabled=self.autocast is not None)
        with attention_over(self.model, pack) as arguments, autocasting, multiplied_by(self.matrices):
            yield arguments

    def _refuse_to_share(self) -> None:
        """A sharded model needs as many forwards of every rank, and how many there are depends on what each reads."""
        if is_sharded(self.model):
            raise ModelError(
                f"Sequences of more than {self.read_alike} tokens are read one by one by {type(self.model).__name__}, "
                "which ranks that share a model cannot do. Start the run unsharded, or with a lower max_tokens."
            )

    def _cast(self, tensor: Tensor) -> Tensor:
        """What autocast does, by hand where it does not reach."""
        return tensor if self.autocast is None else tensor.to(self.autocast)


@contextmanager
def attention_over(model: PreTrainedModel, pack: Pack) -> Iterator[dict[str, Any]]:
    """The attention that a pack needs, for one forward; gives the arguments of that forward."""
    if not pack.trunks:
        yield {}
        return
    as_it_was = model.config._attn_implementation
    model.set_attn_implementation(TREE_ATTENTION)
    try:
        yield {"position_ids": pack.position_ids, "pack": pack}
    finally:
        model.set_attn_implementation(as_it_was)


@torch.no_grad()
def fitting_scorer(model: PreTrainedModel, *, autocast: torch.dtype | None = None) -> Scorer:
    """The fastest way that gives a model's own log-probabilities. Raises ModelError where none does.

    With `autocast`, matrix products are computed in that number format.
    """
    tried = TRIED.within(vocabulary_size(model))
    expected = torch.tensor([_by_itself(model, sequence) for sequence in tried.sequences], dtype=torch.float64)
    if not bool(expected.isfinite().all()):
        raise ModelError("The model computes values that are not numbers; its weights are damaged.")
    tolerance = _TOLERANCE.get(autocast or model.dtype, _COARSE_TOLERANCE)
    reasons: list[str] = []
    own_head = not _head_is_a_matrix(model)
    for in_trees in (True, False):
        scorer = Scorer(model, in_trees=in_trees, own_head=own_head, autocast=autocast)
        try:
            found = scorer.score([tried]).logps.cpu()
        except Exception as error:  # whatever a model's own code raises where it is called otherwise than it knows
            reasons.append(str(error))
            continue
        if bool(((found - expected).abs() <= tolerance * expected.abs().clamp(min=1)).all()):
            if reasons:
                log.info("Not every short cut is open", extra={"fields": {"reasons": reasons}})
            return scorer
        reasons.append("the log-probabilities differ")
    raise ModelError(f"Log-probabilities of {type(model).__name__} cannot be computed: {'; '.join(reasons)}.")


def _head_is_a_matrix(model: PreTrainedModel) -> bool:
    """Whether logits are the head's matrix times what it is given, and its bias, with nothing done to them after."""
    head: Any = model.get_output_embeddings()
    expected: list[Tensor] = []

    def enlarge(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        logits = functional.linear(inputs[0], head.weight)
        larger = inputs[0] * (_LARGE_LOGIT / logits.abs().max())
        expected.append(functional.linear(larger, head.weight, getattr(head, "bias", None)))
        return (larger, *inputs[1:])

    hook = head.register_forward_pre_hook(enlarge)
    try:
        logits: Tensor = model(input_ids=torch.tensor([[0, 1, 2]], device=model.device), use_cache=False).logits
        difference = _wide(logits - expected[0]).abs().max()
    except Exception:  # no such head, whatever its code says of it
        return False
    finally:
        hook.remove()
    return bool(difference <= _LARGE_LOGIT * _TOLERANCE.get(model.dtype, _COARSE_TOLERANCE))


def _by_itself(model: PreTrainedModel, sequence: Tokens) -> float:
    """log p(completion | prompt) by a plain forward of one sequence."""
    token_ids = torch.tensor([[*sequence.prompt, *sequence.completion]], device=model.device)
    logits: Tensor = model(input_ids=token_ids, use_cache=False).logits[0, len(sequence.prompt) - 1 : -1]
    targets = token_ids[0, len(sequence.prompt) :, None]
    return float(_wide(logits).log_softmax(-1).gather(-1, targets).double().sum())


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many tokens the model's head scores."""
    return int(model.get_output_embeddings().weight.shape[0])


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
