"""Texts that people read, in their language: `_("There is no %(name)s.", name=name)`, the same here as in templates.

Messages are collected by `pybabel extract`. Which translations speak is a matter of the context, so that a request
can choose a language; without any, the English of the code is what is shown. A percent sign is written `%%`.
"""

from contextvars import ContextVar
from gettext import NullTranslations
from typing import Any

translations: ContextVar[NullTranslations] = ContextVar("translations", default=NullTranslations())  # noqa: B039
"""Those of the person who reads what is being written now."""


def gettext(message: str, /, **values: Any) -> str:
    """The message in the reader's language, its `%(name)s` filled in."""
    return translations.get().gettext(message) % values


def ngettext(singular: str, plural: str, number: int, /, **values: Any) -> str:
    """The form of the message that fits `number`, which `%(num)s` stands for."""
    return translations.get().ngettext(singular, plural, number) % {"num": number, **values}


def mark(message: str) -> str:
    """The message as it is, for a constant that `_` translates where it is shown; `pybabel` finds it as `N_`."""
    return message
