"""Texts that mean harm, as our server hands them out: nothing in any page acts for somebody else."""

import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.markdown import render_markdown
from app.settings import Settings
from tests.conftest import SignedIn
from tests.kernel.walking import Member, World, build_world, steps
from tests.security.hostile import BOMBS, EVERY, EVIL
from tests.security.pages import smuggled_into
from tests.security.worlds import make_hostile

CPU_SECONDS = 3.0
"""Generous for a slow machine; what these guard against took from ten seconds to minutes."""


@pytest.mark.parametrize("text", EVERY, ids=range(len(EVERY)))
def test_a_hostile_text_is_rendered_inert_and_stays_readable(text: str) -> None:
    html = render_markdown(text)
    assert not smuggled_into(html)
    assert len(html) >= len(text.strip()) / 3, "it is shown rather than dropped"


@pytest.mark.parametrize("name", BOMBS)
def test_no_text_takes_long_to_render_or_grows_into_a_page_no_browser_bears(name: str) -> None:
    text = BOMBS[name]
    started = time.process_time()
    html = render_markdown(text)
    assert time.process_time() - started < CPU_SECONDS
    assert len(html) < 4_000_000 + 6 * len(text)
    assert not smuggled_into(html)


@pytest.fixture
def world(session: Session, session_factory: sessionmaker[Session], settings: Settings) -> World:
    """A campaign and all that hangs on it, every text of which means harm."""
    world = build_world(session, session_factory, settings)
    make_hostile(session, world)
    return world


@pytest.mark.parametrize("member", [Member.ADMIN_ENROLLED, Member.ANNOTATOR, Member.MANAGER, Member.RESEARCHER])
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "fragment"])
def test_no_page_carries_anything_of_somebody_elses_that_acts(
    app: FastAPI, world: World, signed_in: SignedIn, member: Member, headers: dict[str, str]
) -> None:
    browser = signed_in(world.people[member])
    seen = wrong = 0
    complaints = []
    for step in steps(app):
        answer = browser.get(step.address(world, member), headers=headers) if step.method == "GET" else None
        if answer is None or not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        assert answer.status_code < 500, step
        found = smuggled_into(answer.text)
        seen += EVIL in answer.text
        wrong += bool(found)
        complaints += [f"{step}: {each}" for each in found[:3]]
    assert not complaints, "\n" + "\n".join(complaints)
    assert seen >= {Member.ADMIN_ENROLLED: 20, Member.ANNOTATOR: 3}.get(member, 10), "the texts were shown at all"


def test_what_is_typed_into_a_form_comes_back_inert(world: World, signed_in: SignedIn) -> None:
    manager: TestClient = signed_in(world.people[Member.MANAGER])
    for text in EVERY:
        for path, field in (("/campaigns", "name"), (f"/campaigns/{world.campaign.id}/prompts", "conversation")):
            answer = manager.post(path, data={field: text, "guidelines": text})
            assert answer.status_code == 422, path
            assert not smuggled_into(answer.text)
        preview = manager.post("/campaigns/guidelines-preview", data={"guidelines": text})
        assert not smuggled_into(preview.text)
        searched = manager.get(
            f"/campaigns/{world.campaign.id}/prompts", params={"q": text, "tag": text, "state": text}
        )
        assert searched.status_code == 200
        assert not smuggled_into(searched.text)


def test_the_look_out_for_smuggled_things_sees_them() -> None:
    for text in EVERY:
        if text.startswith(("<script", "<svg", "<img src", "<body", "<details", "<style", "<base", "<meta", "<div hx")):
            assert smuggled_into(text), text
    assert smuggled_into(f"<a href='javascript:alert(1)'>{EVIL}</a>")
    assert smuggled_into(f"<div hx-get='//{EVIL}'></div>")
    assert smuggled_into("a\u202eb")
