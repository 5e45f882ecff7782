"""Held-out pairs under a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.contract.files import read_json, write_json
from trainer.contract.report import HeldOutReward, HeldOutRewards
from trainer.evaluate import favoured_share
from trainer.groups import PreferencePair, sides
from trainer.reward.scoring import RewardScorer


def held_out_rewards(scorer: RewardScorer, pairs: Sequence[PreferencePair]) -> HeldOutRewards:
    """The rewards of both sides of every pair, and the share in which the chosen one has more."""
    rewards = scorer.sequence_logps(sides(pairs))
    chosen, rejected = rewards[: len(pairs)], rewards[len(pairs) :]
    return HeldOutRewards(
        pairs=[
            HeldOutReward(
                prompt_id=pair.prompt_id,
                chosen_id=pair.chosen_id,
                rejected_id=pair.rejected_id,
                weight=pair.weight,
                chosen_reward=chosen[index],
                rejected_reward=rejected[index],
            )
            for index, pair in enumerate(pairs)
        ],
        prompts=len({pair.prompt_id for pair in pairs}),
        accuracy=favoured_share([best - worst for best, worst in zip(chosen, rejected, strict=True)]),
    )


def kept_rewards(path: Path, scorer: RewardScorer, pairs: Sequence[PreferencePair]) -> HeldOutRewards:
    """The same as an earlier start of the run kept it at `path`, else measured now and kept."""
    if not path.is_file():
        write_json(path, held_out_rewards(scorer, pairs))
    return read_json(path, HeldOutRewards)
