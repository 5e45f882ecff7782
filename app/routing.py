"""Routes of which one thread carries out everything: dependencies, endpoint and transaction.

FastAPI gives every plain dependency a thread for a moment, the endpoint another and the commit a third. Where people
wait for little more than a few quick statements, as between two comparisons, changing threads costs more than the
work. The dependencies are the same as anywhere, so what a route needs is declared, checked and tested as on all others.
"""

from collections.abc import Callable, Coroutine
from typing import Any, cast
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from app.database import get_session, in_transaction
from app.wording import gettext as _

LARGEST_FORM_BYTES = 64 * 1024
MOST_FIELDS = 1000
URLENCODED = "application/x-www-form-urlencoded"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class InOneThread(APIRoute):
    """A route for `APIRouter(route_class=…)`. Its dependencies may be plain functions, and `async` ones that wait for
    nothing but the form; its endpoint is a plain function that returns a response.

    A request with a large body, or one that is no ordinary form, is left to FastAPI's own way.
    """

    def get_route_handler(self) -> Handler:
        """How a request is answered."""
        usual = super().get_route_handler()
        found: list[Dependant] = []

        async def handle(request: Request) -> Response:
            if not has_small_form(request):
                return await usual(request)
            if not found:
                found.append(self._dependant_in(request))
            known = ReadRequest(request, read_form(await request.body()))
            return await run_in_threadpool(answer, found[0], known)

        return handle

    def _dependant_in(self, request: Request) -> Dependant:
        """This route's dependencies together with those that the app adds to all."""
        routes = iter_route_contexts(request.app.routes)
        dependant: Dependant = next(route.dependant for route in routes if route.original_route is self)
        refuse_what_needs_more(dependant)
        return dependant


class ReadRequest(Request):
    """A request whose form has been read already."""

    def __init__(self, request: Request, form: FormData) -> None:
        super().__init__(request.scope)
        self._read = form

    async def form(self, **_limits: Any) -> FormData:  # type: ignore[override]
        """The form, without waiting."""
        return self._read


def has_small_form(request: Request) -> bool:
    """Whether a request says that it holds nothing, or a form of a few short fields."""
    headers = request.headers
    if "transfer-encoding" in headers:
        return False
    size = headers.get("content-length", "0")
    is_form = headers.get("content-type", URLENCODED).partition(";")[0].strip().lower() == URLENCODED
    return size == "0" or (is_form and size.isdecimal() and int(size) <= LARGEST_FORM_BYTES)


def read_form(body: bytes) -> FormData:
    """The fields of a form as browsers encode it."""
    try:
        fields = parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise HTTPException(400, _("This form has too many fields.")) from None
    return FormData([*fields])


def answer(dependant: Dependant, request: Request) -> Response:
    """Everything from the sign-in to the commit, on this thread."""

    def work(session: Session) -> Response:
        assert dependant.call is not None
        arguments = solved(dependant, request, {get_session: session})
        return cast(Response, dependant.call(**arguments))

    return in_transaction(request.app.state.session_factory, work)


def solved(dependant: Dependant, request: Request, known: dict[Callable[..., Any], Any]) -> dict[str, Any]:
    """The arguments of a dependency or endpoint; `known` holds what each dependency gave, for whoever asks again.

    Raises RequestValidationError, as FastAPI does, for an address that does not fit.
    """
    arguments: dict[str, Any] = {}
    for needed in dependant.dependencies:
        call = cast(Callable[..., Any], needed.call)
        if call not in known:
            given = call(**solved(needed, request, known))
            known[call] = at_once(given) if isinstance(given, Coroutine) else given
        if needed.name is not None:
            arguments[needed.name] = known[call]
    for fields, values in (
        (dependant.path_params, request.path_params),
        (dependant.query_params, request.query_params),
    ):
        if fields:
            read, errors = request_params_to_args(fields, values)
            if errors:
                raise RequestValidationError(errors)
            arguments.update(read)
    if dependant.request_param_name is not None:
        arguments[dependant.request_param_name] = request
    return arguments


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits for something, which a route in one thread cannot")


def refuse_what_needs_more(dependant: Dependant) -> None:
    """Raise TypeError where a route in one thread asks for what only FastAPI's own way can give."""
    beyond = ("body_params", "header_params", "cookie_params", "response_param_name", "background_tasks_param_name")
    wanted = [name for name in beyond if getattr(dependant, name)]
    if wanted:
        raise TypeError(f"{dependant.call} wants {', '.join(wanted)}, which a route in one thread cannot give")
    for needed in dependant.dependencies:
        if needed.call is not get_session:
            refuse_what_needs_more(needed)
