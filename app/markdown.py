"""Markdown from people and models, rendered on the server and made harmless.

Prompts and completions are hostile input: raw HTML is shown as text, links lose their teeth, images may
only come from this origin (the Content-Security-Policy says the same). What would take long to render, or grow into
a page that no browser bears, is shown as it was written.
"""

import re
from functools import lru_cache
from typing import TypeVar, cast

import comrak
import nh3
from markupsafe import Markup, escape

_EXTENSIONS = comrak.ExtensionOptions()
_EXTENSIONS.table = True
_EXTENSIONS.strikethrough = True
_EXTENSIONS.cjk_friendly_emphasis = True
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

_DEEP_QUOTES = re.compile(r"(?:>[ \t]*){100}")
"""Each level of quoting costs as much as all levels above it."""


LONGEST_REMEMBERED = 4_000
"""Characters. What is shown again and again (guidelines, a prompt that many judge) is rendered once; at most some
10 MB are kept of it.
"""

_CLEANER = nh3.Cleaner(
    tags=ALLOWED_TAGS,
    attributes={"a": {"href", "title"}, "ol": {"start"}, "img": {"alt"}, "pre": {"tabindex"}, "table": {"tabindex"}},
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
)
"""Leaves nothing that acts or loads. An image leaves its description: who judges must see that one was meant."""


def render_markdown(text: str) -> Markup:
    """Safe HTML for a text, with characters that reverse the reading order made visible."""
    return _remembered(text) if len(text) <= LONGEST_REMEMBERED else _safe_html(text)


def _safe_html(text: str) -> Markup:
    html = "" if _is_bomb(text) else _CLEANER.clean(_rendered(text))
    if text.strip() and not html.strip():  # too much, or nothing but definitions of links, which Markdown hides
        html = f'<p class="verbatim">{escape(text)}</p>\n'
    return Markup(disarmed(html))  # noqa: S704  (last, for an entity such as &#x202E; is a character by now)


_remembered = lru_cache(maxsize=1024)(_safe_html)


def _rendered(text: str) -> str:
    html = comrak.render_markdown(text, extension_options=_EXTENSIONS, render_options=_RENDERING)
    return _at_home_in_a_page(html)


def _at_home_in_a_page(html: str) -> str:
    """Headings two levels down, for the page and the part that they stand in have theirs; and what may be too wide,
    and then scrolls, within reach of the keyboard.
    """
    html = _HEADING.sub(lambda found: f"{found[1]}{min(6, int(found[2]) + 2)}>", html)
    return html.replace("<pre>", '<pre tabindex="0">').replace("<table>", '<table tabindex="0">')


_HEADING = re.compile(r"(</?h)([1-6])>")


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
