"""The geometry of a small line chart, drawn by the server: points and ticks in the units of an SVG's view box.

Where scripts run, static/js/charts.js draws it anew from the table that goes with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.wording import gettext as _

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 30
"""Margins around the plot, for the labels of the axes."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Dot:
    """One value, for the pointer to rest on."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Value:
    """One row of the table behind a chart: the value as it is, and as people read it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Everything that a template needs to draw one line."""

    name: str
    """Tells the charts of a page apart."""
    title: str
    summary: str
    """What the chart shows, in a sentence, for those who do not see it."""
    rows: list[Value]
    last_x: float
    as_percent: bool
    points: str
    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def line_chart(
    points: Sequence[tuple[float, float]],
    *,
    name: str,
    title: str,
    last_x: float,
    as_percent: bool = False,
    dotted: bool = False,
    beside: Sequence[float] = (),
) -> Chart | None:
    """A chart of (x, y) points in order of x, up to `last_x`; None without any point.

    A share (`as_percent`) has the whole range from 0 to 1 as its axis, anything else a round range around its values
    and those of charts `beside` it, so that heights can be compared.
    """
    if not points:
        return None
    values = [y for _, y in points]
    low, high, step = (0.0, 1.0, 0.25) if as_percent else round_range(min([*values, *beside]), max([*values, *beside]))
    most_x = max(last_x, points[-1][0], 1)
    plotted = [(_across(x / most_x), _up((y - low) / (high - low))) for x, y in points]
    shown = [f"{100 * y:.0f} %" if as_percent else f"{y:.3g}" for y in values]
    dots = [
        Dot(x, y, _("Step %(step)s: %(label)s", step=f"{point[0]:g}", label=label))
        for (x, y), point, label in zip(plotted, points, shown, strict=True)
    ]
    return Chart(
        name=name,
        title=title,
        summary=_(
            "%(title)s: %(first)s at first, %(last)s at step %(step)s.",
            title=title,
            first=shown[0],
            last=shown[-1],
            step=f"{points[-1][0]:g}",
        ),
        rows=[Value(x, y, label) for (x, y), label in zip(points, shown, strict=True)],
        last_x=most_x,
        as_percent=as_percent,
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in plotted),
        dots=dots if dotted else dots[-1:],
        x_ticks=[Tick(_across(share), f"{most_x * share:.0f}") for share in (0, 0.25, 0.5, 0.75, 1)],
        y_ticks=[_y_tick(low + place * step, low, high, as_percent) for place in range(round((high - low) / step) + 1)],
    )


def round_range(low: float, high: float) -> tuple[float, float, float]:
    """A range of round ends that holds both values, and the step of its marks: 3 to 6 of them."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    magnitude = 10 ** math.floor(math.log10(rough))
    step = magnitude * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _y_tick(value: float, low: float, high: float, as_percent: bool) -> Tick:
    label = f"{100 * value:.0f} %" if as_percent else f"{value:.4g}"
    return Tick(_up((value - low) / (high - low)), label)


def _across(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _up(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)
