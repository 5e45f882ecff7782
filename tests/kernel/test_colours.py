"""The colours of the style sheets' tokens can be told apart, by WCAG's measure, in the light scheme and in the dark."""

import re

import pytest

from app.settings import ROOT

TEXT, SHAPE = 4.5, 3.0
"""Least contrast of a text with its ground, and of what is no text but must be seen (WCAG 1.4.3, 1.4.11)."""
GROUNDS = ("ground", "surface", "raised")
PAIRS = [
    *[(text, ground, TEXT) for text in ("text", "muted", "accent", "good", "warn", "bad") for ground in GROUNDS],
    *[(kind, f"{kind}-ground", TEXT) for kind in ("accent", "good", "warn", "bad")],
    *[(text, "accent-ground", TEXT) for text in ("text", "muted")],
    ("on-accent", "accent", TEXT),
    *[("edge", ground, SHAPE) for ground in GROUNDS],
]


def tokens(scheme: str) -> dict[str, str]:
    """The colours by name, those of the dark scheme over the others."""
    blocks = re.findall(r":root \{(.*?)\}", (ROOT / "static/css/base.css").read_text(), re.S)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", block)) for block in blocks[:2])
    return light | dark if scheme == "dark" else light


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, "relative luminance")."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1, the same, to 21, black on white."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_as_wcag_has_it() -> None:
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_pair_of_tokens_that_meet_has_contrast_enough(scheme: str) -> None:
    colours = tokens(scheme)
    low = [
        f"{one} on {other}: {found:.2f}, not {least}"
        for one, other, least in PAIRS
        if (found := contrast(colours[one], colours[other])) < least
    ]
    assert not low
