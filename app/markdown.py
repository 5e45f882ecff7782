"""Markdown from people and models, rendered on the server and made harmless.

Prompts and completions are hostile input: raw HTML is shown as text, links lose their teeth, images may
only come from this origin (the Content-Security-Policy says the same). What would take long to render, or grow into
a page that no browser bears, is shown as it was written.

Most texts are prose. Those with a formula, a block of code or a script that runs from right to left take a second
pass, which looks for them in what came out; the cleaning comes after it.
"""

import html as html_of
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar, cast

import comrak
import nh3
from markupsafe import Markup, escape

from app import code_blocks, formulas

_EXTENSIONS = comrak.ExtensionOptions()
_EXTENSIONS.table = True
_EXTENSIONS.strikethrough = True
_EXTENSIONS.cjk_friendly_emphasis = True
_WITH_FORMULAS = comrak.ExtensionOptions()
_WITH_FORMULAS.table = True
_WITH_FORMULAS.strikethrough = True
_WITH_FORMULAS.cjk_friendly_emphasis = True
_WITH_FORMULAS.math_dollars = True
_WITH_FORMULAS.math_latex = True
_RENDERING = comrak.RenderOptions()
_RENDERING.escape = True  # raw HTML is shown as the text that it is
_RENDERING.hardbreaks = True

ALLOWED_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "li", "ol", "p",
    "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip

TextT = TypeVar("TextT", bound=str)

LONGEST_RENDERED = 100_000
"""Characters; a longer text is shown as it was written."""

MOST_CELLS = 50_000
"""Table cells that a text may make: a short row is filled up to its header's width, so that a few thousand
characters could make millions.
"""

MOST_TAGS = 60_000
"""Tags that a text may make: quotes in quotes are opened and closed anew for each line."""

LONGEST_BLOCK = 4_000
"""Characters of a text shown as it was written that stand in one block. A browser lays out many blocks of this size
some eight times as fast as one of a million characters.
"""

_DEEP_QUOTES = re.compile(r"(?:>[ \t]*){100}")
"""Each level of quoting costs as much as all levels above it."""


LONGEST_REMEMBERED = 4_000
"""Characters. What is shown again and again (guidelines, a prompt that many judge) is rendered once; at most some
10 MB are kept of it.
"""

_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "img": {"alt"}, "pre": {"tabindex"}, "table": {"tabindex"}}

_CLEANER = nh3.Cleaner(
    tags=ALLOWED_TAGS,
    attributes=_ATTRIBUTES,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
)
"""Leaves nothing that acts or loads. An image leaves its description: who judges must see that one was meant."""

