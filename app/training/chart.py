"""The geometry of a small line chart, drawn by the server: points and ticks in the units of an SVG's view box.

Where scripts run, static/js/charts.js draws it anew from the table that goes with it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.wording import gettext as _

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 30
"""Margins around the plot, for the labels of the axes."""
LEAST_WRITTEN = 1e-4
"""Below it a number is written with an exponent."""


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
class Curve:
    """What is to be drawn as one line: (x, y) points in order of x. `dotted`: every point is marked."""

    label: str
    points: Sequence[tuple[float, float]]
    dotted: bool = False


@dataclass(frozen=True)
class Line:
    """A curve as it is drawn."""

    label: str
    dotted: bool
    points: str
    dots: list[Dot]


@dataclass(frozen=True)
class Value:
    """One cell of the table behind a chart: the value as it is, and as people read it."""

    y: float
    label: str


@dataclass(frozen=True)
class Row:
    """The values of all lines at one place; None where a line has none there."""

    x: float
    values: list[Value | None]


@dataclass(frozen=True)
class Chart:
    """Everything that a template needs to draw some lines."""

    name: str
    """Tells the charts of a page apart."""
    title: str
    note: str
    """What to make of it, in a sentence."""
    summary: str
    """What the chart shows, for those who do not see it."""
    rows: list[Row]
    last_x: float
    as_percent: bool
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def line_chart(
    curves: Sequence[Curve], *, name: str, title: str, last_x: float, note: str = "", as_percent: bool = False
) -> Chart | None:
    """A chart of curves up to `last_x`; curves without a point are left out, and without any there is no chart.

    A share (`as_percent`) has the whole range from 0 to 1 as its axis, anything else a round range around its values.
    """
    given = [curve for curve in curves if curve.points]
    if not given:
        return None
    values = [y for curve in given for _x, y in curve.points]
    low, high, step = (0.0, 1.0, 0.25) if as_percent else round_range(min(values), max(values))
    most_x = max(last_x, *(curve.points[-1][0] for curve in given), 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return _across(x / most_x), _up((y - low) / (high - low))

    return Chart(
        name=name,
        title=title,
        note=note,
        summary=" ".join(_summary(title if len(given) == 1 else curve.label, curve, as_percent) for curve in given),
        rows=_rows(given, as_percent),
        last_x=most_x,
        as_percent=as_percent,
        lines=[_drawn(curve, place, as_percent) for curve in given],
        x_ticks=_x_ticks(most_x),
        y_ticks=[
            _y_tick(place * step, low, high, as_percent) for place in range(round(low / step), round(high / step) + 1)
        ],
    )


def _summary(title: str, curve: Curve, as_percent: bool) -> str:
    (_first_x, first), (last_x, last) = curve.points[0], curve.points[-1]
    return _(
        "%(title)s: %(first)s at first, %(last)s at step %(step)s.",
        title=title,
        first=_said(first, as_percent),
        last=_said(last, as_percent),
        step=f"{last_x:,.0f}",
    )


def _rows(curves: Sequence[Curve], as_percent: bool) -> list[Row]:
    tables = [dict(curve.points) for curve in curves]
    places = sorted({x for table in tables for x in table})
    return [
        Row(x, [Value(table[x], _said(table[x], as_percent)) if x in table else None for table in tables])
        for x in places
    ]


def _drawn(curve: Curve, place: Callable[[float, float], tuple[float, float]], as_percent: bool) -> Line:
    plotted = [place(x, y) for x, y in curve.points]
    dots = [
        Dot(x, y, _("Step %(step)s: %(label)s", step=f"{step:,.0f}", label=_said(value, as_percent)))
        for (x, y), (step, value) in zip(plotted, curve.points, strict=True)
    ]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in plotted)
    return Line(curve.label, curve.dotted, points, dots if curve.dotted else dots[-1:])


def _said(value: float, as_percent: bool) -> str:
    return f"{100 * value:.0f} %" if as_percent else written(value, digits=3)


def written(value: float, *, digits: int) -> str:
    """A number as people write it, whole, or with so many digits that count: 0.0123, 12.3, -1,250."""
    if abs(value) < LEAST_WRITTEN:
        return f"{value:.{digits}g}" if value else "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def round_range(low: float, high: float) -> tuple[float, float, float]:
    """A range of round ends that holds both values, and the step of its marks: 3 to 6 of them."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    magnitude = 10 ** math.floor(math.log10(rough))
    step = magnitude * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _x_ticks(most_x: float) -> list[Tick]:
    """Whole steps, each once, about a quarter of the way apart."""
    steps = sorted({round(most_x * share) for share in (0, 0.25, 0.5, 0.75, 1)})
    return [Tick(_across(step / most_x), f"{step:,}") for step in steps]


def _y_tick(value: float, low: float, high: float, as_percent: bool) -> Tick:
    label = f"{100 * value:.0f} %" if as_percent else written(value, digits=4)
    return Tick(_up((value - low) / (high - low)), label)


def _across(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _up(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)
