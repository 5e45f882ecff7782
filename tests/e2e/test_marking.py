"""Errors marked in the texts, by mouse, finger and keyboard: what is stored is what was chosen, to the character."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Route, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE
from app.accounts.service.sign_ins import start_sign_in
from app.campaigns.asking import Asked, Criterion
from app.campaigns.models import Campaign, CampaignRevision
from app.clock import utc_now
from app.comparisons.models import Judgment
from app.database import make_engine, make_session_factory
from app.main import create_app
from app.settings import Settings, with_secrets
from tests.e2e.conftest import browser, playwright
from tests.e2e.test_accessible import AXE, EVERYTHING, RUN
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.security.serving import served

__all__ = ["browser", "playwright"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("browser")]

ASKED = Asked(spans=(Criterion(name="Wrong", help="It is not so."), Criterion(name="Unclear"), Criterion(name="Vague")))
ODD = "🙂 The sky\r\n**is** \u202egreen\u202c <b>today</b>.\rHere it rains cafe\u0301s."
"""Characters beyond 16 bits, line ends that HTML changes, markup in two languages, and what turns texts round."""
PLAIN = "Blue light scatters most.\n\nRed passes through the air."
LASTS = timedelta(days=1)


@dataclass
class Site:
    """A served Palate in which an annotator has a campaign that asks for marks."""

    address: str
    session: Session
    campaign_id: int
    token: str

    def open_in(self, context: BrowserContext, **given: Any) -> Page:
        """The judging page; `given` says when it counts as open."""
        context.add_cookies([{"name": SESSION_COOKIE, "value": self.token, "url": self.address}])
        page = context.new_page()
        page.goto(f"{self.address}/campaigns/{self.campaign_id}/judge", **given)
        return page

    def stored(self) -> list[tuple[str, str, int, int]]:
        """The spans of the last judgment: text of the completion, category, start and end."""
        self.session.rollback()
        judgment = self.session.scalars(select(Judgment).order_by(Judgment.id.desc()).limit(1)).one()
        texts = {str(each.completion_id): each.completion.text for each in judgment.comparison.members}
        return [
            (texts[key], span["category"], span["start"], span["end"])
            for key, spans in sorted((judgment.spans or {}).items(), key=lambda item: texts[item[0]] != ODD)
            for span in spans
        ]


@pytest.fixture
def site(fresh_database: str, tmp_path: Path) -> Iterator[Site]:
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    settings = with_secrets(Settings(data_dir=tmp_path / "data", _env_file=None))
    with sessions() as session:
        campaign = make_campaign(session)
        (revision,) = session.scalars(select(CampaignRevision).where(CampaignRevision.campaign_id == campaign.id))
        revision.scales = ASKED.scales()
        for _ in range(2):
            make_comparison(session, campaign, texts=(ODD, PLAIN))
        person = make_user(session)
        enrol(session, person, campaign)
        token = start_sign_in(session, user=person, user_agent="", lasts=LASTS, now=utc_now())
        session.commit()
        with served(create_app(settings, session_factory=sessions)) as address:
            yield Site(address, session, campaign.id, token)
    engine.dispose()


@pytest.fixture
def contexts(browser: Browser) -> Iterator[Any]:
    """Makes browsers of a width; an error in one of their scripts fails the test."""
    problems: list[str] = []
    made: list[BrowserContext] = []

    def make(width: int, **given: Any) -> BrowserContext:
        context = browser.new_context(viewport={"width": width, "height": 900 if width > 400 else 844}, **given)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        context.on("console", lambda said: problems.append(said.text) if _is_a_fault(said) else None)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()
    assert not problems, f"errors in the page: {problems}"


def _is_a_fault(said: ConsoleMessage) -> bool:
    """Whether the browser complains of more than a network that is gone."""
    return said.type == "error" and "INTERNET_DISCONNECTED" not in said.text and "Failed to fetch" not in said.text


def raw_of(page: Page, text: str) -> Locator:
    """Where a completion is shown to be marked."""
    return page.locator(".raw").filter(has_text=text)


BOX_OF = """(raw, [start, end]) => {
    const walker = document.createTreeWalker(raw, NodeFilter.SHOW_TEXT);
    const range = document.createRange();
    let before = 0;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const at = [start, end].map((units) => units - before);
        if (at[0] >= 0 && at[0] < node.length) range.setStart(node, at[0]);
        if (at[1] > 0 && at[1] <= node.length) range.setEnd(node, at[1]);
        before += node.length;
    }
    range.startContainer.parentElement.scrollIntoView({block: "center"});
    const {left, right, top, bottom} = range.getBoundingClientRect();
    return [left, right, (top + bottom) / 2];
}"""


def box_of(raw: Locator, text: str, words: str) -> list[float]:
    """Left, right and middle of words on the screen; browsers count in units of 16 bits."""
    start = len(text[: text.index(words)].encode("utf-16-le")) // 2
    box: list[float] = raw.evaluate(BOX_OF, [start, start + len(words.encode("utf-16-le")) // 2])
    return box


def expected(text: str, category: str, words: str) -> tuple[str, str, int, int]:
    """A span as it should be stored."""
    start = text.index(words)
    return (text, category, start, start + len(words))


def test_words_chosen_by_mouse_are_stored_as_they_were_chosen(site: Site, contexts: Any) -> None:
    page = site.open_in(contexts(1440))
    expect(page.locator(".raw")).to_have_count(0)
    page.get_by_role("button", name="Mark errors").click()
    odd, plain = raw_of(page, "sky"), raw_of(page, "Blue")
    assert odd.evaluate("raw => raw.textContent") == ODD, "not a character is lost"
    expect(odd.locator(".control")).to_have_count(3)
    left, right, middle = box_of(odd, ODD, "sky")
    page.mouse.move(left + 1, middle)
    page.mouse.down()
    page.mouse.move((left + right) / 2, middle)
    page.mouse.move(right - 1, middle)
    page.mouse.up()
    assert page.evaluate("getSelection().toString()") == "sky"
    page.get_by_role("button", name="1 Wrong").click()
    expect(odd.locator("mark")).to_have_text("sky")
    expect(odd.locator("mark + .marked-label")).to_have_attribute("data-label", "Wrong")
    left, right, middle = box_of(plain, PLAIN, "scatters")
    page.mouse.click((left + right) / 2, middle)
    page.get_by_role("button", name="2 Unclear").click()
    end = box_of(plain, PLAIN, "most")[1]
    page.keyboard.down("Shift")
    page.mouse.click(end - 1, middle)
    page.keyboard.up("Shift")
    page.get_by_role("button", name="1 Wrong").click()
    expect(plain.locator("mark mark")).to_have_text("scatters")
    left, right, middle = box_of(odd, ODD, "rains")
    page.mouse.dblclick((left + right) / 2, middle)
    page.keyboard.press("3")
    page.mouse.click((left + right) / 2, middle)
    expect(page.get_by_role("button", name="3 Vague")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Remove", exact=False).and_(page.locator("[data-unmark]")).click()
    expect(odd.locator("mark")).to_have_count(1)
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".raw")).to_have_count(0)
    lists = page.locator(".marked-list")
    assert sorted(text.split("\n")[0] for text in lists.all_inner_texts()) == ["1 mark", "2 marks"]
    page.keyboard.press("1")
    expect(page.locator(".tally strong")).to_have_text("1")
    expect(page.locator(".marked-list")).to_have_count(0)
    assert site.stored() == [
        expected(ODD, "Wrong", "sky"),
        expected(PLAIN, "Unclear", "scatters"),
        expected(PLAIN, "Wrong", "scatters most"),
    ]


def test_words_tapped_with_a_finger_are_stored(site: Site, contexts: Any) -> None:
    page = site.open_in(contexts(390, has_touch=True, is_mobile=True))
    page.get_by_role("button", name="Mark errors").tap()
    for words, text, name in (("today", ODD, "Wrong"), ("passes", PLAIN, "Vague")):
        raw = raw_of(page, words)
        left, right, middle = box_of(raw, text, words)
        page.touchscreen.tap((left + right) / 2, middle)
        page.locator("[data-category]", has_text=name).tap()
        expect(raw.locator("mark")).to_have_text(words)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="Done").tap()
    page.get_by_role("button", name="Remove the mark Wrong: “today”").tap()
    page.get_by_role("button", name="First is better").tap()
    expect(page.locator(".tally strong")).to_have_text("1")
    assert site.stored() == [expected(PLAIN, "Vague", "passes")]


@pytest.mark.parametrize("width", [1440, 390])
def test_words_chosen_by_keyboard_alone_are_announced_and_stored(site: Site, contexts: Any, width: int) -> None:
    page = site.open_in(contexts(width))
    said = page.locator("[data-marking-said]")
    first = page.locator(".completion .prose").first.inner_text()
    keys = page.keyboard
    keys.press("e")
    expect(said).to_contain_text("Arrows move by word")
    expect(page.locator(".raw").first).to_be_focused()
    if "Blue" in first:
        keys.press("]")
        expect(page.locator(".raw").last).to_be_focused()
    assert page.evaluate("getSelection().toString()") == "🙂"
    for _ in range(2):
        keys.press("ArrowRight")
    expect(said).to_have_text("sky")
    keys.press("1")
    expect(said).to_have_text("Marked as Wrong: “sky”.")
    keys.press("Shift+ArrowRight")
    keys.press("Shift+ArrowRight")
    keys.press("2")
    expect(said).to_have_text("Marked as Unclear: “sky **”.")
    keys.press("End")
    keys.press("ArrowLeft")
    keys.press("3")
    expect(said).to_have_text("Marked as Vague: “cafe\u0301s”.")
    keys.press("Delete")
    expect(said).to_have_text("Removed: Vague, “cafe\u0301s”.")
    keys.press("Delete")
    expect(said).to_have_text("No mark here.")
    keys.press("[" if "Blue" in first else "]")
    keys.press("Home")
    keys.press("ArrowDown")
    keys.press("3")
    expect(said).to_have_text("Marked as Vague: “Red”.")
    keys.press("Shift+Tab")
    keys.press("Tab")
    keys.press("e")
    expect(said).to_have_text("Marking closed.")
    keys.press("2")
    expect(page.locator(".tally strong")).to_have_text("1")
    vague = expected(PLAIN, "Vague", "Red")
    assert site.stored() == [expected(ODD, "Wrong", "sky"), expected(ODD, "Unclear", "sky\r\n**"), vague]


def test_marks_survive_a_reload_and_a_network_that_is_gone_and_can_be_changed_afterwards(
    site: Site, contexts: Any
) -> None:
    context = contexts(1440)
    page = site.open_in(context)
    page.keyboard.press("e")
    expect(page.locator(".raw").first).to_be_focused()
    page.keyboard.press("1")
    page.wait_for_function("() => Object.keys(sessionStorage).length === 1")  # the module that keeps drafts has come
    page.reload()
    expect(page.locator(".marked-list")).to_contain_text("1 mark")
    context.set_offline(True)
    page.keyboard.press("1")
    expect(page.locator("#judging-unsent")).to_be_visible()
    context.set_offline(False)
    expect(page.locator(".tally strong")).to_have_text("1", timeout=15_000)
    ((text, category, start, end),) = site.stored()
    assert (category, text[start:end]) == ("Wrong", text.split()[0])
    page.goto(f"{site.address}/campaigns/{site.campaign_id}/judgments")
    expect(page.locator(".past .marked mark")).to_have_text(text.split()[0])
    page.get_by_role("link", name="Edit").click()
    expect(page.locator(".marked-list")).to_contain_text("Wrong")
    page.get_by_role("button", name="Mark errors").click()
    expect(page.locator(".raw mark")).to_have_text(text.split()[0])
    place = page.locator(".raw", has=page.locator("mark"))
    place.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Save the change").click()
    page.wait_for_url("**/judgments?said=changed*")
    words = " ".join(text.split()[:2])
    assert site.stored() == [(text, name, 0, len(words)) for name in ("Unclear", "Wrong")]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_marking_is_accessible(site: Site, contexts: Any, width: int, scheme: str) -> None:
    page = site.open_in(contexts(width, color_scheme=scheme, bypass_csp=True))
    page.keyboard.press("e")
    expect(page.locator(".raw").first).to_be_focused()
    for key in ("1", "Shift+ArrowRight", "2", "]", "3"):
        page.keyboard.press(key)
    page.add_script_tag(path=str(AXE))
    assert page.evaluate(RUN, EVERYTHING) == []
    page.keyboard.press("Escape")
    assert page.evaluate(RUN, EVERYTHING) == []
    page.keyboard.press("1")
    expect(page.locator(".tally strong")).to_have_text("1")
    page.goto(f"{site.address}/campaigns/{site.campaign_id}/judgments")
    expect(page.locator(".marked mark").first).to_be_visible()
    page.add_script_tag(path=str(AXE))
    assert page.evaluate(RUN, EVERYTHING) == []


def test_digits_mark_and_do_not_rank_while_marking_is_open(site: Site, contexts: Any) -> None:
    campaign = site.session.get_one(Campaign, site.campaign_id)
    make_comparison(site.session, campaign, texts=("One way.", "Two ways.", "Three ways."), priority=9)
    site.session.commit()
    page = site.open_in(contexts(1440))
    page.keyboard.press("e")
    expect(page.locator(".raw")).to_have_count(3)
    texts = page.locator(".raw").all_inner_texts()
    for key in ("ArrowRight", "2", "]", "]", "1", "ArrowRight", "=", "Enter", "0", "s", "u"):
        page.keyboard.press(key)
    expect(page.locator(".raw mark")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator("[name=ranking]").first).to_have_value("")
    for key in ("2", "1", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".tally strong")).to_have_text("1")
    marked = sorted((name, text[start:end]) for text, name, start, end in site.stored())
    assert marked == [("Unclear", texts[0].strip(".").split()[1]), ("Wrong", texts[2].split()[0])]


@pytest.mark.parametrize("part", ["**/marking.js*", "**/texts"])
def test_a_verdict_waits_while_marking_is_on_its_way(site: Site, contexts: Any, part: str) -> None:
    context = contexts(1440)
    held: list[Route] = []
    context.route(part, lambda route: held.append(route))  # noqa: PLW0108 - playwright marks what it calls
    page = site.open_in(context, wait_until="domcontentloaded")
    page.keyboard.press("e")
    page.wait_for_timeout(300)
    page.keyboard.press("1")
    page.locator("[name=ranking]").first.click()
    page.wait_for_timeout(500)
    assert held
    expect(page.locator(".tally strong")).to_have_text("0")
    for route in held:
        route.continue_()
    expect(page.locator(".raw")).to_have_count(2)
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    expect(page.locator(".tally strong")).to_have_text("1")
