"""Texts that people read, in their language: `_("There is no %(name)s.", name=name)`, the same here as in templates.

Messages are collected by `pybabel extract`. Which translations speak is a matter of the context, so that a request
can choose a language (`app.languages`); without any, the English of the code is what is shown. A percent sign is
written `%%`.
"""

from contextvars import ContextVar
from functools import lru_cache
from gettext import NullTranslations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from babel import Locale

RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})
"""Languages that are written from right to left."""

ENGLISH = NullTranslations()
"""What is written in the code."""

translations: ContextVar[NullTranslations] = ContextVar("translations", default=ENGLISH)
"""Those of the person who reads what is being written now."""


def language() -> str:
    """The language that is spoken now, as the `lang` of a page: `en`, `pt-BR`."""
    return translations.get().info().get("language", "en").replace("_", "-")


def direction() -> str:
    """Which way the language that is spoken now is written, as the `dir` of a page."""
    return "rtl" if language().partition("-")[0] in RIGHT_TO_LEFT else "ltr"


def habits() -> "Locale | None":
    """How numbers and days are written in the language that is spoken; None for English."""
    return None if translations.get() is ENGLISH else _habits_of(language())


@lru_cache
def _habits_of(language: str) -> "Locale | None":
    """Those of the language; of a country's variant that nobody has described, those of the language itself."""
    from babel import Locale, UnknownLocaleError

    for name in (language, language.partition("-")[0]):
        try:
            return Locale.parse(name, sep="-")
        except (ValueError, UnknownLocaleError):
            continue
    return None


def gettext(message: str, /, **values: Any) -> str:
    """The message in the reader's language, its `%(name)s` filled in."""
    return translations.get().gettext(message) % values


def ngettext(singular: str, plural: str, number: int, /, **values: Any) -> str:
    """The form of the message that fits `number`, which `%(num)s` stands for."""
    return translations.get().ngettext(singular, plural, number) % {"num": number, **values}


def mark(message: str) -> str:
    """The message as it is, for a constant that `_` translates where it is shown; `pybabel` finds it as `N_`."""
    return message
