"""What moved though nobody asked for it: drift, length, repetition, refusals, malformed text, variety."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from app.training.evidence import Interval, paired_interval
from app.training.gate.checks import LEAST_PROMPTS, Check, Verdict, beside, interval_figures, percentage
from app.wording import gettext as _
from app.wording import mark as N_
from trainer.contract.report import Behaviour, PromptSamples, Sample

DRIFT_BOUND = 0.5
"""Nats per token from the reference, on the version's own samples. Trainings of the starter model that did what was
asked ended between 0.04 and 0.1, as did some that taught the wrong thing; with noise in its weights that cost it its
facts and its spelling the figure was 3.6, and 10 where only letters were left."""

LENGTH_FACTOR_BOUND = 2.5
"""Times longer, or shorter, than before. People may well prefer longer answers; threefold is seldom meant."""
LENGTH_FACTOR_NOTED = 1.3

UNFINISHED_RISE_BOUND = 0.25
"""More samples than before that run into the token limit instead of ending, as a share of all."""
UNFINISHED_RISE_NOTED = 0.05

REPETITION_RISE_BOUND = 0.10
"""More of a sample's word 3-grams that occurred before in it. Plain prose has about 0.02; loops have 0.5."""
REPETITION_RISE_NOTED = 0.03

REFUSAL_SHIFT_BOUND = 0.20
"""Share of samples that refuse or say they do not know, moved either way: a model that refuses what it answered,
and one that answers what it should not know, have both changed character."""
REFUSAL_SHIFT_NOTED = 0.07

MALFORMED_RISE_BOUND = 0.05
"""More samples that are broken whatever they say: empty, stuttering, broken bytes."""
MALFORMED_RISE_NOTED = 0.02

VARIETY_FALL_NOTED = 0.25
"""Fewer distinct samples per prompt. A narrow model is no danger, but it gives annotators little to compare."""


def behaviour_checks(before: Behaviour, after: Behaviour, samples: Sequence[PromptSamples]) -> list[Check]:
    """What else moved, on fresh samples of the same prompts with the same seeds."""
    paired = [prompt for prompt in samples if prompt.before and prompt.after]
    if not paired:
        return [_nothing_sampled()]
    return [
        _drift_check(before, after, paired),
        _length_check(before, after, paired),
        *(_share_check(share, before, after, paired) for share in SHARES),
        _variety_check(before, after, prompts=len(paired)),
    ]


def _nothing_sampled() -> Check:
    return Check(
        name="drift",
        title=_("Drift from the reference"),
        verdict=Verdict.UNCLEAR,
        warns=True,
        message=_("No samples could be drawn: every prompt is too long for the model to answer within its context."),
    )


def _drift_check(before: Behaviour, after: Behaviour, samples: Sequence[PromptSamples]) -> Check:
    drifts = [fmean(sample.drift for sample in prompt.after) for prompt in samples]
    interval = paired_interval(drifts, least=LEAST_PROMPTS)
    return _bounded(
        Check(
            name="drift",
            title=_("Drift from the reference"),
            verdict=Verdict.OK,
            before=before.drift,
            after=after.drift,
            effective=len(drifts),
            figures=interval_figures(interval),
            message=_(
                "KL to the reference on fresh samples: %(drift)s nats per token (before: %(drift2)s; at "
                "most %(drift_bound)s).",
                drift=beside(after.drift, DRIFT_BOUND),
                drift2=beside(before.drift, DRIFT_BOUND),
                drift_bound=f"{DRIFT_BOUND:g}",
            ),
        ),
        interval,
        beyond=after.drift > DRIFT_BOUND,
        noted=after.drift > DRIFT_BOUND / 2,
    )


def _length_check(before: Behaviour, after: Behaviour, samples: Sequence[PromptSamples]) -> Check:
    interval = _change(samples, lambda sample: float(sample.tokens))
    factor = (after.mean_tokens + 1) / (before.mean_tokens + 1)  # an empty completion still has its end token
    extent = max(factor, 1 / factor)
    return _bounded(
        Check(
            name="length",
            title=_("Length of completions"),
            verdict=Verdict.OK,
            before=before.mean_tokens,
            after=after.mean_tokens,
            effective=len(samples),
            figures={"factor": factor, **interval_figures(interval)},
            message=_(
                "%(mean_tokens)s tokens on average before, %(mean_tokens2)s after (%(factor)s times; at "
                "most %(length_factor_bound)s times longer or shorter).",
                mean_tokens=f"{before.mean_tokens:.1f}",
                mean_tokens2=f"{after.mean_tokens:.1f}",
                factor=beside(factor, LENGTH_FACTOR_BOUND),
                length_factor_bound=f"{LENGTH_FACTOR_BOUND:g}",
            ),
        ),
        interval,
        beyond=extent > LENGTH_FACTOR_BOUND,
        noted=extent > LENGTH_FACTOR_NOTED,
    )


