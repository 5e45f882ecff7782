"""What can go wrong in the domain, and how it is said: as a page, a fragment, or JSON.

Services raise; nothing else turns an error into an HTTP status. A message says what happened and what
to do now, in words fit for the person who reads it.
"""

import logging
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from psycopg import InterfaceError as LostConnection
from psycopg import OperationalError as DriverTrouble
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from app.templating import is_htmx, render
from app.wording import gettext as _
from app.wording import mark as N_

FAULT = 500
"""From this status on the other side did nothing wrong, and an admin may want to find the request in the logs."""

log = logging.getLogger(__name__)


class DomainError(Exception):
    """Something the domain refuses. `message` is shown to people as it is."""

    status: ClassVar[int] = 400
    title: ClassVar[str] = N_("That did not work")

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFound(DomainError):
    """No such thing, or none that this person may know of."""

    status = 404
    title = N_("Not found")


class Forbidden(DomainError):
    """The thing is there, but not for this person."""

    status = 403
    title = N_("Not allowed")


class Conflict(DomainError):
    """Someone or something else got there first."""

    status = 409
    title = N_("Something changed meanwhile")


class Invalid(DomainError):
    """The input cannot be used as it is."""

    status = 422
    title = N_("Please check your input")


class TooManyRequests(DomainError):
    """Too often in too short a time."""

    status = 429
    title = N_("A moment, please")


class Unavailable(DomainError):
    """A part of Palate that this needs is not running."""

    status = 503
    title = N_("Not available right now")


class SignInNeeded(DomainError):
    """Nobody is signed in, and this page is for people who are."""

    status = 401
    title = N_("Please sign in")


def add_error_pages(app: FastAPI) -> None:
    """Answer every domain error, and every plain HTTP error, in the form that the request can use."""
    app.add_exception_handler(DomainError, _answer_domain_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_unreadable_request)
    for kind in (DataError, psycopg.DataError):  # by SQLAlchemy, and by hand-written SQL
        app.add_exception_handler(kind, _answer_unstorable_value)
    for error in (OperationalError, InterfaceError, DriverTrouble, LostConnection):
        app.add_exception_handler(error, _answer_without_database)
    app.add_exception_handler(Exception, _answer_fault)


def wants_json(request: Request) -> bool:
    """Whether the other side is a program rather than a browser."""
    return request.url.path.startswith("/api/")


def _answer_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)
    if isinstance(error, SignInNeeded) and not wants_json(request):
        return _to_sign_in(request)
    return _answer(request, status=error.status, title=_(error.title), message=error.message)


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles = {404: _("Not found"), 405: _("Not possible here"), 413: _("Too large")}
    messages = {
        404: _("There is nothing at this address. It may have moved, or the link may be incomplete."),
        405: _("This address does not take that kind of request."),
        413: _("This is more than Palate takes at once. Nothing was saved; send less."),
    }
    title = titles.get(error.status_code, _("That did not work"))
    message = messages.get(error.status_code, str(error.detail))
    return _answer(request, status=error.status_code, title=title, message=message)


def _answer_unreadable_request(request: Request, error: Exception) -> Response:
    """An address whose parts are not what its route takes: `/people/somebody` where numbers are meant."""
    assert isinstance(error, RequestValidationError)
    if any(item["loc"][0] == "path" for item in error.errors()):
        return _answer_http_error(request, HTTPException(404))
    wrong = "; ".join(f"{item['loc'][-1]}: {plain_words(item)}" for item in error.errors())
    return _answer(request, status=422, title=_(Invalid.title), message=wrong)


def plain_words(item: Any) -> str:
    """What Pydantic has to say of one value, in words of a form; what only odd requests meet stays in English."""
    kind, given = item["type"], item.get("ctx", {})
    if kind == "missing" or item["input"] == "":
        return _("Please fill this in.")
    if kind == "string_too_short":
        return _("This is too short.")
    if kind == "string_too_long":
        return _("Use at most %(most)s characters.", most=given["max_length"])
    if kind in {"int_parsing", "int_type", "int_from_float", "int_parsing_size"}:
        return _("Enter a valid integer.")
    if kind == "value_error":
        return str(given["error"])
    return str(item["msg"]).removeprefix("Input should be ").capitalize()


def _answer_unstorable_value(request: Request, error: Exception) -> Response:
    """A value that PostgreSQL cannot hold: in an address it names nothing, in a form it is a slip."""
    if request.method == "GET":
        return _answer_http_error(request, HTTPException(404))
    message = _("Something here cannot be stored: a number is too large, or a text holds a NUL character.")
    return _answer(request, status=422, title=_(Invalid.title), message=message)


def _answer_without_database(request: Request, error: Exception) -> Response:
    """PostgreSQL is gone or going: whatever was under way there is undone, and the same can be asked again."""
    log.warning("The database does not answer: %s", error)
    message = _("The database does not answer, or is too busy. Nothing was saved by this; try again in a moment.")
    response = _answer(request, status=503, title=_(Unavailable.title), message=message)
    response.headers["Retry-After"] = "2"
    return response


def _answer_fault(request: Request, error: Exception) -> Response:
    """A mistake of ours. The error itself goes to the log, by the server that raises it again, and to nobody else."""
    message = _("This is Palate's fault, not yours, and nothing was saved. Try again; if it stays, tell an admin.")
    return _answer(request, status=500, title=_("Something broke"), message=message)


def _answer(request: Request, *, status: int, title: str, message: str) -> Response:
    if status >= FAULT:
        number = request.state.request_id
        message = _("%(message)s The number of this request, for the admin: %(number)s", message=message, number=number)
    if wants_json(request):
        return JSONResponse({"error": {"status": status, "title": title, "message": message}}, status_code=status)
    if is_htmx(request):
        response = render(request, "errors/_notice.html", status=status, kind="error", title=title, message=message)
        response.headers["HX-Retarget"] = "#notice"
        response.headers["HX-Reswap"] = "outerHTML"
        return response
    return render(request, "errors/show.html", status=status, title=title, message=message)


def _to_sign_in(request: Request) -> Response:
    """Send a visitor to the sign-in page and back afterwards; only a page that was read can be come back to."""
    sign_in = str(request.app.url_path_for("accounts:sign_in"))
    if is_htmx(request):
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
        path = page.path + (f"?{page.query}" if page.query else "")
        return Response(status_code=401, headers={"HX-Redirect": f"{sign_in}?{urlencode({'next': path})}"})
    if request.method == "GET":
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        sign_in += f"?{urlencode({'next': path})}"
    return RedirectResponse(sign_in, status_code=303)
