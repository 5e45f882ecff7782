"""What annotators see is there in each language that we have, as a whole; pages that are not are English as a whole."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.access import Needs
from app.languages import ANNOTATORS_PAGES, FOLDER, FOR_ANNOTATORS, LISTS, Languages
from app.main import create_app
from app.settings import Settings
from app.templating import day, moment, number
from app.wording import translations
from tests.conftest import NOW, SignedIn
from tests.e2e.everything import ANYTHING
from tests.kernel.pseudo import PSEUDO, extracted, said_on, untranslated, write_pseudo_language
from tests.kernel.test_languages import GIVEN
from tests.kernel.translating import is_for_annotators, is_translated, translation, up_to_date
from tests.kernel.walking import Member, World, build_world, steps
from tests.security.worlds import make_hostile

FILES = sorted(FOLDER.glob("*/LC_MESSAGES/palate.po"))
PLACE = re.compile(r"%\(\w+\)s|%%|\{\w+\}|</?\w[^>]*>")
"""What a message fills in, and its tags."""

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.parts[-3])


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Every message of the code and the templates."""
    return extracted(tmp_path_factory.mktemp("messages"))


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Languages:
    """Ours, and the one that nobody speaks, in which there is what annotators see."""
    folder = write_pseudo_language(tmp_path_factory.mktemp("locale"), of=is_for_annotators)
    return Languages(Path(shutil.copytree(FOLDER, folder, dirs_exist_ok=True)))


@pytest.fixture
def app(settings: Settings, session_factory: sessionmaker[Session], languages: Languages) -> FastAPI:
    """The web app, which knows those languages."""
    return create_app(settings, session_factory=session_factory, clock=lambda: NOW, languages=languages)


@pytest.fixture
def world(session: Session, session_factory: sessionmaker[Session], settings: Settings) -> World:
    """A campaign with everything that hangs on it, and words that are nobody's messages."""
    world = build_world(session, session_factory, settings)
    make_hostile(session, world, evil=ANYTHING)
    return world


Open = Callable[[Member, str], TestClient]


@pytest.fixture
def browser_of(visitor: TestClient, signed_in: SignedIn, world: World) -> Open:
    """The browser of somebody who reads a language."""

    def opened(member: Member, language: str) -> TestClient:
        browser = visitor if member is Member.NOBODY else signed_in(world.people[member])
        browser.headers["Accept-Language"] = language
        return browser

    return opened


def test_german_is_there_for_annotators() -> None:
    assert {path.parts[-3] for path in FILES} >= FOR_ANNOTATORS == {"de"}


@each_file
def test_a_file_holds_every_message_it_should_and_no_other(path: Path, every: Catalog) -> None:
    assert path.read_text() == up_to_date(path, every), "run `make translations`, and translate what is new"


@each_file
def test_every_message_is_translated(path: Path) -> None:
    assert [message.id for message in translation(path) if message.id and not is_translated(message)] == []


@each_file
def test_a_translation_fills_in_and_marks_what_its_message_does(path: Path) -> None:
    pairs = [pair for message in translation(path) if message.id for pair in forms(message)]
    assert [pair for pair in pairs if sorted(PLACE.findall(pair[0])) != sorted(PLACE.findall(pair[1]))] == []
    assert [pair for pair in pairs if ends(pair[0]) != ends(pair[1])] == []


def forms(message: Message) -> list[tuple[str, str]]:
    """Each form of a message beside the English that it stands for."""
    if isinstance(message.id, tuple):
        return [(message.id[min(place, 1)], form) for place, form in enumerate(message.string)]
    return [(message.id, str(message.string))]


def ends(text: str) -> tuple[str, ...]:
    """The blanks around a text, and within it whether lines end; and a colon, after which something follows."""
    stripped = text.strip()
    before, _, after = text.partition(stripped)
    return before, after, "\n" * stripped.count("\n"), ":" * stripped.endswith(":")


@pytest.mark.parametrize("member", [Member.NOBODY, Member.ANNOTATOR, Member.ADMIN_ENROLLED])
def test_whatever_annotators_meet_is_among_their_messages(
    app: FastAPI, world: World, browser_of: Open, member: Member
) -> None:
    given = GIVEN | {"page"}  # the name of what an address asks
    pages = asked_as_annotator(app, world, member, browser_of(member, PSEUDO))
    left = [f"{address}: {said}" for address, page in pages.items() for said in untranslated(page) if said not in given]
    assert not left, "\n" + "\n".join(dict.fromkeys(left))


