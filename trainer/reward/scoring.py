"""Rewards of completions: prompts read once and nothing padded where the model takes it, as for log-probabilities."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.completion_head import Distributions
from trainer.errors import ModelError
from trainer.logps import Scorer, Scores
from trainer.packing import Pack, Tokens, Tree, packed, padded
from trainer.reference import Kept, Reference
from trainer.reward.model import HEAD

log = logging.getLogger(__name__)

_TRIED = Tree((7, 11, 13, 17, 19), ((23, 29, 31, 37), (41, 43), (47,)))
_TOLERANCE = 1e-4
_COARSE_TOLERANCE = 0.1
"""Of a 16-bit format: two ways to compute the same differ by its rounding."""


class RewardScorer(Scorer):
    """Gives a completion's reward wherever a `Scorer` gives its log-probability, so that the loop can train it."""

    writes = False

    def __init__(self, model: PreTrainedModel, *, in_trees: bool, autocast: torch.dtype | None = None) -> None:
        super().__init__(model, in_trees=in_trees, own_head=False, autocast=autocast)

    @property
    def vocabulary(self) -> int:
        """Its head produces one number."""
        return 1

    def score(self, trees: Sequence[Tree], reference: Distributions | None = None) -> Scores:
        """The rewards of the trees' completions, as `logps`; no drift, which rewards do not have."""
        head: Any = self.model.get_submodule(HEAD)
        rewards: Tensor = head(self.at_ends(trees).to(head.weight.dtype)).squeeze(-1).double()
        nothing = torch.zeros(0, device=rewards.device)
        return Scores(logps=rewards, drift=nothing, offsets=nothing)

    def at_ends(self, trees: Sequence[Tree]) -> Tensor:
        """What the head is given at the last token of each completion, shape (completions, width)."""
        several = self._together(trees)
        if len(several) > 1:
            return torch.cat([self.at_ends(together) for together in several])
        pack = self._laid_out(trees)
        ends = torch.tensor(pack.counts, device=pack.predictors.device).cumsum(0) - 1
        with self._forgetting(pack), self._surrounded(pack) as arguments:
            found = self.model.base_model(input_ids=pack.input_ids, use_cache=False, **arguments)
        hidden: Tensor = found.last_hidden_state
        return hidden.flatten(0, 1)[pack.predictors[ends]]

    def _laid_out(self, trees: Sequence[Tree]) -> Pack:
        layout = packed if self.in_trees and not self._is_long(trees) else padded
        return layout([_one_more(tree) for tree in trees], device=self.model.device)

    def _fits(self, trees: Sequence[Tree]) -> bool:
        read = sum(tree.tokens for together in self._together(trees) for tree in together)
        if not self.in_trees:
            read = max(tree.longest for tree in trees) * sum(len(tree.completions) for tree in trees)
        return read <= self.limits.tokens


class NoReference(Reference):
    """Rewards are measured from nothing: where a policy has log-ratios to its reference, these are the rewards."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__(scorer, {}, Kept())

    def logps(self, sequences: Sequence[Tokens]) -> Tensor:
        """Zeros, shape (sequences,)."""
        return torch.zeros(len(sequences), dtype=torch.float64)


def _one_more(tree: Tree) -> Tree:
    """The tree with one more token after each completion: the last one of a completion is not read otherwise."""
    return Tree(tree.prompt, tuple((*completion, 0) for completion in tree.completions))


@torch.no_grad()
def fitting_reward_scorer(model: PreTrainedModel, *, autocast: torch.dtype | None = None) -> RewardScorer:
    """The fastest way that gives a model's own rewards. Raises ModelError where none does.

    With `autocast`, matrix products below the head are computed in that number format. What the head is given is
    compared, since a fresh head gives 0 whatever it is given.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tried = Tree(
        tuple(token % vocabulary for token in _TRIED.prompt),
        tuple(tuple(token % vocabulary for token in completion) for completion in _TRIED.completions),
    )
    expected = torch.stack([_by_itself(model, sequence) for sequence in tried.sequences])
    if not bool(expected.isfinite().all()):
        raise ModelError("The model computes values that are not numbers; its weights are damaged.")
    tolerance = _TOLERANCE if autocast is None else _COARSE_TOLERANCE
    reasons: list[str] = []
    for in_trees in (True, False):
        scorer = RewardScorer(model, in_trees=in_trees, autocast=autocast)
        try:
            difference = (scorer.at_ends([tried]) - expected).abs().max()
        except Exception as error:  # whatever a model's own code raises where it is called otherwise than it knows
            reasons.append(str(error))
            continue
        if bool(difference <= tolerance * expected.abs().max().clamp(min=1)):
            if reasons:
                log.info("Not every short cut is open", extra={"fields": {"reasons": reasons}})
            return scorer
        reasons.append("what its head is given differs")
    raise ModelError(f"Rewards of {type(model).__name__} cannot be computed: {'; '.join(reasons)}.")


def _by_itself(model: PreTrainedModel, sequence: Tokens) -> Tensor:
    """What the head is given at the last token in a plain forward of one sequence, shape (width,)."""
    given: list[Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        given.append(inputs[0][0, -1])

    hook = model.get_submodule(HEAD).register_forward_pre_hook(keep)
    try:
        model(input_ids=torch.tensor([[*sequence.prompt, *sequence.completion]], device=model.device), use_cache=False)
    finally:
        hook.remove()
    return given[0]