@dataclass(frozen=True)
class Share:
    """A share (0 to 1) of what is sampled, and how far it may rise, or with `both_ways` move at all."""

    name: str
    title: str
    of_sample: Callable[[Sample], float]
    of_version: Callable[[Behaviour], float]
    noted: float
    bound: float
    both_ways: bool = False


SHARES = [
    Share(
        name="unfinished",
        title=N_("Samples cut off at the token limit"),
        of_sample=lambda sample: float(not sample.finished),
        of_version=lambda behaviour: behaviour.unfinished_share,
        noted=UNFINISHED_RISE_NOTED,
        bound=UNFINISHED_RISE_BOUND,
    ),
    Share(
        name="repetition",
        title=N_("Repetition within samples"),
        of_sample=lambda sample: sample.repetition,
        of_version=lambda behaviour: behaviour.repetition,
        noted=REPETITION_RISE_NOTED,
        bound=REPETITION_RISE_BOUND,
    ),
    Share(
        name="refusals",
        title=N_("Refusals and “I do not know”"),
        of_sample=lambda sample: float(sample.refusal),
        of_version=lambda behaviour: behaviour.refusal_share,
        noted=REFUSAL_SHIFT_NOTED,
        bound=REFUSAL_SHIFT_BOUND,
        both_ways=True,
    ),
    Share(
        name="malformed_text",
        title=N_("Malformed text"),
        of_sample=lambda sample: float(sample.malformed),
        of_version=lambda behaviour: behaviour.malformed_share,
        noted=MALFORMED_RISE_NOTED,
        bound=MALFORMED_RISE_BOUND,
    ),
]


def _share_check(share: Share, before: Behaviour, after: Behaviour, samples: Sequence[PromptSamples]) -> Check:
    interval = _change(samples, share.of_sample)
    earlier, later = share.of_version(before), share.of_version(after)
    rise = later - earlier
    extent = abs(rise) if share.both_ways else rise
    direction = _("either way") if share.both_ways else "more"
    found = Check(
        name=share.name,
        title=_(share.title),
        verdict=Verdict.OK,
        before=earlier,
        after=later,
        effective=len(samples),
        figures=interval_figures(interval),
        message=_(
            "%(before)s before, %(after)s after (%(rise)s points; at most %(bound)s %(direction)s).",
            before=percentage(earlier, 1),
            after=percentage(later, 1),
            rise=f"{round(100 * rise, 1) + 0.0:+.1f}",
            bound=f"{100 * share.bound:g}",
            direction=direction,
        ),
    )
    if rise < 0 and not share.both_ways and interval.excludes(0):
        return found.model_copy(update={"verdict": Verdict.BETTER})
    return _bounded(found, interval, beyond=extent > share.bound, noted=extent > share.noted)


def _variety_check(before: Behaviour, after: Behaviour, *, prompts: int) -> Check:
    fall = before.distinct_share - after.distinct_share
    return Check(
        name="variety",
        title=_("Distinct samples per prompt"),
        verdict=Verdict.OK,
        warns=fall > VARIETY_FALL_NOTED,
        before=before.distinct_share,
        after=after.distinct_share,
        effective=prompts,
        message=_(
            "%(percentage)s of a prompt's samples differed before, %(percentage2)s after. Where they "
            "are all alike there is nothing to compare.",
            percentage=percentage(before.distinct_share),
            percentage2=percentage(after.distinct_share),
        ),
    )


def _bounded(check: Check, interval: Interval, *, beyond: bool, noted: bool) -> Check:
    """The verdict on something that should stay within a bound, given the interval of its change."""
    provable = interval.low is not None
    if beyond and (interval.excludes(0) or not provable):
        return check.model_copy(update={"verdict": Verdict.WORSE, "blocks": True})
    if beyond:
        message = _("%(message)s Beyond the bound, though it may be chance.", message=check.message)
        return check.model_copy(update={"verdict": Verdict.UNCLEAR, "warns": True, "message": message})
    if noted and interval.excludes(0):
        message = _("%(message)s Within the bound, but more than chance explains.", message=check.message)
        return check.model_copy(update={"warns": True, "message": message})
    return check


def _change(samples: Sequence[PromptSamples], value: Callable[[Sample], float]) -> Interval:
    changes = [fmean(map(value, prompt.after)) - fmean(map(value, prompt.before)) for prompt in samples]
    return paired_interval(changes, least=LEAST_PROMPTS)