_DIRECTED = ("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "table")

_RICH_CLEANER = nh3.Cleaner(
    tags=ALLOWED_TAGS | formulas.TAGS | {"span"},
    attributes=_ATTRIBUTES,
    tag_attribute_values={**formulas.VALUES, **{tag: {"dir": {"auto"}} for tag in _DIRECTED}},
    allowed_classes={"span": code_blocks.CSS_CLASSES | {"formula"}},
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
)
"""The same for texts that took the second pass: what it makes is let through, and no more."""

MOST_FORMULA = 20_000
"""Characters of formulas in a text, each counted as `COST_OF_FORMULA` more; a text with more is shown without any."""

COST_OF_FORMULA = 20

FITS_ANY_LINE = 40
"""Characters; a longer formula can be scrolled, for browsers break none into lines."""

MOST_CODE = 10_000
"""Characters of code in a text that are coloured; blocks beyond stay plain."""

SECONDS_FOR_COLOURS = 0.2
"""CPU time for the code of a text. `MOST_CODE` takes up to a quarter of it, unless it was written to take long."""


def render_markdown(text: str) -> Markup:
    """Safe HTML for a text, with characters that reverse the reading order made visible."""
    return _remembered(text) if len(text) <= LONGEST_REMEMBERED else _safe_html(text)


def _safe_html(text: str) -> Markup:
    html = "" if _is_bomb(text) else _clean(text)
    # Too much, or nothing but definitions of links, which Markdown hides.
    if text.strip() and (not html.strip() or html.count("<") > MOST_TAGS):
        html = "".join(f'<p class="verbatim">{escape(block)}</p>\n' for block in _blocks(text))
    return Markup(disarmed(html))  # noqa: S704  (last, for an entity such as &#x202E; is a character by now)


_remembered = lru_cache(maxsize=1024)(_safe_html)


def _blocks(text: str) -> Iterator[str]:
    """A text cut into parts of at most LONGEST_BLOCK, at the end of a line or else of a word where there is one."""
    start = 0
    while len(text) - start > LONGEST_BLOCK:
        middle, last = start + LONGEST_BLOCK // 2, start + LONGEST_BLOCK
        end = next((at + 1 for mark in "\n " if (at := text.rfind(mark, middle, last)) >= 0), last)
        yield text[start:end].removesuffix("\n")
        start = end
    yield text[start:]


def _clean(text: str) -> str:
    # A single character is found many times as fast as two, and most texts have none of these.
    has_formulas = "$" in text or ("\\" in text and ("\\(" in text or "\\[" in text))
    has_code = ("`" in text and "```" in text) or ("~" in text and "~~~" in text)
    runs_left = not text.isascii() and _runs_left(text)
    if not (has_formulas or has_code or runs_left):
        return _CLEANER.clean(_rendered(text, _EXTENSIONS))
    html = _with_formulas(text) if has_formulas else _rendered(text, _EXTENSIONS)
    html = _with_colours(html) if has_code else html
    return _RICH_CLEANER.clean(_with_directions(html) if runs_left else html)


def _rendered(text: str, extensions: comrak.ExtensionOptions) -> str:
    html = comrak.render_markdown(text, extension_options=extensions, render_options=_RENDERING)
    return _at_home_in_a_page(html)


def _at_home_in_a_page(html: str) -> str:
    """Headings two levels down, for the page and the part that they stand in have theirs; and what may be too wide,
    and then scrolls, within reach of the keyboard.
    """
    html = _HEADING.sub(lambda found: f"{found[1]}{min(6, int(found[2]) + 2)}>", html)
    return html.replace("<pre>", '<pre tabindex="0">').replace("<table>", '<table tabindex="0">')


_HEADING = re.compile(r"(</?h)([1-6])>")


_FORMULA = re.compile(r'<span data-math-style="(inline|display)">(.*?)</span>(?=(.?))', re.DOTALL)


def _with_formulas(text: str) -> str:
    """Markdown with what its reader takes for formulas as MathML, or as it was typed."""
    html = _rendered(_on_one_line(text), _WITH_FORMULAS)
    found = _FORMULA.findall(html)
    if sum(len(latex) + COST_OF_FORMULA for _, latex, _ in found) > MOST_FORMULA:
        return _rendered(text, _EXTENSIONS)
    return _FORMULA.sub(lambda each: _formula(each, text), html) if found else html


def _formula(found: re.Match[str], text: str) -> str:
    latex, is_block = html_of.unescape(found[2]), found[1] == "display"
    opening, closing = _delimiters(latex, text, is_block=is_block)
    if len(latex) > formulas.LONGEST_FORMULA:
        return str(escape(f"{opening}{latex}{closing}"))
    if formulas.is_prose(latex, opening=opening, following=found[3]):
        return str(escape(f"{opening}{latex}{closing}".replace("\\", "")))  # a bracket, as Markdown has it
    made = formulas.mathml(latex, is_block=is_block)
    if made is None:
        return str(escape(f"{opening}{latex}{closing}"))
    return f'<span class="formula">{made}</span>' if is_block or len(latex) > FITS_ANY_LINE else made


def _delimiters(latex: str, text: str, *, is_block: bool) -> tuple[str, str]:
    """Between what a formula was typed, which the Markdown reader does not tell."""
    dollars, bracket = ("$$", "\\[") if is_block else ("$", "\\(")
    if bracket not in text or (dollars in text and f"{dollars}{latex}{dollars}" in text):
        return dollars, dollars
    return bracket, bracket.replace("[", "]").replace("(", ")")


_ALONE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,}).*?(?:^[ \t]*(?P=fence)|\Z)"
    r"|^[ \t]*(?:\$\$(?P<dollars>[^$]{1,1000}?)\$\$|\\\[(?P<brackets>.{1,1000}?)\\\])",
    re.DOTALL | re.MULTILINE,
)
"""A block of code, to be left alone, or a formula that stands on lines of its own."""


