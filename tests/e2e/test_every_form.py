"""Each form of judgment, and writing, at a desk by keyboard alone and on a phone by touch: stored is what was pressed.

With PALATE_SCREENSHOTS naming a folder the pictures of the annotators' guide are taken on the way.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE
from app.accounts.models import User
from app.accounts.service.sign_ins import start_sign_in
from app.campaigns.asking import Asked
from app.campaigns.models import Campaign, CampaignKind
from app.comparisons.models import Assignment, Demonstration, Judgment
from app.comparisons.ranking import format_ranking, to_positions
from app.database import make_engine, make_session_factory
from app.generation.models import Completion
from app.main import create_app
from app.settings import ROOT, Settings
from tests.conftest import NOW
from tests.e2e.conftest import browser, playwright
from tests.e2e.everything import LASTS
from tests.e2e.forms import COMPLETIONS, FIRST, FORMS, PROMPT, SECOND, Form
from tests.e2e.test_accessible import opened, problems
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.generation import make_prompt
from tests.security.serving import served

__all__ = ["browser", "playwright"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("browser")]

PRESSED_APART_MS = 160
"""A key pressed again sooner is taken for one that bounces."""
CORRECTING, WRITING = "correcting", "writing"
"""The campaigns in which people write."""
IMPROVED = COMPLETIONS[0].replace("a tree takes", "a broad-leaved tree takes") + " Frost has no part in it."


@dataclass
class Place:
    """A served Palate with a campaign for each form, and somebody who judges in all of them."""

    app: FastAPI
    address: str
    session: Session
    person: User
    campaigns: dict[str, Campaign]


@pytest.fixture
def place(fresh_database: str, settings: Settings) -> Iterator[Place]:
    """Everything is there, and nothing judged."""
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    with sessions() as session:
        person = make_user(session, name="Grace")
        campaigns = {form.name: campaign_of(session, form) for form in FORMS}
        campaigns |= {CORRECTING: correcting_campaign(session), WRITING: writing_campaign(session)}
        for campaign in campaigns.values():
            enrol(session, person, campaign)
        session.commit()
        app = create_app(settings, session_factory=sessions)
        with served(app) as address:
            yield Place(app, address, session, person, campaigns)
    engine.dispose()


def campaign_of(session: Session, form: Form) -> Campaign:
    """A campaign that asks in this form, with two comparisons."""
    campaign = make_campaign(session, name=form.name, completions_per_comparison=form.shown, samples_drawn=form.shown)
    (revision,) = campaign.revisions
    revision.criteria = [criterion.model_dump() for criterion in form.asked.criteria]
    revision.scales = form.asked.scales()
    revision.guidelines = "Prefer what a curious child could use. True before beautiful."
    for text in (PROMPT, "Why do some turn yellow?"):
        prompt = make_prompt(session, campaign, text)
        make_comparison(session, campaign, texts=COMPLETIONS[: form.shown], prompt=prompt)
    return campaign


def correcting_campaign(session: Session) -> Campaign:
    """A campaign of pairs in which one may write a better one."""
    return campaign_of(session, Form(CORRECTING, keys=(), taps=(), stored={}, asked=Asked(corrections=True)))


def writing_campaign(session: Session) -> Campaign:
    """A campaign in which people write, beginning with a model's draft."""
    campaign = make_campaign(session, name=WRITING, begins_with_draft=True)
    campaign.kind = CampaignKind.DEMONSTRATION
    make_comparison(session, campaign, texts=[COMPLETIONS[0]], prompt=make_prompt(session, campaign, PROMPT))
    return campaign


def browser_of(browser: Browser, place: Place, *, is_phone: bool) -> BrowserContext:
    """The annotator's, at a desk in the light or on a phone in the dark."""
    size = {"width": 390, "height": 844} if is_phone else {"width": 1440, "height": 720}
    context = browser.new_context(
        base_url=place.address, viewport=size, has_touch=is_phone, color_scheme="dark" if is_phone else "light"
    )
    token = start_sign_in(place.session, user=place.person, user_agent="", lasts=LASTS, now=NOW)
    place.session.commit()
    context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": place.address}])
    return context


@pytest.mark.parametrize("is_phone", [False, True], ids=["by keyboard", "by touch"])
@pytest.mark.timeout(600)
def test_each_form_stores_what_was_pressed(browser: Browser, place: Place, *, is_phone: bool) -> None:
    context = browser_of(browser, place, is_phone=is_phone)
    page = context.new_page()
    for form in FORMS:
        page.goto(f"/campaigns/{place.campaigns[form.name].id}/judge")
        expect(page.locator("#judging-panel .completion")).to_have_count(form.shown)
        steps = form.taps if is_phone else form.keys
        for step in steps[: -form.unpictured]:
            act(page, step, is_phone=is_phone)
        picture(page, form.name, is_phone=is_phone)
        assert fits(page), f"{form.name}: wider than the window, or the verdict out of reach"
        for step in steps[-form.unpictured :]:
            act(page, step, is_phone=is_phone)
        expect(page.locator(".tally strong")).to_have_text("1")
        assert stored(place, form) == form.stored, form.name
    context.close()


