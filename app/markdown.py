"""Markdown from people and models, rendered on the server and made harmless.

Prompts and completions are hostile input: raw HTML is shown as text, links lose their teeth, images may
only come from this origin (the Content-Security-Policy says the same).
"""

import comrak
import nh3
from markupsafe import Markup

_EXTENSIONS = comrak.ExtensionOptions()
_EXTENSIONS.table = True
_EXTENSIONS.strikethrough = True
_EXTENSIONS.cjk_friendly_emphasis = True
_RENDERING = comrak.RenderOptions()
_RENDERING.escape = True  # raw HTML is shown as the text that it is
_RENDERING.hardbreaks = True

ALLOWED_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


def render_markdown(text: str) -> Markup:
    """Safe HTML for a text. Bidirectional control characters are dropped: they can disguise what is shown."""
    shown = text.translate(_BIDI_CONTROLS)
    html = comrak.render_markdown(shown, extension_options=_EXTENSIONS, render_options=_RENDERING)
    clean = nh3.clean(
        html,
        tags=ALLOWED_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)  # noqa: S704


_BIDI_CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])