def _on_one_line(text: str) -> str:
    """The text with the lines of each formula joined: one that starts with + or - would begin a list."""

    def joined(found: re.Match[str]) -> str:
        latex = found["dollars"] or found["brackets"] or ""
        keeps = "\n" not in latex or "%" in latex or "\n\n" in latex  # code; a remark, which ends with its line
        return found[0] if keeps else found[0].replace("\n", " ")

    return _ALONE.sub(joined, text) if "\n" in text and ("$$" in text or "\\[" in text) else text


_CODE = re.compile(r'(<pre[^>]*>)<code class="language-([\w#+-]{1,20})">(.*?)</code></pre>', re.DOTALL)


def _with_colours(html: str) -> str:
    """Blocks of code whose language is told, in colours."""
    left, until = MOST_CODE, time.thread_time() + SECONDS_FOR_COLOURS

    def coloured(found: re.Match[str]) -> str:
        nonlocal left
        code = html_of.unescape(found[3])
        left -= len(code)
        made = code_blocks.highlighted(code, found[2], until=until) if left >= 0 else None
        return found[0] if made is None else f"{found[1]}<code>{made}</code></pre>"

    return _CODE.sub(coloured, html)


_RUNS_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
_MAY_RUN_LEFT = bytes([*range(0xD6, 0xE1), 0xEF, 0xF0])
"""Of UTF-8, what characters of such scripts begin with; deleting bytes is ten times as fast as searching characters."""


def _runs_left(text: str) -> bool:
    written = text.encode(errors="replace")
    return len(written.translate(None, _MAY_RUN_LEFT)) < len(written) and _RUNS_LEFT.search(text) is not None


_BLOCK = re.compile(rf"<(/?)({'|'.join(_DIRECTED)})(?=[ >])")


def _with_directions(html: str) -> str:
    """Each outermost block starts on the side on which its first words do, its bullets and bars with it. What is within
    one takes its side; there the style sheet gives each line its own direction.
    """
    depth = 0

    def directed(found: re.Match[str]) -> str:
        nonlocal depth
        is_outermost = depth == 0
        if found[2][0] not in "ph":
            depth += -1 if found[1] else 1
        return f'{found[0]} dir="auto"' if is_outermost and not found[1] else found[0]

    return _BLOCK.sub(directed, html)


def disarmed(text: TextT) -> TextT:
    """The text with characters that reorder what stands beside them written out, as in `[U+202E]`: they can disguise
    what is shown. Marks that Arabic and Hebrew texts need (U+200E, U+200F, U+061C) reorder nothing and stay.
    """
    if text.isascii() or not any(character in text for character in _REORDERING):
        return text
    return cast(TextT, text.translate(_WRITTEN_OUT))


_REORDERING = {chr(code): f"[U+{code:04X}]" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_WRITTEN_OUT = {ord(character): written for character, written in _REORDERING.items()}


def _is_bomb(text: str) -> bool:
    """Whether a text would take long to render, or make far more HTML than it has characters."""
    if len(text) > LONGEST_RENDERED or _DEEP_QUOTES.search(text):
        return True
    lines = text.replace("\r", "\n").split("\n")
    return "|" in text and max(line.count("|") for line in lines) * len(lines) > MOST_CELLS
