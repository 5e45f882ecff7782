"""A form's HTML with earlier answers in it.

Some fields are shown blank many times a second, and filled in once in a while. They are rendered blank both times, and
this puts the values in afterwards, so that the many do not pay for the few.
"""

import re
from collections.abc import Mapping
from html import unescape

from markupsafe import Markup, escape

from app.markdown import disarmed

_FIELD = re.compile(r'<(?:input|textarea)\b(?:[^>"]|"[^"]*")*>')
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')


def filled_in(html: Markup, values: Mapping[str, str]) -> Markup:
    """The same HTML with `values`, by field name: text typed, radio buttons chosen, boxes ticked.

    Meant for blank fields of our own templates, whose attributes stand in double quotes.
    """

    def fill(found: re.Match[str]) -> str:
        tag = found[0]
        attributes = {name: unescape(value) for name, value in _ATTRIBUTE.findall(tag)}
        value = values.get(attributes.get("name", ""))
        if value is None:
            return tag
        shown = escape(disarmed(value))
        if tag.startswith("<textarea"):
            return f"{tag}{shown}"
        if attributes.get("type") in {"radio", "checkbox"}:
            return f"{tag[:-1]} checked>" if attributes.get("value", "on") == value else tag
        return f'{tag[:-1]} value="{shown}">'

    return Markup(_FIELD.sub(fill, str(html)))  # noqa: S704  (templates' own, and escaped values)
