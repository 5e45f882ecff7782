"""What the line's reward model thinks of the fresh samples. It warns and never blocks: it learnt from the same
judgments as the version that it looks at, so it is no independent judge.
"""

from collections.abc import Sequence
from statistics import fmean

from app.training.evidence import Interval, paired_interval
from app.training.gate.checks import LEAST_PROMPTS, Check, Verdict, interval_figures
from app.wording import gettext as _
from trainer.contract.report import PromptSamples, Sample


def reward_checks(samples: Sequence[PromptSamples]) -> list[Check]:
    """The check of mean rewards before and after, paired by prompt; none where no reward model was asked."""
    paired = [
        (fmean(earlier), fmean(later))
        for prompt in samples
        if (earlier := _rewards(prompt.before)) and (later := _rewards(prompt.after))
    ]
    if not paired:
        return []
    interval = paired_interval([later - earlier for earlier, later in paired], least=LEAST_PROMPTS)
    verdict = _verdict(interval)
    before, after = (fmean(side) for side in zip(*paired, strict=True))
    return [
        Check(
            name="sample_rewards",
            title=_("Reward of fresh samples"),
            verdict=verdict,
            warns=verdict is Verdict.WORSE,
            before=before,
            after=after,
            effective=len(paired),
            figures=interval_figures(interval),
            message=_(
                "%(before)s on average before, %(after)s after, on the same %(prompts)s prompts, by the line's reward "
                "model. That learnt from the same judgments as this version, so it is no independent judge: what "
                "pleases it may please nobody else. It never blocks.",
                before=f"{before:+.2f}",
                after=f"{after:+.2f}",
                prompts=len(paired),
            ),
        )
    ]


def _rewards(samples: Sequence[Sample]) -> list[float]:
    return [sample.reward for sample in samples if sample.reward is not None]


def _verdict(interval: Interval) -> Verdict:
    if not interval.excludes(0):
        return Verdict.UNCLEAR
    return Verdict.BETTER if interval.mean > 0 else Verdict.WORSE
