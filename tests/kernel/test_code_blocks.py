"""Code is coloured by classes, says what it said before, and can be read on both grounds."""

import html
import re

import pytest

from app.code_blocks import CSS_CLASSES, LANGUAGES, highlighted
from app.markdown import MOST_CODE, render_markdown
from app.settings import ROOT
from app.static_files import FOLDER

LEAST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, level AA."""


def text_of(markup: str) -> str:
    return html.unescape(re.sub("<[^>]*>", "", markup))


def test_a_block_whose_language_is_told_is_coloured() -> None:
    shown = render_markdown("```python\ndef f(x):  # why\n    return 'a<b' + 1\n```")
    assert '<span class="tok-key">def</span> <span class="tok-name">f</span>(x):' in shown
    assert "<span class=\"tok-text\">'a&lt;b'</span>" in shown
    assert "style=" not in shown


@pytest.mark.parametrize("fence", ["```", "```nosuchlanguage", '```"onclick=alert(1)'])
def test_other_blocks_stay_plain(fence: str) -> None:
    assert render_markdown(f"{fence}\nx < y\n```") == '<pre tabindex="0"><code>x &lt; y\n</code></pre>\n'


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_no_lexer_adds_or_drops_anything(language: str) -> None:
    code = "\n\n  def f(x): return '<b>' // \"q\" /* é 日本 */ \t\r\n#!$%^&*()\\ \x07 end\n\n"
    coloured = highlighted(code, language)
    assert coloured is None or text_of(coloured) == code
    assert set(re.findall('class="(.*?)"', coloured or "")) <= CSS_CLASSES


def test_more_code_than_anybody_reads_stays_plain() -> None:
    shown = render_markdown("```python\n" + "x = 1\n" * MOST_CODE + "```")
    assert "<span" not in shown


def test_a_lexer_that_takes_too_long_is_left() -> None:
    assert highlighted("x = 1", "python", until=0) is None


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, 0 to 1 (WCAG 2.2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_of_code_can_be_read_on_both_grounds() -> None:
    styles = (FOLDER / "css/base.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", styles, re.DOTALL)[:2]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", scheme))
        ground = luminance(colours["ground"])
        painted = [name for name in colours if name.startswith("code-")] + ["good", "bad"]
        assert len(painted) == 7
        for name in painted:
            lighter, darker = sorted([luminance(colours[name]), ground], reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= LEAST_CONTRAST, name


def test_every_class_has_its_colour() -> None:
    styles = (ROOT / "static/css/base.css").read_text()
    assert all(f".{name} {{" in styles for name in CSS_CLASSES)
