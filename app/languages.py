"""Which language a reader is answered in: the first of those that their browser accepts for which there is a file
`app/locale/<language>/LC_MESSAGES/palate.po`; else English, in which everything is written.

A file is compiled when somebody first reads it, so that a new translation takes a file and a restart, and languages
that nobody reads cost nothing.

A translation holds everything, or what annotators see alone (`FOR_ANNOTATORS`). The other pages are English then from
top to bottom, rather than here and there in two languages.
"""

import re
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app import wording
from app.settings import ROOT
from app.wording import ENGLISH, translations

FOLDER = ROOT / "app" / "locale"
WRITTEN_IN = "en"

FOR_ANNOTATORS = frozenset({"de"})
"""Languages in which there is what annotators see, and nothing else yet."""

ANNOTATORS_PAGES = re.compile(
    r"/$|/(account|assignments|keys|links|sign-in|sign-out|work|work\.csv)(/|$)"
    r"|/campaigns/[^/]+/(judge|judgments|write|content-warning|departure|return)$"
)
"""Addresses that answer annotators; all others are for managers and researchers."""

LISTS = frozenset({"/campaigns", "/comparisons", "/models", "/runs", "/snapshots", "/try"})
"""Pages for managers and researchers that open to annotators too, with nothing of theirs. All others refuse them."""


class Languages:
    """The translations in a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        paths = folder.glob("*/LC_MESSAGES/palate.po")
        self._files = {path.parts[-3].replace("_", "-").lower(): path for path in paths}
        self.translated = lru_cache(self._translated)
        self.for_reader = lru_cache(maxsize=256)(self._for_reader)

    def __contains__(self, language: str) -> bool:
        return language == WRITTEN_IN or language in self._files

    def _for_reader(self, accepted: str) -> NullTranslations:
        """The translations for an `Accept-Language` header."""
        for language in wanted(accepted):
            for name in (language, language.partition("-")[0]):
                if name in self:
                    return self.translated(name)
        return ENGLISH

    def _translated(self, language: str) -> NullTranslations:
        return ENGLISH if language == WRITTEN_IN else compiled(self._files[language])


def wanted(accepted: str) -> list[str]:
    """The languages of an `Accept-Language` header, dearest first: `de-CH, fr;q=0.8` is `["de-ch", "fr"]`."""
    weighed = []
    for part in filter(None, accepted.lower().split(",")[:20]):
        language, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if quality > 0:
            weighed.append((quality, language.strip()))
    return [language for _, language in sorted(weighed, key=lambda each: -each[0])]


def compiled(path: Path) -> GNUTranslations:
    """The translations that a file holds; messages that it lacks, or is unsure of, stay English."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    binary = BytesIO()
    with path.open("rb") as file:
        write_mo(binary, read_po(file))
    binary.seek(0)
    return GNUTranslations(binary)


class InTheReadersLanguage:
    """Has everything within a request speak the language of whoever made it."""

    def __init__(self, app: ASGIApp, *, languages: Languages) -> None:
        self.app = app
        self.languages = languages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        accepted = next((value for name, value in scope["headers"] if name == b"accept-language"), b"")
        before = translations.set(self.languages.for_reader(accepted.decode("latin-1")))
        try:
            await self.app(scope, receive, send)
        finally:
            translations.reset(before)


async def keep_to_whole_pages(request: Request) -> None:
    """Fall back to English for a page that is not translated as a whole; after `identify`.

    An annotator who asks for such a page is refused it, and that in their language.
    """
    if wording.language() not in FOR_ANNOTATORS or ANNOTATORS_PAGES.match(request.url.path):
        return
    user = getattr(request.state, "user", None)
    if request.url.path in LISTS or (user is not None and user.role != "annotator"):
        translations.set(ENGLISH)
