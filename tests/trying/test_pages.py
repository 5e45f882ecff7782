"""The Try it page: who may talk to whom, replies whole and in pieces, and troubles in words."""

import json
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.campaigns.models import Access
from app.deployments.models import Endpoint, ModelLine
from app.settings import Settings
from tests.conftest import SignedIn
from tests.deployments.conftest import model_server, models, running_server, served_settings
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.deployments import make_endpoint, make_line, make_version
from tests.factories.foreign import Answer, Foreign, completion, foreign_server, refusal, streamed
from trainer.contract.files import weights_sha256

__all__ = ["model_server", "models", "running_server", "served_settings"]


@pytest.fixture
def foreign(app: FastAPI, settings: Settings) -> Iterator[Foreign]:
    """Somebody else's server, which may be asked."""
    with foreign_server() as server:
        app.state.settings = settings.model_copy(update={"endpoint_origins": [server.origin]})
        yield server


@pytest.fixture
def theirs(session: Session, foreign: Foreign) -> Endpoint:
    """Its model as a version of ours."""
    return make_endpoint(session, slug="theirs", base_url=foreign.base_url, model="their-model")


@pytest.fixture
def admin(session: Session, signed_in: SignedIn) -> TestClient:
    """An admin's browser."""
    return signed_in(make_user(session, Role.ADMIN))


def events(browser: TestClient, version_id: int, **given: Any) -> list[dict[str, Any]]:
    """What streams of one reply."""
    answer = browser.post(f"/try/{version_id}/reply", data={"prompt": "Why?", **given})
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    return [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n") if event]


def test_a_reply_comes_in_pieces_and_ends_with_its_markdown(
    admin: TestClient, foreign: Foreign, theirs: Endpoint
) -> None:
    foreign.reply = lambda _body: streamed("It is ", "**blue**", "\n<script>alert(1)</script>")
    *pieces, last = events(admin, theirs.version_id, temperature="0.5", seed="7", system="Be brief.")
    assert [piece["text"] for piece in pieces] == ["It is ", "**blue**", "\n<script>alert(1)</script>"]
    assert last["ended"] == "stop"
    assert "<strong>blue</strong>" in last["html"]
    assert "<script>" not in last["html"]
    assert foreign.asked == [
        {
            "model": "their-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
            "temperature": 0.5, "top_p": 0.95, "max_tokens": 256, "seed": 7, "stream": True,
        }
    ]  # fmt: skip


def test_a_server_that_refuses_to_stream_is_asked_for_the_whole(
    admin: TestClient, foreign: Foreign, theirs: Endpoint
) -> None:
    def reply(body: dict[str, Any]) -> Answer:
        return refusal(400, "Streaming is not supported.", param="stream") if "stream" in body else completion("Blue.")

    foreign.reply = reply
    assert [event.get("text") for event in events(admin, theirs.version_id)] == ["Blue.", "Blue."]


def sent(*pieces: bytes) -> Answer:
    """A stream of just these bytes."""
    return Answer(headers={"Content-Type": "text/event-stream"}, pieces=list(pieces))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(400, "The prompt has 300 tokens; this model reads at most 128."), "reads at most 128"),
        (Answer(503, {"error": {"message": "loading"}}), "could not write (503): loading"),
        (sent(b'data: {"choices": [{"delta": {"content": "It"}}]}\n\n'), "broke off"),
        (sent(b'data: {"error": {"message": "out of memory"}}\n\n'), "out of memory"),
        (sent(b"data: nonsense\n\n"), "makes no sense"),
        (sent(b"x" * 3_000_000), "makes no sense"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_in_words(
    *, admin: TestClient, foreign: Foreign, theirs: Endpoint, answer: Answer, said: str
) -> None:
    foreign.reply = lambda _body: answer
    assert said in events(admin, theirs.version_id)[-1]["error"]


def test_a_model_server_that_is_away_is_said(session: Session, admin: TestClient) -> None:
    line = make_line(session)
    version = make_version(session, line)
    session.commit()
    (event,) = events(admin, version.id)
    assert "does not answer. Is it running?" in event["error"]


def test_without_scripts_two_versions_answer_the_same_conversation_each_with_its_own_replies(
    admin: TestClient, session: Session, foreign: Foreign, theirs: Endpoint
) -> None:
    other = make_endpoint(session, slug="others", base_url=foreign.base_url, model="other")
    session.commit()
    foreign.reply = lambda body: streamed(f"{body['model']} says {len(body['messages'])}")
    form = {"prompt": "First <b>?", "left": theirs.version_id, "right": other.version_id}
    page = admin.post("/try", data=form).text
    for shown in ("theirs-v0", "their-model says 1", "other says 1", "First &lt;b&gt;?", "nothing of it is stored"):
        assert shown in page
    conversation = hidden(page)
    page = admin.post("/try", data={**form, "prompt": "Second?", "conversation": conversation}).text
    assert "other says 3" in page
    assert foreign.asked[-1]["messages"][1]["content"].startswith(foreign.asked[-1]["model"])
    foreign.reply = lambda _body: refusal(400, "Too long.")
    page = admin.post("/try", data={**form, "prompt": "Third?", "conversation": hidden(page)}).text
    assert "Too long." in page
    assert ">Third?</textarea>" in page, "what nobody answered can be sent again"
    foreign.reply = lambda body: streamed("Yes.")
    admin.post("/try", data={**form, "prompt": "Fourth?", "conversation": hidden(page)})
    assert [each["content"] for each in foreign.asked[-1]["messages"] if each["role"] == "user"] == [
        "First <b>?", "Second?", "Fourth?",
    ]  # fmt: skip


def hidden(page: str) -> str:
    """The conversation as the page carries it."""
    return unescape(page.partition('name="conversation" value="')[2].partition('"')[0])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prompt": "  "}, "Write something first."),
        ({"conversation": "[1]"}, "cannot be read"),
        ({"conversation": '[{"prompt": "x", "replies": [{}, {}, {}]}]'}, "cannot be read"),
        ({"temperature": "9"}, "ess than or equal to 2"),
        ({"left": "2147483648"}, "ess than or equal"),
        ({"left": "1000000"}, "no such model version"),
    ],
)
def test_what_is_wrong_with_the_form_is_said(
    *, admin: TestClient, theirs: Endpoint, given: dict[str, str], said: str
) -> None:
    answer = admin.post("/try", data={"prompt": "Why?", "left": str(theirs.version_id), **given})
    assert answer.status_code == 422
    assert said in answer.text