@pytest.mark.parametrize("is_phone", [False, True], ids=["by keyboard", "by touch"])
def test_what_is_written_is_stored_and_shown_in_the_history(browser: Browser, place: Place, *, is_phone: bool) -> None:
    context = browser_of(browser, place, is_phone=is_phone)
    page = context.new_page()
    field = page.get_by_label("Your completion")

    def press(key: str, button: Locator) -> None:
        if is_phone:
            button.tap()
        else:
            page.wait_for_timeout(PRESSED_APART_MS)
            page.keyboard.press(key)

    page.goto(f"/campaigns/{place.campaigns[WRITING].id}/judge")
    expect(field).to_have_value(COMPLETIONS[0])
    field.fill(IMPROVED)
    expect(page.locator("[data-change] ins").first).to_contain_text("broad-leaved")
    picture(page, "writing", is_phone=is_phone)
    assert is_narrow(page)
    press("Control+Enter", page.get_by_role("button", name="Submit"))
    expect(page.locator(".tally strong")).to_have_text("1")

    page.goto(f"/campaigns/{place.campaigns[CORRECTING].id}/judge")
    texts = page.locator("#judging-panel .completion .prose").all_inner_texts()
    better = next(number for number, text in enumerate(texts, start=1) if "chlorophyll" in text)
    press(str(better), page.locator(FIRST if better == 1 else SECOND))
    expect(page.locator(".tally strong")).to_have_text("1")
    press("w", page.get_by_role("link", name="Write a better one"))
    page.wait_for_url("**/correction")
    field.fill(IMPROVED)
    expect(page.locator("[data-change] ins").first).to_contain_text("broad-leaved")
    picture(page, "correcting", is_phone=is_phone)
    assert is_narrow(page)
    press("Control+Enter", page.get_by_role("button", name="Save"))
    page.wait_for_url("**/judge")

    page.goto(f"/campaigns/{place.campaigns[CORRECTING].id}/judgments")
    expect(page.locator(".is-own")).to_contain_text("Frost has no part in it.")
    picture(page, "history", is_phone=is_phone)
    assert is_narrow(page)
    place.session.rollback()
    written = select(Completion.text).join(Demonstration, Demonstration.completion_id == Completion.id)
    assert list(place.session.scalars(written)) == [IMPROVED, IMPROVED]
    context.close()


def test_no_form_has_a_fault_that_a_program_can_find(browser: Browser, place: Place) -> None:
    context = browser_of(browser, place, is_phone=False)
    page = opened(context)
    found = []
    for form in FORMS:
        page.goto(f"/campaigns/{place.campaigns[form.name].id}/judge")
        found += problems(page, [("light", 1440, ["wcag2aa", "wcag22aa"]), ("dark", 390, ["wcag2aa", "wcag22aa"])])
    context.close()
    assert found == []


def act(page: Page, step: str, *, is_phone: bool) -> None:
    """Press a key, type a text, or touch something."""
    if is_phone:
        page.locator(f"#judging-panel {step}").tap()
    elif step.startswith("type:"):
        page.keyboard.type(step.removeprefix("type:"))
    else:
        page.wait_for_timeout(PRESSED_APART_MS)
        page.keyboard.press(step)


def fits(page: Page) -> bool:
    """Whether nothing sticks out sideways, and the verdict can be given wherever one has scrolled to."""
    return is_narrow(page) and page.evaluate("""() => {
        const docks = [...document.querySelectorAll("#judging-panel .dock")].filter((each) => each.checkVisibility());
        const {top, bottom} = docks[0].getBoundingClientRect();
        return top < innerHeight && bottom <= innerHeight + 1;
    }""")


def is_narrow(page: Page) -> bool:
    """Whether nothing sticks out sideways."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def picture(page: Page, name: str, *, is_phone: bool) -> None:
    """For the annotators' guide, where it shows the form."""
    name = f"form-{name}-{'phone' if is_phone else 'desk'}.png"
    folder = os.environ.get("PALATE_SCREENSHOTS")
    if folder and name in (ROOT / "docs/annotating.md").read_text():
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
        page.screenshot(path=Path(folder) / name)


def stored(place: Place, form: Form) -> dict[str, Any]:
    """The judgment in the campaign of a form, by place as shown; what says nothing is left out."""
    place.session.rollback()
    campaign = place.campaigns[form.name]
    judgment, shown = place.session.execute(
        select(Judgment, Assignment.shown_order).join(Judgment.assignment).where(Assignment.campaign_id == campaign.id)
    ).one()
    criteria = {name: to_positions(groups, shown) for name, groups in (judgment.criteria or {}).items()}
    place_of = {str(completion_id): number for number, completion_id in enumerate(shown, start=1)}
    found = {
        "ranking": judgment.ranking and format_ranking(to_positions(judgment.ranking, shown)),
        "all_bad": judgment.all_bad,
        "strengths": judgment.strengths,
        "criteria": {name: format_ranking(groups) for name, groups in criteria.items()},
        "ratings": {place_of[completion_id]: value for completion_id, value in (judgment.ratings or {}).items()},
        "flags": {place_of[completion_id]: raised for completion_id, raised in (judgment.flags or {}).items()},
        "confidence": judgment.confidence,
        "spans": {place_of[key]: [span["category"] for span in spans] for key, spans in (judgment.spans or {}).items()},
    }
    if form.asked.rationale:
        assert judgment.rationale.startswith("More accurate")
    return {name: value for name, value in found.items() if value}
