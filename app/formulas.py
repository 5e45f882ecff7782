"""Formulas: LaTeX as people and models write it, made MathML on the server, so that no page needs a script for it.

What cannot be read whole stays as it was typed. Nothing here is trusted: `markdown` cleans what comes out.
"""

import html
import re
from xml.etree import ElementTree as ET

from latex2mathml.converter import convert_to_element

LONGEST_FORMULA = 1_000
"""Characters; a longer one stays as it was typed. Converting takes up to 30 µs a character."""

VALUES = {
    "math": {"display": {"inline", "block"}},
    "mi": {"mathvariant": {"normal", "bold", "monospace", "sans-serif"}},
    "mtext": {"mathvariant": {"bold", "italic", "monospace"}},
    "mo": {
        "stretchy": {"true", "false"}, "fence": {"true", "false"}, "form": {"prefix", "infix", "postfix"},
        "minsize": {"1.2em", "1.623em", "2.047em", "2.470em"}, "maxsize": {"1.2em", "1.623em", "2.047em", "2.470em"},
        "movablelimits": {"true", "false"},
    },
    "mover": {"accent": {"true"}},
    "mfrac": {"linethickness": {"0"}},
    "mspace": {"width": {"0.167em", "0.222em", "0.278em", "0.333em", "0.5em", "1em", "2em"}},
    "mstyle": {"displaystyle": {"true", "false"}, "scriptlevel": {"0", "1", "2"}},
    "mtable": {"displaystyle": {"true", "false"}},
    "mtd": {"columnalign": {"left", "right", "center"}},
    "menclose": {"notation": {"box", "updiagonalstrike", "downdiagonalstrike"}},
}  # fmt: skip
"""What each element may say, and nothing else: none of it names an address, a style or a size of the writer's own."""

CHILDREN = {
    "mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3,
}  # fmt: skip
PLAIN = {"mrow", "mn", "msqrt", "mtr", "mphantom", "mpadded"}
TAGS = PLAIN | set(VALUES) | set(CHILDREN)

_UNDER = {"lim", "max", "min", "sup", "inf", "argmax", "argmin", "limsup", "liminf"}
_ACCENTS = set("^~˙¨¯―ˇ˘´`→⟶")
_REFERENCE = re.compile(r"&#x[0-9A-Fa-f]{1,6};")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]")
_ALSO_KNOWN_AS = (
    ("{aligned}", "{align*}"),
    ("{gathered}", "{matrix}"), ("{gather}", "{matrix}"), ("{gather*}", "{matrix}"),
    ("{dcases}", "{cases}"),
    (r"\arg\m", r"\operatorname{arg}\m"),
)  # fmt: skip
"""What models write and the converter does not know, by what it does know."""

_WORDS = re.compile(r"[^\\^_=<>+*/|{}]*[^\W\d_]{3}[,;]?\s+[^\W\d_]{2}[^\\^_=<>+*/|{}]*$")
_OF_A_PRICE = re.compile(r"\d[^\\^_=<>+*/|{}]*?(?:[^\W\d_]{2}|\s[^\W\d_]\s|[\u0400-\uffff])")
_NOTES = re.compile(r"\d{1,3}(?:, ?\d{1,3})*$")


def mathml(latex: str, *, is_block: bool) -> str | None:
    """A formula as MathML; None where it cannot be read."""
    braces = _ESCAPED.sub("", latex)
    if braces.count("{") != braces.count("}"):
        return None
    for known_as, meant in _ALSO_KNOWN_AS:
        latex = latex.replace(known_as, meant)
    try:
        root = convert_to_element(latex, xmlns="", display="block" if is_block else "inline")
        return ET.tostring(root, encoding="unicode") if _is_sound(root, is_block=is_block) else None
    except Exception:  # it meets broken formulas with a dozen kinds, RecursionError and IndexError among them
        return None


def is_prose(latex: str, *, opening: str, following: str) -> bool:
    """Whether what looks like a formula is something else: “$5 and 10$”, $HOME/$USER, \\[1, 2\\] or words in brackets.

    `following` is the character after it.
    """
    stripped = latex.strip()
    if _WORDS.match(stripped):
        return True
    if opening == "$":
        return following in _GOES_ON or _OF_A_PRICE.match(stripped) is not None
    return opening == "\\[" and _NOTES.match(stripped) is not None


_GOES_ON = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ{_")
"""A dollar sign before these begins the name of a variable; `$n$th` is a formula."""


def _is_sound(root: ET.Element, *, is_block: bool) -> bool:
    """Whether all was understood; on the way, what browsers want said otherwise is."""
    for node in root.iter():
        if node.tag not in TAGS or len(node) != CHILDREN.get(node.tag, len(node)):
            return False
        text = node.text or ""
        if text in {"&", "{", "}"} or _COMMAND.match(text):  # left over: what is meant comes as a reference
            return False
        node.text = _REFERENCE.sub(lambda found: html.unescape(found[0]), text) or None
    for node in root.iter():
        if node.tag == "mover" and not len(node[1]) and (node[1].text or "") in _ACCENTS:
            node.set("accent", "true")
        if is_block and node.tag == "msub" and node[0].tag == "mo" and node[0].text in _UNDER:
            node.tag = "munder"
    return True