def test_one_talks_to_versions_of_lines_that_one_may_see_and_to_no_others(
    session: Session, signed_in: SignedIn, theirs: Endpoint
) -> None:
    campaign = make_campaign(session, line=make_line(session, slug="seen"))
    researcher, annotator = make_user(session, Role.RESEARCHER), make_user(session, Role.ANNOTATOR)
    enrol(session, researcher, campaign, access=Access.RESEARCH)
    enrol(session, annotator, campaign, judges=True)
    session.commit()
    page = signed_in(researcher).get("/try").text
    assert "seen-v0" in page
    assert "theirs-v0" not in page
    refused = signed_in(researcher).post("/try", data={"prompt": "Why?", "left": theirs.version_id})
    assert (refused.status_code, "theirs-v0" in refused.text) == (422, False)
    assert signed_in(researcher).post(f"/try/{theirs.version_id}/reply", data={"prompt": "?"}).status_code == 404
    assert "nobody to talk to" in signed_in(annotator).get("/try").text


def test_a_prompt_that_was_tried_is_added_to_a_campaign_with_what_came_before(
    session: Session, admin: TestClient, foreign: Foreign, theirs: Endpoint
) -> None:
    campaign = make_campaign(session)
    session.commit()
    foreign.reply = lambda _body: streamed("Because.")
    form = {"prompt": "Why is it?", "left": theirs.version_id, "system": "Be brief."}
    page = admin.post("/try", data=form).text
    page = admin.post("/try", data={**form, "prompt": "And then?", "conversation": hidden(page)}).text
    messages = hidden(page.partition('id="keep"')[2])
    answer = admin.post(f"/campaigns/{campaign.id}/prompts", data={"conversation": messages})
    assert answer.status_code == 303
    shown = admin.get(answer.headers["location"]).text
    for text in ("Be brief.", "Why is it?", "Because.", "And then?"):
        assert text in shown


def test_a_version_of_ours_that_is_not_loaded_is_loaded_first_and_a_prompt_that_is_too_long_is_said(
    *, app: FastAPI, session: Session, admin: TestClient, served_settings: Settings, models: Path
) -> None:
    app.state.settings = served_settings.model_copy(update={"secret_key": app.state.settings.secret_key})
    left = models / "left"
    line: ModelLine = make_line(session, slug="tiny")
    version = make_version(session, line, path=str(left), sha256=weights_sha256(left))
    broken = make_version(session, line, path=str(models / "missing"), sha256="0" * 64)
    session.commit()
    first, *pieces = events(admin, version.id, max_tokens="12")
    assert first == {"note": f"{version.name} is being loaded …"}
    assert pieces[-1]["ended"] == "length"
    assert set("".join(piece["text"] for piece in pieces[:-1])) <= set("ab")
    assert "128" in events(admin, version.id, prompt="Read this. " * 60)[-1]["error"]
    assert "missing" in events(admin, broken.id)[-1]["error"]
