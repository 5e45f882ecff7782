"""Whatever is sent to whichever route, by whomever: it may be refused, but nothing breaks.

Schemathesis makes up requests from a description of all routes; then every field of every form is given, one at a
time, what parsers and databases stumble over. A test that finds something prints the request.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote_plus

import pytest
import schemathesis
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from httpx import Response
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.schemas import APIOperation
from sqlalchemy import Connection
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.service import passwords
from app.settings import Settings
from tests.conftest import SignedIn
from tests.kernel.test_routes import visitor_with_token
from tests.kernel.walking import Member, Step, World, build_world, steps
from tests.security.described import FORM, LEFT_OUT, described, form_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Setting per-request cookies:DeprecationWarning")]

WHO = [Member.NOBODY, Member.ANNOTATOR, Member.RESEARCHER, Member.MANAGER, Member.ADMIN_ENROLLED]
EXAMPLES = 4
HOSTILE_PATH_PARTS = [
    "0", "-1", "2147483648", "9223372036854775808", "9" * 400, "1e3", "0x1", "１", "%00", "%ED%A0%80", "..", "%2e%2e",
    "%2F..%2F", "'", "%22%3E%3Cscript%3E", "nan", "true", " ", "%0d%0aX-Evil:1", "{}", "null",
]  # fmt: skip
HOSTILE_FIELDS = [
    b"", b"a%00b", b"%2F%00", b"%ED%A0%80", b"%FF%FE%C0%AF", b"-1", b"1e400", b"nan", b"2147483648", b"9" * 5000,
    b"9223372036854775807", b"-9223372036854775809", b"1.5", b"true", b"null", b"%7B%7D", b"%5B" * 20_000,
    b"0001-01-01", b"9999-12-31T23:59:59-23:59", b"3>1", b"1>" * 3000 + b"2", b"..%2F..%2Fetc%2Fpasswd", b"a" * 200_000,
    b"%E2%80%AE%F3%A0%80%81", b"%0D%0ASet-Cookie:%20x=1",
]  # fmt: skip
RIGHT: dict[str, bytes] = {
    "email": b"someone@example.org", "password": b"a+long+enough+password", "old_password": b"wrong",
    "new_password": b"a+long+enough+password", "name": b"Name", "role": b"annotator", "source": b"line:1:current",
    "comparisons_per_prompt": b"1", "redundancy": b"1", "samples_drawn": b"4", "temperature": b"0.8", "top_p": b"0.9",
    "max_tokens": b"32", "access": b"none", "judges": b"on", "text": b"What+is+it?", "ranking": b"1>2",
    "reason": b"Skimmed.", "verb": b"reject", "which": b"all",
    "key": b"7b1f7b1e-3f3c-4f51-9d8e-6a0c2f9c7a11", "version_id": b"1", "slug": b"slug", "path": b"/models/x",
    "base_url": b"https%3A%2F%2F127.0.0.1%3A9%2Fv1", "model": b"theirs", "prompt": b"Why%3F", "left": b"1",
    "start": b"1",
}  # fmt: skip
"""What each field is given while another is being tried; fields that may be absent are, but for ALWAYS."""

ALWAYS = {"ranking"}
"""Without it a verdict is refused before the rest is looked at."""


@pytest.fixture
def world(session: Session, session_factory: sessionmaker[Session], settings: Settings) -> World:
    """A campaign, all that hangs on it, and the people."""
    return build_world(session, session_factory, settings)


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords hashed with little work, which is not what is tried here."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64))


Send = Callable[..., Response]


@pytest.fixture
def send_as(
    connection: Connection, world: World, signed_in: SignedIn, visitor: TestClient
) -> Iterator[Callable[..., Send]]:
    """`send_as(member)` sends requests as somebody, and undoes what each did, so that all find the same world."""

    kept = ExitStack()

    def of(member: Member) -> Send:
        browser = visitor_with_token(visitor) if member is Member.NOBODY else signed_in(world.people[member])
        kept.enter_context(browser)  # one event loop for all requests, rather than one for each
        cookies = dict(browser.cookies)

        def send(method: str, url: str, **given: Any) -> Response:
            undone = connection.begin_nested()
            browser.cookies.clear()
            browser.cookies.update(cookies)
            try:
                return browser.request(method, url, **given)
            finally:
                undone.rollback()

        return send

    with kept:
        yield of


@pytest.mark.parametrize("member", WHO)
def test_no_request_breaks_any_route(app: FastAPI, world: World, send_as: Callable[..., Send], member: Member) -> None:
    send, broken = send_as(member), Breakages()
    addresses = {(step.method, step.path): step.address(world, member) for step in steps(app)}
    for operation in operations(app):
        real = addresses[operation.method.upper(), operation.path]
        paths = st.one_of(st.just(real), st.just(real), hostile_addresses(operation.path, real))

        @hypothesis_settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), path=paths)
        def attack(case: Case, path: str) -> None:
            request = {name: value for name, value in case.as_transport_kwargs().items() if value is not None}
            method, _ = request.pop("method"), request.pop("url")
            broken.note(f"{method} {path} {request}", lambda: send(method, path, **request))

        attack()
    broken.none_expected()


@pytest.mark.parametrize("member", [Member.ADMIN_ENROLLED, Member.NOBODY])
def test_no_field_of_any_form_breaks_its_route(
    app: FastAPI, world: World, send_as: Callable[..., Send], member: Member
) -> None:
    send, broken, tried = send_as(member), Breakages(), 0
    for step, names, required in forms(app):
        is_for_strangers = step.path.startswith(("/sign-in", "/links/"))
        if is_for_strangers is not (member is Member.NOBODY):
            continue
        address = step.address(world, member)
        for name in names:
            for value in HOSTILE_FIELDS:
                fields = {other: RIGHT[other] for other in names if other in ALWAYS.union(required)} | {name: value}
                body = b"&".join(quote_plus(field).encode() + b"=" + given for field, given in fields.items())
                headers = {"Content-Type": FORM, "HX-Request": "true"}
                broken.note(
                    f"{step} {name}={value[:60]!r}",
                    lambda: send("POST", address, content=body, headers=headers),  # noqa: B023
                )
                tried += 1
    broken.none_expected()
    assert tried > (100 if member is Member.NOBODY else 1200)


class Breakages:
    """What broke, and on what."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def note(self, what: str, ask: Callable[[], Response]) -> None:
        """Ask, and remember a fault of ours; 503 says in words that a part is not running."""
        try:
            status = ask().status_code
            if status >= 500 and status != 503:
                self.found[what[:600]] = f"answered {status}"
        except Exception as error:
            self.found[what[:600]] = repr(error)[:300]

    def none_expected(self) -> None:
        """Fail where something broke."""
        assert not self.found, "\n" + "\n".join(f"{what}\n    {how}" for what, how in self.found.items())


def operations(app: FastAPI) -> Iterator[APIOperation]:
    """Every route as Schemathesis sees it."""
    for safe in (True, False):
        for found in schemathesis.openapi.from_dict(described(app, safe=safe)).get_all_operations():
            yield found.ok()


def hostile_addresses(path: str, real: str) -> st.SearchStrategy[str]:
    """The route's address with something else for one of its parameters, and as it is where it has none."""
    template, parts = path.split("/"), real.split("/")
    places = [place for place, part in enumerate(template) if part.startswith("{")]
    if not places:
        return st.just(real)
    swapped = st.tuples(st.sampled_from(places), st.sampled_from(HOSTILE_PATH_PARTS))
    return swapped.map(lambda swap: "/".join(swap[1] if at == swap[0] else part for at, part in enumerate(parts)))


def forms(app: FastAPI) -> Iterator[tuple[Step, list[str], list[str]]]:
    """Every route that reads a form, with the form's fields and those that it must hold."""
    by_name = {step.name: step for step in steps(app) if step.method == "POST"}
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and route.name in by_name and route.name not in LEFT_OUT:
            fields = form_of(route.dependant)
            if fields is not None:
                yield by_name[str(route.name)], list(fields["properties"]), fields["required"]
