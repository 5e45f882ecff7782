"""Readers are answered in their language: chosen by what their browser accepts, and spoken by every page throughout."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.languages import Languages, wanted
from app.main import create_app
from app.settings import Settings
from tests.conftest import NOW, SignedIn
from tests.e2e.everything import ANYTHING
from tests.kernel.pseudo import PSEUDO, untranslated, write_pseudo_language
from tests.kernel.walking import Member, build_world, steps
from tests.security.worlds import make_hostile

GIVEN = {"What about", "What colour is the sky", "Prefer what helps"}
"""What the world's people wrote, beside `ANYTHING`."""


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Languages:
    """English, and the language that nobody speaks."""
    return Languages(write_pseudo_language(tmp_path_factory.mktemp("locale")))


@pytest.fixture
def app(settings: Settings, session_factory: sessionmaker[Session], languages: Languages) -> FastAPI:
    """The web app, which knows those languages."""
    return create_app(settings, session_factory=session_factory, clock=lambda: NOW, languages=languages)


def test_the_languages_of_a_browser_are_tried_by_their_weight() -> None:
    assert wanted("de-CH, fr;q=0.7, de;q=0.9, *;q=0.1, it;q=0") == ["de-ch", "de", "fr", "*"]
    assert wanted("de;q=soon, fr") == ["fr"]
    assert wanted("") == []


@pytest.mark.parametrize(
    ("accepted", "language", "direction"),
    [
        (PSEUDO, PSEUDO, "rtl"),
        ("fr, ar-xb;q=0.5", PSEUDO, "rtl"),
        ("en, ar-XB;q=0.5", "en", "ltr"),
        ("en-GB", "en", "ltr"),
        ("fr", "en", "ltr"),
        ("", "en", "ltr"),
    ],
)
def test_a_page_speaks_the_first_language_that_there_is(
    visitor: TestClient, accepted: str, language: str, direction: str
) -> None:
    page = visitor.get("/sign-in", headers={"Accept-Language": accepted}).text
    assert f'<html lang="{language}" dir="{direction}">' in page
    assert ("⟦Sign in" in page) is (language == PSEUDO)
    assert "⟦" not in visitor.get("/sign-in", headers={"Accept-Language": "en"}).text, "and forgets it again"


def test_what_is_not_translated_is_found() -> None:
    assert untranslated('<p>⟦all <b>is</b> well⟧ 7 Ω</p><code>left</code><i translate="no">x y</i>') == []
    assert untranslated("<p>⟦Judged⟧ by nobody</p>") == ["by nobody"]
    assert untranslated('<a aria-label="Next one">⟦x⟧</a><input placeholder="Any words">') == ["Next one", "Any words"]


def test_every_page_says_everything_in_the_readers_language(
    app: FastAPI,
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    signed_in: SignedIn,
    visitor: TestClient,
) -> None:
    world = build_world(session, session_factory, settings)
    make_hostile(session, world, evil=ANYTHING)
    left = []
    for member in (Member.NOBODY, Member.ANNOTATOR, Member.MANAGER, Member.ADMIN_ENROLLED):
        browser = visitor if member is Member.NOBODY else signed_in(world.people[member])
        browser.headers["Accept-Language"] = PSEUDO
        for step in steps(app):
            if step.method != "GET" or step.path.endswith("/events"):
                continue
            address = step.address(world, member)
            answer = browser.get(address)
            if answer.headers.get("content-type", "").startswith("text/html"):
                left += [f"{address}: {said}" for said in untranslated(answer.text) if said not in GIVEN]
    assert not left, "\n" + "\n".join(dict.fromkeys(left))
