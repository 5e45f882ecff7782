"""At one's own pace: a draft outlives a reload, and what was judged is found again and changed."""

import re

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.e2e.conftest import RunningPalate
from tests.e2e.desks import begin_campaign, opened_desk

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e")]

NAME = "Own pace"


@pytest.fixture(scope="module")
def desk(browser: Browser, palate: RunningPalate, ada: StorageState, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a desk with pairs and one ranking, where ratings, a flag and a reason are asked."""
    lines: list[dict[str, object]] = [{"prompt": "Which three?", "completions": ["A.", "B.", "C."]}]
    lines += [{"prompt": f"Pair {n}?", "completions": [f"Left {n}.", f"Right {n}."]} for n in range(6)]
    context = browser.new_context(base_url=palate.address, storage_state=ada)
    page = context.new_page()
    begin_campaign(page, NAME)
    page.get_by_text("Strength, criteria, ratings").click()
    page.get_by_label("Rating of each completion").fill("5")
    page.get_by_label("Flags for a completion").fill("cut off")
    page.get_by_label("A reason in words").select_option("optional")
    address = opened_desk(page, palate, tmp_path_factory.mktemp("pace") / "pairs.jsonl", lines)
    context.close()
    return address


def prompt(page: Page) -> str:
    return page.locator(".prompt .prose").inner_text().strip()


def drafts(page: Page) -> int:
    kept: int = page.evaluate("Object.keys(sessionStorage).filter((name) => name.startsWith('palate-draft')).length")
    return kept


def test_a_draft_outlives_a_reload_goes_once_recorded_and_is_nobody_elses(page: Page, desk: str) -> None:
    page.goto(desk)
    assert prompt(page) == "Which three?"
    page.wait_for_selector(".strip.is-live")
    page.keyboard.press("3")
    page.locator("#rationale").fill("Because of <b> & “quotes”.")
    page.get_by_label("cut off").first.check()
    page.wait_for_function("() => Object.keys(sessionStorage).length === 1")
    page.reload()
    page.wait_for_selector(".strip.is-live")
    expect(page.locator("#rationale")).to_have_value("Because of <b> & “quotes”.")
    expect(page.get_by_label("cut off").first).to_be_checked()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("1")
    expect(page.locator("[name=ranking][type=hidden], input[name=ranking]").first).to_have_value("3>1>2")
    page.keyboard.press("Enter")
    expect(page.locator(".tally strong")).to_have_text("1")
    assert drafts(page) == 0
    expect(page.locator("#rationale")).to_have_value("")
    page.locator("#rationale").fill("Only mine.")
    page.wait_for_function("() => Object.keys(sessionStorage).length === 1")
    page.evaluate("""() => {
      const [name] = Object.keys(sessionStorage);
      sessionStorage.setItem(name.replace(/palate-draft \\d+/, "palate-draft 999"), sessionStorage.getItem(name));
      sessionStorage.removeItem(name);
    }""")
    page.reload()
    expect(page.locator("#rationale")).to_have_value("")
    page.locator("#rationale").fill("Mine again.")
    page.wait_for_function("() => Object.keys(sessionStorage).every((name) => !name.includes(' 999 '))")


def test_what_was_judged_is_found_again_and_changed_while_the_desk_stays_as_it_is(page: Page, desk: str) -> None:
    page.goto(desk)
    if prompt(page) == "Which three?":  # where the test before ran elsewhere
        page.wait_for_selector(".strip.is-live")
        for key in ("3", "1", "Enter"):
            page.keyboard.press(key)
        expect(page.locator(".prompt .prose")).not_to_have_text("Which three?")
        page.wait_for_timeout(200)
    judged = prompt(page)
    page.locator("#rationale").fill("First thought.")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("1")
    expect(page.locator(".prompt .prose")).not_to_have_text(judged)
    at_desk = prompt(page)
    page.get_by_role("link", name="History").click()
    page.get_by_label("Words of a prompt").fill("three")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".past")).to_have_count(1)
    page.get_by_role("link", name="Edit").click()
    page.wait_for_selector(".strip.is-live")
    expect(page.locator("[data-chips]")).to_have_text(re.compile(r"3\s*>\s*1\s*>\s*2"))
    page.get_by_role("link", name="Leave it as it is").click()
    page.get_by_label("Words of a prompt").fill(judged)
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="Edit").click()
    expect(page.get_by_label("First is better")).to_be_checked()
    expect(page.locator("#rationale")).to_have_value("First thought.")
    page.get_by_label("Tie").check()
    page.locator("#rationale").fill("Second thought.")
    page.get_by_role("button", name="Save the change").click()
    expect(page.locator("main")).to_contain_text("Changed.")
    expect(page.locator(".past", has_text=judged)).to_contain_text("Tie")
    expect(page.locator(".past", has_text=judged)).to_contain_text("Second thought.")
    page.goto(desk)
    assert prompt(page) == at_desk


def test_keys_are_changed_shown_refused_where_taken_and_put_back(page: Page, desk: str) -> None:
    page.goto(desk)
    if prompt(page) == "Which three?":
        page.keyboard.press("s")
        expect(page.locator(".prompt .prose")).not_to_have_text("Which three?")
    page.keyboard.press("?")
    page.route("**/own-keys.js*", lambda route: (page.wait_for_timeout(700), route.continue_()))  # a slow network
    page.get_by_role("link", name="Change the keys").click()
    status = page.locator("#keys-said")
    expect(page.get_by_role("button", name="Skip")).to_be_disabled()
    page.get_by_role("button", name="Skip").click()
    expect(status).to_contain_text("Press the key for: Skip")
    page.keyboard.press("u")
    expect(status).to_have_text("U is taken: Undo. Choose another, or change that one first.")
    page.keyboard.press("3")
    expect(status).to_contain_text("3 is kept for ranking")
    page.keyboard.press("x")
    expect(status).to_have_text("Skip: now X.")
    for name, key in (("The first is better", "ArrowLeft"), ("The second is better", "ArrowRight")):
        page.get_by_role("button", name=name).click()
        page.keyboard.press(key)
    page.goto(desk)
    expect(page.get_by_role("button", name="X Skip")).to_be_visible()
    expect(page.get_by_role("button", name="← First is better")).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_contain_text("X")
    expect(page.locator("#keys dt", has_text=re.compile("^S$"))).to_have_count(0)
    page.wait_for_timeout(200)  # one key twice within 150 ms is a bounce
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_hidden()
    before = prompt(page)
    done = int(page.locator(".tally strong").inner_text())
    page.keyboard.press("1")
    page.keyboard.press("s")
    page.wait_for_timeout(400)
    assert prompt(page) == before, "the keys of before mean nothing any more"
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tally strong")).to_have_text(str(done + 1))
    expect(page.get_by_role("button", name="X Skip")).to_be_visible()
    before = prompt(page)
    page.keyboard.press("x")
    expect(page.locator(".prompt .prose")).not_to_have_text(before)
    expect(page.locator(".tally strong")).to_have_text(str(done + 1))
    page.goto("/keys")
    page.get_by_role("button", name="All as at first").click()
    expect(page.locator("#key-skip")).to_have_text("S")
    page.goto(desk)
    page.keyboard.press("1")
    expect(page.locator(".tally strong")).to_have_text(str(done + 2))
