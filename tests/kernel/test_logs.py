"""What the logs say, and that one request can be followed through them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.database import DbSession
from app.errors import Unavailable
from app.queue import enqueue
from tests.conftest import SignedIn
from tests.factories.accounts import make_user
from trainer.contract.logs import configure_logs, readable, request_id
from trainer.contract.requests import HEADER

WELL_FORMED = "nginx-0a1b2c3d4e5f"


class Lines:
    """What a process has logged so far."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def all(self) -> list[dict[str, Any]]:
        """Every line, read as JSON."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def of_requests(self) -> list[dict[str, Any]]:
        """The line of each request."""
        return [line for line in self.all() if line["message"] == "request"]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The log of this process, as one that collects logs gets it."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    lines = Lines()
    configure_logs("web", environment={"PALATE_LOG_FORMAT": "json"}, stream=lines.stream)
    yield lines
    root.handlers[:] = before
    root.setLevel(level)


def test_a_request_leaves_one_line_that_names_route_person_and_outcome(
    lines: Lines, session: Session, signed_in: SignedIn
) -> None:
    person = make_user(session, Role.ADMIN)
    signed_in(person).get("/campaigns/7/prompts?search=private&token=secret")
    (line,) = lines.of_requests()
    assert line["process"] == "web"
    assert line["route"] == "/campaigns/{campaign_id}/prompts", "the pattern, with its router's part"
    assert (line["method"], line["status"], line["person_id"]) == ("GET", 404, person.id)
    assert line["ms"] > 0
    assert "secret" not in lines.stream.getvalue()
    assert "private" not in lines.stream.getvalue()


@pytest.mark.parametrize(
    ("given", "kept"),
    [(WELL_FORMED, True), ("short", False), ("x" * 65, False), ("a b c d e f g", False), ('"},{"level":"x', False)],
)
def test_a_well_formed_id_is_kept_and_any_other_replaced(
    lines: Lines, visitor: TestClient, given: str, kept: bool
) -> None:
    answer = visitor.get("/sign-in", headers={HEADER: given})
    assert (answer.headers[HEADER] == given) is kept
    assert lines.of_requests()[0]["request_id"] == answer.headers[HEADER]


def test_ids_differ_and_no_request_inherits_one(visitor: TestClient) -> None:
    ids = [visitor.get("/sign-in").headers[HEADER] for _ in range(3)]
    assert len(set(ids)) == 3
    assert request_id.get() is None


def test_the_address_of_an_invitation_is_not_logged(lines: Lines, visitor: TestClient) -> None:
    visitor.get("/links/an-invitation-nobody-else-should-have")
    visitor.get("/link/mistyped-invitation")
    first, second = lines.of_requests()
    assert first["route"] == "/links/{token}"
    assert "route" not in second
    assert "invitation" not in lines.stream.getvalue()


def test_what_is_asked_all_the_time_is_quiet(lines: Lines, visitor: TestClient) -> None:
    visitor.get("/healthz")
    visitor.get("/static/css/base.css")
    assert lines.of_requests() == []


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_a_fault_shows_the_number_that_its_line_carries(app: FastAPI, lines: Lines, headers: dict[str, str]) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the detail")

    browser = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    answer = browser.get("/broken", headers=headers)
    number = answer.headers[HEADER]
    assert number in answer.text
    (line,) = lines.of_requests()
    assert (line["status"], line["request_id"]) == (500, number)


def test_a_part_that_is_missing_shows_the_number_and_a_refusal_does_not(app: FastAPI, visitor: TestClient) -> None:
    @app.get("/down")
    def down() -> None:
        raise Unavailable("The model server does not answer.")

    answer = visitor.get("/down")
    assert answer.headers[HEADER] in answer.text
    refusal = visitor.get("/no/such/thing")
    assert refusal.headers[HEADER] not in refusal.text


def test_a_job_carries_the_id_of_the_request_that_caused_it(app: FastAPI, session: Session) -> None:
    @app.get("/cause")
    def cause(session: DbSession) -> None:
        enqueue(session, "comparisons:fill_queue", campaign_id=1)

    TestClient(app, base_url="http://localhost").get("/cause", headers={HEADER: WELL_FORMED})
    stored = session.scalars(text("SELECT args FROM procrastinate_jobs")).one()
    assert stored == {"campaign_id": 1, "request_id": WELL_FORMED}


def test_an_error_of_the_database_does_not_tell_what_was_to_be_stored(lines: Lines, session: Session) -> None:
    written = "".join(["pri", "vate"])
    try:
        session.execute(text("SELECT CAST(:given AS text) FROM no_such_table"), {"given": written})
    except Exception:
        logging.getLogger("palate").exception("It failed")
    session.rollback()
    (line,) = lines.all()
    assert "no_such_table" in line["exception"]
    assert written not in line["exception"]


def test_a_line_reads_as_one_to_people_whatever_its_form(lines: Lines) -> None:
    request_id.set(None)
    logging.getLogger("trainer").info("Training on %d pairs.", 12, extra={"fields": {"run_id": 3}})
    assert lines.all()[0]["run_id"] == 3
    assert readable(lines.stream.getvalue()).endswith("Training on 12 pairs.")
    assert readable("Killed") == "Killed"
    assert readable('{"loss": 1}') == '{"loss": 1}'
    plain = io.StringIO()
    configure_logs("trainer", environment={"PALATE_REQUEST_ID": WELL_FORMED}, stream=plain)
    logging.getLogger("trainer").warning("Slow.", extra={"fields": {"step": 4}})
    request_id.set(None)
    assert plain.getvalue().endswith(f" WARNING Slow. [step=4 request={WELL_FORMED}]\n")
