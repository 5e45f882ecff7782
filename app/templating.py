"""Pages and fragments: one Jinja environment, with links, translations, static files and dates at hand."""

from collections.abc import Callable
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from app.filled_forms import filled_in
from app.markdown import disarmed, render_markdown
from app.settings import ROOT
from app.static_files import static_path
from app.wording import direction, gettext, habits, language, ngettext, translations


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a page or fragment. Every template sees `request`, `user` (or none), `csrf_token` and `now`."""
    page = environment().get_template(template)
    shared = {
        "request": request,
        "user": getattr(request.state, "user", None),
        "csrf_token": getattr(request.state, "csrf_token", ""),
        "now": request.app.state.clock(),
    }
    return HTMLResponse(page.render({**shared, **context}), status_code=status)


def is_htmx(request: Request) -> bool:
    """Whether htmx asks, and a fragment will do; going back in the browser's history takes a whole page."""
    return request.headers.get("HX-Request") == "true" and request.headers.get("HX-Request-Type") != "full"


@lru_cache
def environment() -> Environment:
    """The Jinja environment: autoescaping, strict about missing names, strings wrapped for gettext."""
    jinja = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    jinja.context_class = _Context
    jinja.install_gettext_callables(  # type: ignore[attr-defined]
        lambda message: translations.get().gettext(message),
        lambda singular, plural, number: translations.get().ngettext(singular, plural, number),
        newstyle=True,
    )
    jinja.globals["_"] = _said
    jinja.globals["language"] = language
    jinja.globals["direction"] = direction
    jinja.globals["url_for"] = _url_for
    jinja.globals["static"] = static_path
    jinja.filters["markdown"] = render_markdown
    jinja.filters["filled_in"] = filled_in
    jinja.filters["ago"] = ago
    jinja.filters["day"] = day
    jinja.filters["percent"] = percent
    jinja.filters["moment"] = moment
    jinja.filters["number"] = number
    jinja.filters["size"] = size
    return jinja


class _Context(Context):
    """Where a template finds its names. Most of what it calls are messages, which want nothing of what Jinja looks
    for in every callable.
    """

    def call(self, function: Callable[..., Any], /, *args: Any, **values: Any) -> Any:
        """Call from within a template."""
        if function is _said:
            values.pop("_loop_vars", None)
            values.pop("_block_vars", None)
            return _said(*args, **values)
        return super().call(function, *args, **values)


def _said(message: str, /, **values: Any) -> Markup:
    """A message in the reader's language, its values escaped. Jinja's own way calls three functions for each."""
    translated = translations.get().gettext(message)
    return Markup(translated) % values if values else _said_plainly(translated)  # noqa: S704  (messages are ours)


@lru_cache(maxsize=4096)
def _said_plainly(translated: str) -> Markup:
    """A message without values, `%%` made `%`."""
    return Markup(translated) % {}  # noqa: S704


def _shown(value: Any) -> Any:
    """What a template shows, made unable to reorder what stands beside it: names and excerpts are hostile too."""
    return disarmed(value) if isinstance(value, str) else value


@pass_context
def _url_for(context: Context, name: str, /, **parameters: Any) -> str:
    """The path of a route; pages never spell out addresses. Relative, so that a proxy's host does not matter."""
    request: Request = context["request"]
    return _path_format(request.app, name, tuple(parameters)).format_map(parameters)


def _path_format(app: FastAPI, name: str, parameters: tuple[str, ...]) -> str:
    """A route's path with its parameters in braces, remembered by the app: searching all routes takes far longer."""
    known: dict[tuple[str, tuple[str, ...]], str] = app.state.__dict__.setdefault("path_formats", {})
    if (name, parameters) not in known:
        placeholders = {parameter: f"{{{parameter}}}" for parameter in parameters}
        known[name, parameters] = str(app.url_path_for(name, **placeholders))
    return known[name, parameters]


def percent(fraction: float | None, digits: int = 0) -> str:
    """A fraction (0 to 1) as a percentage, or a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f} %"


def moment(at: datetime | None) -> str:
    """An instant for people, to the minute, in UTC."""
    return "–" if at is None else f"{day(at)} {at:%H:%M} UTC"


def day(on: date) -> str:
    """A day as people write it in the language that is spoken; in English, which has no one way, year, month, day."""
    if (locale := habits()) is None:
        return f"{on:%Y-%m-%d}"
    from babel.dates import format_date

    return format_date(on, format="medium", locale=locale)


def number(count: int) -> str:
    """A count with its thousands apart, as the language that is spoken has it."""
    if (locale := habits()) is None:
        return f"{count:,}"
    from babel.numbers import format_decimal

    return format_decimal(count, locale=locale)


def size(count: int) -> str:
    """A number of bytes in the unit that says enough."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"


def ago(at: datetime | None, now: datetime) -> str:
    """How long since, in the largest unit that says enough."""
    if at is None:
        return gettext("never")
    seconds = max(0, int((now - at).total_seconds()))
    if seconds >= 86_400:
        return ngettext("%(num)s day ago", "%(num)s days ago", seconds // 86_400)
    if seconds >= 3_600:
        return ngettext("%(num)s hour ago", "%(num)s hours ago", seconds // 3_600)
    if seconds >= 60:
        return ngettext("%(num)s minute ago", "%(num)s minutes ago", seconds // 60)
    return gettext("just now")
