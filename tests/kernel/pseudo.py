"""A language that nobody speaks: each message stands between marks, is half as long again, and runs from right to left.

What stands on a page outside the marks is not translated. A page that holds together in it will do so in Arabic, and
in German.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

from app.settings import ROOT

PSEUDO = "ar-XB"
OPENED, CLOSED = "⟦", "⟧"
FILLER = "שלום "
"""Right to left, as what it stands for would be."""
OWN_WORDS = {"Palate", "UTC", "B", "kB", "MB", "GB"}
"""The same in every language."""
UNSEEN = {"script", "style", "code", "pre", "kbd", "samp", "title"}
SPOKEN = {"aria-label", "alt", "placeholder", "title", "label"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def extracted(folder: Path) -> Catalog:
    """Every message of the code and the templates, as `pybabel extract` finds them."""
    catalogue = folder / "palate.pot"
    command = [sys.executable, "-m", "babel.messages.frontend", "--quiet", "extract", "-k", "N_", "-F", "babel.cfg"]
    subprocess.run([*command, "-o", str(catalogue), "app", "templates"], cwd=ROOT, check=True)
    with catalogue.open("rb") as file:
        return read_po(file)


def write_pseudo_language(folder: Path, *, of: Callable[[str], bool] = lambda source: True) -> Path:
    """Write the translation of what stands in some sources; the folder is one of languages, as `app/locale` is."""
    pseudo = Catalog(locale=PSEUDO.replace("-", "_"), fuzzy=False)
    for message in extracted(folder):
        if message.id and any(of(source) for source, _line in message.locations):
            pseudo.add(message.id, _said_in_pseudo(message), flags=message.flags)
    path = folder / PSEUDO / "LC_MESSAGES" / "palate.po"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        write_po(file, pseudo)
    return folder


def _said_in_pseudo(message: Message) -> str | tuple[str, ...]:
    return tuple(map(_marked, message.id)) if isinstance(message.id, tuple) else _marked(message.id)


def _marked(text: str) -> str:
    longer = FILLER * max(1, round(len(text) / 2 / len(FILLER)))
    return f"{OPENED}{text} {longer.strip()}{CLOSED}"


class _Reader(HTMLParser):
    """Collects what a page says, and where somebody's own words or the names of things stand, nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._unseen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name, value in attrs:
            if value and (name in SPOKEN or (name.startswith("data-") and " " in value)):
                each = json.loads(value).values() if value.startswith('{"') else [value]
                self.said.extend(f" · {text} · " for text in each)
        if tag in VOID:
            return
        if self._unseen or tag in UNSEEN or given.get("translate") == "no":
            self._unseen.append(tag)
        elif tag not in {"b", "em", "strong", "a", "span"}:
            self.said.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen and tag not in VOID:
            self._unseen.pop()

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.said.append(data)


def said_on(html: str) -> list[str]:
    """What a page says, piece by piece: each text, and what is read out in the place of one."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return [" ".join(piece.strip(" ·\n").split()) for piece in reader.said]


def untranslated(html: str) -> list[str]:
    """What a page says in Latin letters outside of the marks: text, and what is read out in its place."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    text = "".join(reader.said)
    while (shorter := re.sub(f"{OPENED}[^{OPENED}{CLOSED}]*{CLOSED}", " ", text)) != text:
        text = shorter
    return [" ".join(run) for run in _runs(text)]


def _runs(text: str) -> list[list[str]]:
    """Latin words that follow each other. Numbers, names with numbers in them, and addresses are no words."""
    runs: list[list[str]] = [[]]
    for token in text.split():
        word = token.strip(".,:;!?()[]“”…–—'\"")
        if re.fullmatch(r"[A-Za-z]{2,}(?:['’][a-z]+)?", word) and word not in OWN_WORDS:
            runs[-1].append(word)
        else:
            runs.append([])
    return [run for run in runs if run]
