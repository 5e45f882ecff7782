"""What a check says, and how its figures are put into words."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from app.training.evidence import Interval, SignTest
from app.wording import mark as N_

LEAST_PROMPTS = 6
"""Prompts from which an interval says something. With fewer, what lies beyond a bound blocks as it stands: six
prompts that agree are the least that a sign test can call uneven (p = 0.03)."""


class Verdict(StrEnum):
    """What a check found, compared with the version that training started from."""

    BETTER = N_("better")
    WORSE = N_("worse")
    UNCLEAR = N_("not enough evidence")
    OK = N_("ok")


class Check(BaseModel):
    """One check: what it found, whether that blocks the version or only warns, and the figures behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Stable, for programs: `held_out_margins`."""
    title: str
    verdict: Verdict
    blocks: bool = False
    warns: bool = False
    message: str
    before: float | None = None
    after: float | None = None
    effective: int = 0
    """How many prompts or pairs the verdict rests on."""
    figures: dict[str, float] = {}


def test_figures(test: SignTest) -> dict[str, float]:
    """A sign test for the record."""
    return {"rose": test.rose, "fell": test.fell, "p": test.p}


def interval_figures(interval: Interval) -> dict[str, float]:
    """An interval for the record; nothing where there is none."""
    if interval.low is None or interval.high is None:
        return {}
    return {"low": interval.low, "high": interval.high}


def percentage(share: float | None, digits: int = 0) -> str:
    """A share for people, e.g. `52 %`."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def beside(value: float, bound: float) -> str:
    """A figure with two digits after the point, or as many as show on which side of its bound it is; never `-0.00`."""
    for digits in (2, 3, 4, 5):
        told = f"{round(value, digits) + 0.0:.{digits}f}"
        if (float(told) > bound) == (value > bound):
            break
    return told


def p_value(value: float) -> str:
    """A p-value for people, with its sign."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
