"""The pages of other servers: adding a model of one, trying whether it answers, changing how it is asked."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.audit import AuditEntry
from app.campaigns.service.sources import list_model_sources
from app.deployments.model_server import wanted
from app.deployments.models import ModelLine
from app.errors import Invalid
from app.settings import Settings
from app.training.service.requesting import readiness, request_run
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import make_endpoint, make_line
from tests.factories.foreign import Foreign, completion, foreign_server
from tests.factories.training import judge_pairs


@pytest.fixture
def foreign(app: FastAPI, settings: Settings) -> Iterator[Foreign]:
    """A server that may be asked."""
    with foreign_server() as server:
        server.reply = lambda _body: completion("Good day.")
        app.state.settings = settings.model_copy(update={"endpoint_origins": [server.origin]})
        yield server


def form(**given: str) -> dict[str, str]:
    """The form as somebody fills it in."""
    address = "https://models.example.org/v1/chat/completions"
    filled = {"base_url": address, "model": "big", "name": "Big", "slug": "big", "concurrency": "3", "gives_n": "true"}
    return {**filled, "key_variable": "PALATE_KEY_BIG", **given}


def test_a_model_of_another_server_becomes_a_line_that_campaigns_may_choose(
    session: Session, signed_in: SignedIn
) -> None:
    learner = make_line(session, slug="learner")
    browser = signed_in(make_user(session, Role.ADMIN))
    assert "Add another server" in browser.get("/models").text
    answer = browser.post("/models/endpoints", data=form())
    line = session.scalars(select(ModelLine).where(ModelLine.slug == "big")).one()
    assert (answer.status_code, answer.headers["location"]) == (303, f"/models/{line.id}")
    page = browser.get(f"/models/{line.id}").text
    for shown in ("On another server", "big at https://models.example.org/v1", "PALATE_KEY_BIG", "Check"):
        assert shown in page
    assert "Train" not in page.partition("<main")[2].partition("Versions")[0]
    served = {source.key: source.is_elsewhere for source in list_model_sources(session) if source.serves == "big-v0"}
    (version_id,) = {int(key.partition(":v")[2]) for key in served if ":v" in key}
    assert served == {
        f"{line.id}:current": False,
        f"{line.id}:v{version_id}": False,
        f"{learner.id}:v{version_id}": True,
    }
    deeds = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert "endpoint.registered" in deeds


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"base_url": "http://models.example.org/v1"}, "base_url", "Use https"),
        ({"base_url": "nonsense"}, "base_url", "full address"),
        ({"key_variable": "PALATE_SECRET_KEY"}, "key_variable", "begins with PALATE_KEY_"),
        ({"key_variable": "DATABASE_URL"}, "key_variable", "begins with PALATE_KEY_"),
        ({"concurrency": "0"}, "concurrency", "reater than or equal to 1"),
        ({"slug": "taken"}, "slug", "Choose another short name"),
        ({"model": " "}, "model", "too short"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    *, session: Session, signed_in: SignedIn, given: dict[str, str], field: str, said: str
) -> None:
    make_line(session, slug="taken")
    answer = signed_in(make_user(session, Role.ADMIN)).post("/models/endpoints", data=form(**given))
    assert answer.status_code == 422
    assert said in answer.text.partition(f'id="{field}-error"')[2].partition("</p>")[0]
    assert session.scalars(select(ModelLine).where(ModelLine.slug == "big")).one_or_none() is None


def test_the_check_button_says_what_the_server_answered(
    session: Session, signed_in: SignedIn, foreign: Foreign
) -> None:
    endpoint = make_endpoint(session, base_url=foreign.base_url, model="their-model")
    session.commit()
    browser = signed_in(make_user(session, Role.ADMIN))
    answer = browser.post(f"/models/endpoints/{endpoint.version_id}/check")
    page = browser.get(answer.headers["location"]).text
    assert "It answers" in page
    assert "theirs-1 wrote: “Good day.”" in page
    assert [body["model"] for body in foreign.asked] == ["their-model"]


def test_a_server_that_moved_is_asked_where_it_is_now_and_nobody_but_admins_moves_it(
    session: Session, signed_in: SignedIn, foreign: Foreign
) -> None:
    endpoint = make_endpoint(session)
    session.commit()
    browser = signed_in(make_user(session, Role.ADMIN))
    address = f"/models/endpoints/{endpoint.version_id}"
    checked = browser.post(f"{address}/check")
    assert "It does not" in browser.get(checked.headers["location"]).text
    assert "https://127.0.0.1:9/v1" in browser.get(address).text
    moved = {"base_url": foreign.base_url, "concurrency": "1"}
    assert browser.post(address, data={**moved, "base_url": "http://10.0.0.1"}).status_code == 422
    assert browser.post(address, data=moved).status_code == 303
    session.expire_all()
    assert (endpoint.base_url, endpoint.concurrency, endpoint.gives_n) == (foreign.base_url, 1, False)
    assert (endpoint.checked_at, endpoint.model) == (None, "theirs")
    manager = signed_in(make_user(session, Role.MANAGER))
    assert manager.post(address, data=moved).status_code == 403


def test_a_model_elsewhere_is_neither_trained_nor_told_to_our_model_server(session: Session) -> None:
    line = make_endpoint(session).version.line
    judge_pairs(session, make_campaign(session, line=line))
    assert wanted(session).versions == []
    assert "lies on another server" in (readiness(session, line=line).obstacle or "")
    with pytest.raises(Invalid, match="lies on another server"):
        request_run(session, line=line, person=None, now=NOW)