@pytest.mark.parametrize("member", [Member.NOBODY, Member.ANNOTATOR, Member.ADMIN_ENROLLED])
def test_annotators_read_no_english_in_german(app: FastAPI, world: World, browser_of: Open, member: Member) -> None:
    pages = asked_as_annotator(app, world, member, browser_of(member, "de-AT,en;q=0.5"))
    assert len(pages) > 5
    english = re.compile("|".join(other_than_german()))
    for address, page in pages.items():
        assert '<html lang="de" dir="ltr">' in page, address
        assert [piece for piece in said_on(page) if english.fullmatch(piece)] == [], address


def other_than_german() -> list[str]:
    """A pattern for each message that reads otherwise in German."""
    pairs = [pair for message in translation(FILES[0]) if message.id for pair in forms(message)]
    different = [english.replace("%%", "%") for english, german in pairs if english != german]
    return [re.sub(r"%\\\(\w+\\\)s|\\\{\w+\\\}", ".+", re.escape(english)) for english in different]


def asked_as_annotator(app: FastAPI, world: World, member: Member, browser: TestClient) -> dict[str, str]:
    """The pages that somebody comes upon as an annotator, by address: their own, and how they are refused others."""
    campaign = f"/campaigns/{world.campaign.id}"
    asked = [("GET", step.address(world, member)) for step in steps(app) if step.method == "GET"]
    asked += [("GET", each) for each in ("/nothing/here", "/sign-out", "/sign-in?said=signed-out")]
    asked += [("GET", f"{campaign}/judgments?page=x"), ("POST", "/sign-in"), ("POST", "/account/name")]
    found = {}
    for method, address in asked:
        path = address.partition("?")[0]
        refused = member is Member.ANNOTATOR and path not in LISTS and not path.endswith("/events")
        if ANNOTATORS_PAGES.match(path) or refused:
            answer = browser.request(method, address)
            if answer.headers.get("content-type", "").startswith("text/html"):
                found[f"{method} {address}"] = answer.text
    return found


def test_the_page_of_a_fault_is_in_german_too(app: FastAPI) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError

    browser = TestClient(app, raise_server_exceptions=False, headers={"Accept-Language": "de"})
    page = browser.get("/broken").text
    assert '<html lang="de"' in page
    assert "Etwas ist schiefgegangen" in page
    assert "Die Nummer dieser Anfrage" in page


def test_pages_that_are_not_translated_as_a_whole_are_english(app: FastAPI, world: World, browser_of: Open) -> None:
    browser = browser_of(Member.ADMIN_ENROLLED, "de")
    asked = [step.address(world, Member.ADMIN_ENROLLED) for step in steps(app) if step.method == "GET"]
    for address in (each for each in asked if not each.endswith("/events")):
        language = "de" if ANNOTATORS_PAGES.match(address) else "en"
        said = re.findall(r'<html lang="(\w+)"', browser.get(address).text)
        assert said in ([], [language]), address
    refused = browser.post("/campaigns", data={"name": ""}).text
    assert '<html lang="en"' in refused
    assert "Please fill this in." in refused


def test_which_pages_are_annotators_is_known_of_every_route(app: FastAPI, world: World) -> None:
    for step in steps(app):
        address = step.address(world, Member.ANNOTATOR)
        if step.need is Needs.JUDGES:
            assert ANNOTATORS_PAGES.match(address), step
        elif step.need not in {Needs.NOTHING, Needs.SIGNED_IN}:
            assert not ANNOTATORS_PAGES.match(address), step
        elif not ANNOTATORS_PAGES.match(address):
            assert address in LISTS | {"/healthz", "/readyz", "/models/events"}, step


def test_days_and_numbers_are_written_as_in_the_readers_language(languages: Languages) -> None:
    assert (moment(NOW), day(NOW.date()), number(12_000)) == ("2026-11-23 12:00 UTC", "2026-11-23", "12,000")
    spoken = translations.set(languages.for_reader("de"))
    try:
        assert (moment(NOW), day(NOW.date()), number(12_000)) == ("23.11.2026 12:00 UTC", "23.11.2026", "12.000")
    finally:
        translations.reset(spoken)
