"""Guidelines and examples beside what is judged or written, keys where people write, and code copied from a reply."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from app.campaigns.models import Access, Campaign, CampaignKind
from app.campaigns.service import revise_campaign
from app.campaigns.service.editing import Question
from tests.conftest import NOW
from tests.e2e.conftest import browser, playwright
from tests.e2e.everything import Site, serving
from tests.e2e.test_accessible import DESK, LOOKS, PHONE, opened, problems
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.generation import make_prompt
from tests.kernel.walking import Member

__all__ = ["browser", "playwright"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("browser")]

EXAMPLES = [
    {
        "prompt": "Why is the sky blue?",
        "good": "Light is **scattered**.",
        "bad": "It reflects the sea.",
        "why": "Truth.",
    },
    {"prompt": "Add two numbers.", "good": "```python\na + b\n```", "bad": "", "why": ""},
]
DRAFT = "The sky is blue becuase light scatters."
TYPED_AT_ONCE = """addEventListener("focusin", (event) => {
    if (event.target.id === "examples-3-prompt") document.execCommand("insertText", false, "A third prompt");
}, {once: true});"""
"""Who types as soon as a field has the focus, faster than any key: the script that put it there is still busy."""


@pytest.fixture(scope="module")
def site(template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(template_database, tmp_path_factory.mktemp("beside")) as site:
        yield site


@pytest.fixture
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    with site.opened_by(browser, Member.ANNOTATOR) as context:
        yield context


def guided(site: Site, kind: CampaignKind = CampaignKind.COMPARISON) -> Campaign:
    """A campaign with guidelines and examples, and four things to do."""
    assert site.world
    campaign = make_campaign(site.session, begins_with_draft=kind is CampaignKind.DEMONSTRATION)
    campaign.kind = kind
    enrol(site.session, site.world.people[Member.ANNOTATOR], campaign)
    enrol(site.session, site.world.people[Member.ADMIN_ENROLLED], campaign, access=Access.MANAGE)
    tell(site, campaign, "Prefer what is true.")
    texts = ["One.", "Two."] if kind is CampaignKind.COMPARISON else [DRAFT]
    for number in range(4):
        prompt = make_prompt(site.session, campaign, f"Question {number}?")
        make_comparison(site.session, campaign, prompt=prompt, texts=texts)
    site.session.commit()
    return campaign


def tell(site: Site, campaign: Campaign, guidelines: str) -> None:
    question = Question(guidelines=guidelines, examples=EXAMPLES)
    revise_campaign(site.session, campaign=campaign, question=question, by_id=None, now=NOW)
    site.session.commit()


def press(page: Page, key: str) -> None:
    """A key, later than a second press of it that nobody means."""
    page.wait_for_timeout(200)
    page.keyboard.press(key)


def test_guidelines_stay_open_beside_what_is_judged(site: Site, context: BrowserContext) -> None:
    campaign = guided(site)
    page = opened(context)
    page.set_viewport_size({"width": DESK, "height": 900})
    page.goto(f"/campaigns/{campaign.id}/judge")
    column, sheet = page.locator("aside.pinned"), page.locator("#guidelines")
    page.keyboard.press("g")
    page.get_by_role("button", name="Keep open beside").click()
    expect(column).to_be_focused()
    expect(sheet).to_be_hidden()
    press(page, "g")
    expect(page.locator("#judging-heading")).to_be_focused()
    press(page, "g")
    expect(column).to_be_focused()
    assert problems(page, LOOKS[:2]) == []
    press(page, "1")
    expect(page.locator(".prompt")).to_contain_text("Question 1?")
    expect(column).to_contain_text("It reflects the sea.")
    page.reload()
    expect(column).to_be_visible()
    assert page.evaluate("document.activeElement === document.body"), "it takes the focus only when it is asked for"
    tell(site, campaign, "Prefer what is short.")
    press(page, "1")
    expect(column).to_contain_text("Prefer what is short.")
    page.set_viewport_size({"width": PHONE, "height": 844})
    expect(column).to_have_count(0)
    page.locator("#judging-panel").get_by_role("button", name="Guidelines").click()
    expect(sheet).to_contain_text("Prefer what is short.")
    assert problems(page, LOOKS[2:]) == []
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": DESK, "height": 900})
    page.get_by_role("button", name="Put away").click()
    expect(column).to_have_count(0)
    expect(page.locator("#judging-panel").get_by_role("button", name="Guidelines")).to_be_focused()
    press(page, "g")
    expect(sheet).to_contain_text("Prefer what is short.")


def test_what_is_typed_before_the_script_comes_is_kept_below_what_was_begun(
    site: Site, context: BrowserContext
) -> None:
    campaign = guided(site, CampaignKind.DEMONSTRATION)
    page = opened(context)
    page.goto(f"/campaigns/{campaign.id}/write")
    field = page.get_by_label("Your completion")
    expect(field).to_have_value(DRAFT)
    field.fill("Begun.")
    held: list[Route] = []
    page.route("**/writing.js*", lambda route: held.append(route))  # noqa: PLW0108 - playwright marks what it calls
    page.reload(wait_until="commit")
    page.wait_for_function("document.getElementById('text') !== null", polling=50)
    page.evaluate("document.getElementById('text').value = 'Early.'")
    for route in held:
        route.continue_()
    expect(field).to_have_value("Begun.\nEarly.")
    expect(page.get_by_text("What you had begun is here again.")).to_be_visible()


def test_where_people_write_keys_work_outside_the_field(site: Site, context: BrowserContext) -> None:
    campaign = guided(site, CampaignKind.DEMONSTRATION)
    page = opened(context)
    page.goto(f"/campaigns/{campaign.id}/write")
    field, prompt = page.get_by_label("Your completion"), page.locator(".prompt")
    expect(field).to_have_value(DRAFT)
    field.fill(DRAFT.replace("becuase", "because"))
    expect(page.locator("[data-change] ins")).to_contain_text("because")
    page.keyboard.press("Escape")
    press(page, "?")
    expect(page.locator("#keys")).to_be_visible()
    press(page, "s")
    expect(prompt).to_contain_text("Question 0?")
    page.keyboard.press("Escape")
    press(page, "e")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    assert problems(page, LOOKS) == []
    press(page, "s")
    expect(prompt).to_contain_text("Question 1?")
    expect(field).to_be_focused()
    page.keyboard.type(" us")
    expect(field).to_have_value(f"{DRAFT} us")
    page.keyboard.press("Escape")
    press(page, "u")
    expect(prompt).to_contain_text("Question 0?")
    expect(field).to_have_value(DRAFT.replace("becuase", "because"))
    page.keyboard.press("Control+Enter")
    expect(page.locator(".tally")).to_contain_text("3 left")
    page.evaluate("localStorage.setItem(`palate-keys ${document.body.dataset.user}`, JSON.stringify({skip: 'x'}))")
    page.reload()
    expect(page.get_by_role("button", name=re.compile("^Skip"))).to_contain_text("X")
    before = prompt.inner_text()
    page.keyboard.press("Escape")
    press(page, "x")
    expect(prompt).not_to_have_text(before)


def test_rows_of_examples_come_and_go_and_enter_takes_none_away(browser: Browser, site: Site) -> None:
    campaign = guided(site)
    with site.opened_by(browser, Member.ADMIN_ENROLLED) as context:
        page = opened(context)
        page.goto(f"/campaigns/{campaign.id}/edit")
        page.get_by_role("button", name="Add an example").focus()
        page.evaluate(TYPED_AT_ONCE)
        page.keyboard.press("Enter")
        expect(page.locator("#examples-3-prompt")).to_be_focused()
        shown = page.locator("#guidelines-preview")
        expect(shown).to_contain_text("A third prompt")
        page.get_by_role("button", name="Take away example 1").click()
        expect(page.get_by_role("button", name="Add an example")).to_be_focused()
        expect(page.locator("#examples-2-prompt")).to_have_value("A third prompt")
        expect(shown).not_to_contain_text("It reflects the sea.")
        page.get_by_label("Name", exact=True).press("Enter")
        expect(page.locator("#examples-2-good-error")).to_be_visible()
        expect(page.locator("#examples-2-prompt")).to_have_value("A third prompt")
        assert problems(page, LOOKS) == []
        page.locator("#examples-2-bad").fill("No.")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**/campaigns/*?said=saved")
        expect(page.locator(".told").nth(1)).to_contain_text("A third prompt")


def test_code_in_a_reply_can_be_copied(browser: Browser, site: Site) -> None:
    pieces = [{"text": "```\na + b\n```"}, {"ended": "stop", "text": "…", "html": "<pre><code>a + b\n</code></pre>"}]
    body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)
    with site.opened_by(browser, Member.ADMIN_ENROLLED) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.route("**/try/*/reply", lambda route: route.fulfill(content_type="text/event-stream", body=body))
        page.goto("/try")
        page.get_by_label("Your message").fill("Add two numbers.")
        page.get_by_role("button", name="Send").click()
        copy = page.locator("#talk").get_by_role("button", name="Copy")
        copy.hover()
        copy.click()
        expect(page.locator("#trying-said")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == "a + b\n"
