"""The curves of a run, each with a sentence for those who are no engineers, and the charts of one run or of several."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from app.training.chart import Chart, Curve, line_chart
from app.wording import gettext as _
from app.wording import mark as N_
from trainer.contract.run import MetricsRow, Stage

Value = Callable[[MetricsRow], float | None]


@dataclass(frozen=True)
class Trace:
    """One line of a chart. `dotted`: its points are few, and each is marked."""

    label: str
    value: Value
    dotted: bool = True


@dataclass(frozen=True)
class Measure:
    """One chart of a run. Of several runs, only the first of its traces is compared, under `compared`."""

    name: str
    title: str
    compared: str
    note: str
    """What to make of it, in a sentence."""
    compared_note: str
    """Likewise, of several runs."""
    traces: tuple[Trace, ...]
    as_percent: bool = False
    hangs_on: tuple[str, ...] = ()
    """Settings that make it another measure: runs that differ in one are not drawn on the same axes."""


IN_THE_LOSS = (
    "method", "reference", "beta", "gamma", "likelihood_weight", "drift_weight", "drift_skip_tokens", "rankings",
    "label_smoothing", "strength_margin", "reliability", "overall_weight", "criteria_weights", "demonstration_epochs",
)  # fmt: skip
"""What the loss is made of: the same model has another one where any of it differs."""

MEASURES = (
    Measure(
        name="loss",
        title=N_("Loss"),
        compared=N_("Loss"),
        note=N_("What training makes smaller. It should fall, first fast, then slowly; small jumps are normal."),
        compared_note=N_("What training makes smaller. Lower is not better: see how often each agrees with people."),
        traces=(Trace(N_("Loss"), lambda row: row.loss, dotted=False),),
        hangs_on=IN_THE_LOSS,
    ),
    Measure(
        name="accuracy",
        title=N_("Held-out accuracy"),
        compared=N_("Held-out accuracy"),
        note=N_(
            "How often it prefers what people preferred, on pairs kept aside. It should rise; half is guessing, and "
            "where it falls again, it learns by heart."
        ),
        compared_note=N_("How often each prefers what people preferred, on pairs kept aside. Half is guessing."),
        traces=(Trace(N_("Held-out accuracy"), lambda row: row.held_out_accuracy),),
        as_percent=True,
    ),
    Measure(
        name="margin",
        title=N_("Margin"),
        compared=N_("Margin on held-out pairs"),
        note=N_(
            "How much more it has come to favour the better of two completions. It should rise above 0, on the pairs "
            "kept aside too; where only the other line rises, it learns by heart."
        ),
        compared_note=N_("How much more each has come to favour the better of two completions, on pairs kept aside."),
        traces=(
            Trace(N_("Pairs kept aside"), lambda row: row.held_out_margin),
            Trace(N_("Pairs in training"), lambda row: row.margin, dotted=False),
        ),
        hangs_on=("reference", "beta"),
    ),
    Measure(
        name="logps",
        title=N_("Log-probability of held-out completions"),
        compared=N_("Log-probability of chosen held-out completions"),
        note=N_(
            "How likely it is to write what people chose, and what they rejected; higher is likelier. The lines should "
            "part. Where both fall far, it forgets how to write the good ones too."
        ),
        compared_note=N_("How likely each is to write what people chose, on pairs kept aside; higher is likelier."),
        traces=(
            Trace(N_("Chosen"), lambda row: row.held_out_chosen_logp),
            Trace(N_("Rejected"), lambda row: row.held_out_rejected_logp),
        ),
    ),
    Measure(
        name="kl",
        title=N_("Distance from the reference (KL)"),
        compared=N_("Distance from the reference (KL)"),
        note=N_(
            "How differently it writes by now from the model that it is compared with, in nats per token. 0 is not at "
            "all, 0.1 is usual, and above 0.25 it may lose what it knew. Each point rests on a few samples: a rough "
            "guide. The gate measures it on many more."
        ),
        compared_note=N_(
            "How differently each writes by now from the model that it is compared with, in nats per token. Each point "
            "rests on a few samples: a rough guide."
        ),
        traces=(Trace(N_("KL"), lambda row: row.sample_kl),),
        hangs_on=("reference",),
    ),
    Measure(
        name="length",
        title=N_("Length of what it writes"),
        compared=N_("Length of what it writes"),
        note=N_(
            "How many tokens its samples have on average. People may well prefer longer or shorter ones; where they "
            "grow or shrink severalfold, look at what it writes."
        ),
        compared_note=N_("How many tokens the samples of each have on average."),
        traces=(Trace(N_("Tokens"), lambda row: row.sample_tokens),),
    ),
)


def charts_of(metrics: Sequence[MetricsRow]) -> list[Chart]:
    """The charts of one run, as far as there is anything to draw."""
    drawn = [
        line_chart(
            [Curve(_(trace.label), _points(metrics, trace.value), dotted=trace.dotted) for trace in measure.traces],
            name=measure.name,
            title=_(measure.title),
            note=_(measure.note),
            last_x=_last_step(metrics),
            as_percent=measure.as_percent,
        )
        for measure in MEASURES
    ]
    return [chart for chart in drawn if chart is not None]


def overlaid_charts(
    runs: Sequence[tuple[str, Sequence[MetricsRow]]], *, differing: Collection[str] = ()
) -> list[Chart]:
    """The charts of several runs, each a line of its own under its name, but for those that `left_out` tells of."""
    drawn = []
    for measure in MEASURES:
        if _blamed(measure, differing):
            continue
        trace = measure.traces[0]
        chart = line_chart(
            [Curve(name, _points(metrics, trace.value), dotted=trace.dotted) for name, metrics in runs],
            name=measure.name,
            title=_(measure.compared),
            note=_(measure.compared_note),
            last_x=max((_last_step(metrics) for _name, metrics in runs), default=0),
            as_percent=measure.as_percent,
        )
        drawn.append(chart)
    return [chart for chart in drawn if chart is not None]


def left_out(differing: Collection[str]) -> list[tuple[str, list[str]]]:
    """What is not drawn of runs that differ in these settings: its title, and those of them that it hangs on."""
    told = [(measure.compared, _blamed(measure, differing)) for measure in MEASURES]
    return [(_(title), settings) for title, settings in told if settings]


def _blamed(measure: Measure, differing: Collection[str]) -> list[str]:
    return [name for name in measure.hangs_on if name in differing]


def _last_step(metrics: Sequence[MetricsRow]) -> int:
    return max((row.total_steps for row in metrics), default=0)


def _points(metrics: Sequence[MetricsRow], value: Value) -> list[tuple[float, float]]:
    """The value by step, in training and of the start."""
    found = ((row.step, value(row)) for row in metrics if row.stage in {Stage.BEFORE, Stage.TRAINING})
    return [(float(step), y) for step, y in found if y is not None]
