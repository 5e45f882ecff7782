"""Reading what is to be judged: code and formulas, long texts, long conversations, other scripts, larger letters."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect

from tests.e2e.conftest import RunningPalate
from tests.e2e.desks import begin_campaign, opened_desk

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e")]

NAME = "Reading"
CODE = "Use $O(n)$ of it:\n\n```python\ndef f(x):  # why\n    return x + 1\n```\n\nIt costs $5 or $10."
FORMULA = "\\[\n\\frac{a}{b}\n+ \\sqrt{2}\n\\]\n\nand $$" + " + ".join(f"x_{{{n}}}" for n in range(60)) + "$$"
ARABIC = "هذا نص عربي مع English.\n\n- البند الأول\n\nEnglish again."
LONG = "\n\n".join(f"Paragraph {n}: " + "many words, one after the other. " * 12 for n in range(20))
MIDDLING = "\n\n".join(f"Paragraph {n}: " + "fewer words. " * 20 for n in range(12))
TALK = [{"role": ("user", "assistant")[n % 2], "content": f"Turn {n}"} for n in range(9)]
LINES: list[dict[str, Any]] = [
    {"prompt": "Tell me.", "completions": [LONG, MIDDLING]},
    {"prompt": "Write code.", "completions": [CODE, FORMULA]},
    {"prompt": "مرحبا", "completions": [ARABIC, "日本語の文章です。" * 30]},
    {"prompt": TALK, "completions": ["Yes.", "No."]},
]


@pytest.fixture(scope="module")
def desk(browser: Browser, palate: RunningPalate, ada: StorageState, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a desk with a comparison of each kind."""
    lines = [{**line, "id": f"text {n}"} for n, line in enumerate(LINES)]
    context = browser.new_context(base_url=palate.address, storage_state=ada)
    page = context.new_page()
    begin_campaign(page, NAME)
    address = opened_desk(page, palate, tmp_path_factory.mktemp("reading") / "texts.jsonl", lines)
    context.close()
    return address


def heights(page: Page) -> list[float]:
    """Of what is seen of each completion."""
    found: list[float] = page.eval_on_selector_all(
        ".completion > .prose", "all => all.map(each => each.getBoundingClientRect().height)"
    )
    return found


def long_ones_end_at_one_height_until_a_key_shows_all(page: Page) -> None:
    button = page.get_by_role("button", name="Show them whole")
    expect(button).to_have_attribute("aria-expanded", "false")
    folded = heights(page)
    assert folded[0] == folded[1] < 600
    expect(page.locator(".share")).to_have_count(2)
    page.keyboard.press("f")
    whole = heights(page)
    assert min(whole) > 1.3 * folded[0]
    assert whole[0] != whole[1]
    expect(page.locator(".share")).to_have_count(0)
    page.get_by_role("button", name="Fold them").click()
    assert heights(page) == folded


def a_conversation_opens_with_its_last_turns(page: Page) -> None:
    expect(page.locator(".turn:visible")).to_have_text([re.compile(f"Turn {n}") for n in (6, 7, 8)])
    page.get_by_role("button", name="Show what was said earlier (6)").press("Enter")
    expect(page.locator(".turn:visible")).to_have_count(len(TALK))
    expect(page.locator(".turn").first).to_be_focused()


def code_is_copied_and_formulas_are_formulas(page: Page) -> None:
    expect(page.locator("math")).to_have_count(3)
    expect(page.locator(".completion").filter(has=page.locator("pre"))).to_contain_text("It costs $5 or $10.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a long formula scrolls by itself"
    colours = page.eval_on_selector_all(
        "pre span", "all => [...new Set(all.map(each => getComputedStyle(each).color))]"
    )
    assert len(colours) > 2
    copy = page.get_by_role("button", name="Copy")
    copy.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#reading")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "def f(x):  # why\n    return x + 1\n"
    expect(copy).to_be_focused()
    page.keyboard.press("d")
    expect(page.locator("#judging-said")).to_contain_text("words differ")


FIRST_OF_EACH_LINE = """p => {
    const range = new Range(), lines = new Map();
    for (let at = 0; at < p.firstChild.length; at += 1) {
        range.setStart(p.firstChild, at);
        range.setEnd(p.firstChild, at + 1);
        const top = Math.round(range.getBoundingClientRect().top);
        if (!lines.has(top)) lines.set(top, range.toString());
    }
    return [...lines.values()];
}"""


def a_text_runs_as_its_script_does(page: Page) -> None:
    blocks = page.locator(".completion", has_text="English again").locator(".prose > *")
    directions = blocks.evaluate_all("all => all.map(each => getComputedStyle(each).direction)")
    assert directions == ["rtl", "rtl", "ltr"]
    starts = page.locator(".completion", has_text="日本語").locator("p").evaluate(FIRST_OF_EACH_LINE)
    assert len(starts) > 2
    assert "。" not in starts, "no line begins with a full stop"


CHECKS: dict[str, Callable[[Page], None]] = {
    "Tell me.": long_ones_end_at_one_height_until_a_key_shows_all,
    "Write code.": code_is_copied_and_formulas_are_formulas,
    "مرحبا": a_text_runs_as_its_script_does,
    "Turn 8": a_conversation_opens_with_its_last_turns,
}


def letters_are_as_large_as_they_were_left(page: Page) -> None:
    def size() -> float:
        shown: str = page.locator(".completion .prose").first.evaluate("each => getComputedStyle(each).fontSize")
        return float(shown.removesuffix("px"))

    normal = size()
    page.keyboard.press("+")
    large = size()
    page.get_by_role("button", name="Larger text").click()
    expect(page.locator("#reading")).to_have_text("Text size: largest.")
    largest = size()
    assert normal < large < largest
    page.keyboard.press("+")
    assert size() == largest
    page.reload()
    assert size() == largest
    page.keyboard.press("-")
    assert size() == large
    page.keyboard.press("-")


def test_without_scripts_all_is_shown(browser: Browser, palate: RunningPalate, ada: StorageState, desk: str) -> None:
    context = browser.new_context(base_url=palate.address, storage_state=ada, java_script_enabled=False)
    page = context.new_page()
    page.goto(desk)
    for number in range(len(LINES)):
        prompt = page.locator(".prompt").inner_text()
        if "Tell me." in prompt:
            assert min(heights(page)) > 700
            expect(page.get_by_role("button", name="Show them whole")).to_have_count(0)
        elif "Turn 8" in prompt:
            expect(page.locator(".turn:visible")).to_have_count(len(TALK))
        elif "Write code." in prompt:
            expect(page.locator("math").first).to_be_visible()
        page.get_by_role("button", name="First is better").click()
        expect(page.locator(".tally strong")).not_to_have_text(str(number))
    for _ in LINES:
        page.get_by_role("button", name="Undo").click()
    context.close()


def test_whatever_is_to_be_read_can_be_read(page: Page, context: BrowserContext, desk: str) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(desk)
    letters_are_as_large_as_they_were_left(page)
    for _ in LINES:
        prompt = page.locator(".prompt")
        shown = next(each for each in CHECKS if each in prompt.inner_text())
        CHECKS[shown](page)
        page.get_by_role("button", name="First is better").click()
        expect(page.locator("#judging-panel")).not_to_contain_text(shown)
