"""Writing by keyboard: a better one, from the dock to a page with the change shown; the ideal one for a prompt."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.e2e.conftest import RunningPalate
from tests.e2e.desks import begin_campaign, opened_desk

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e")]

NAME = "Corrections"


@pytest.fixture
def desk(page: Page, palate: RunningPalate, tmp_path: Path) -> str:
    """The address of the desk in an open campaign that asks for corrections, with three pairs."""
    lines = [
        {"prompt": f"How do I boil egg {n}?", "completions": [f"Put egg {n} in hot water.", f"Boil egg {n} a while."]}
        for n in range(3)
    ]
    begin_campaign(page, NAME)
    page.get_by_text("Strength, criteria, ratings").click()
    page.get_by_label("Let annotators write a better one").check()
    return opened_desk(page, palate, tmp_path / "pairs.jsonl", lines)


def test_a_better_one_is_written_by_keyboard_and_survives_a_reload_and_a_dead_network(
    page: Page, palate: RunningPalate, desk: str, tmp_path: Path
) -> None:
    page.goto(desk)
    expect(page.get_by_role("link", name="Write a better one")).to_have_count(0)
    better = page.locator(".completion .prose").first.inner_text().strip()
    page.keyboard.press("1")
    expect(page.locator(".tally strong")).to_have_text("1")
    page.wait_for_timeout(300)
    page.keyboard.press("w")
    page.wait_for_url("**/correction")
    field = page.get_by_label("Your completion")
    expect(field).to_be_focused()
    expect(field).to_have_value(better)
    field.fill(better.replace("egg", "one fresh egg") + " Eight minutes.")
    change = page.locator("[data-change]")
    expect(change.locator("ins").first).to_contain_text("one fresh")
    expect(change.locator("del")).to_have_count(0)
    expect(page.locator("[data-said]")).to_have_text("0 words removed, 4 added.")
    page.reload()
    expect(field).to_have_value(re.compile("Eight minutes"))
    expect(page.get_by_text("What you had begun is here again.")).to_be_visible()
    page.context.set_offline(True)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert").filter(has_text="Not saved yet")).to_be_visible()
    page.context.set_offline(False)
    page.keyboard.press("Control+Enter")
    page.wait_for_url(desk)
    assert page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('palate-draft')).length") == 0
    page.goto(desk.replace("/judge", "/judgments"))
    expect(page.locator(".is-own")).to_contain_text("Eight minutes.")
    page.get_by_role("link", name="Change what you wrote").click()
    expect(field).to_have_value(re.compile("Eight minutes"))
    expect(page.get_by_text("What you had begun")).to_be_hidden()
    exported = tmp_path / "out.jsonl"
    number = desk.split("/")[-2]
    assert palate.command("comparisons", "export", "--out", str(exported), "--campaign", number).returncode == 0
    (written,) = [
        judgment["demonstration"]
        for line in exported.read_text().splitlines()
        for judgment in json.loads(line).get("judgments", [])
    ]
    assert written["text"].endswith("Eight minutes.")


def test_the_ideal_completion_is_written_by_keyboard_and_undone(
    page: Page, palate: RunningPalate, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"Explain rain {n}."}) for n in range(2)))
    page.goto("/campaigns/new")
    page.get_by_label("Name").fill("Shown how")
    page.get_by_label("What annotators do").select_option("demonstration")
    expect(page.get_by_label("Comparisons per prompt")).to_be_hidden()
    page.get_by_role("button", name="Create the campaign").click()
    page.wait_for_url(re.compile(r"/campaigns/\d+"))
    campaign = page.url.partition("?")[0]
    assert palate.command("prompts", "import", str(file), "--campaign", campaign.rpartition("/")[2]).returncode == 0
    page.reload()
    page.get_by_role("button", name="Open the campaign").click()
    page.goto(f"{campaign}/judge")
    field = page.get_by_label("Your completion")
    for number in range(2):
        expect(page.locator(".prompt")).to_contain_text(f"Explain rain {number}.")
        expect(field).to_be_focused()
        page.keyboard.type(f"Water falls {number}.")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".tally strong")).to_have_text(str(number + 1))
    expect(page.get_by_role("heading", name="Nothing left to write")).to_be_visible()
    page.get_by_role("button", name="Undo the last one").click()
    expect(field).to_have_value("Water falls 1.")
    expect(field).to_be_focused()
    page.keyboard.type(" It is wet.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("heading", name="Nothing left to write")).to_be_visible()
    page.goto(f"{campaign}/judgments")
    expect(page.locator(".is-own").first).to_contain_text("Water falls 1. It is wet.")


def test_a_better_one_is_written_without_scripts(
    browser: Browser, palate: RunningPalate, ada: StorageState, desk: str
) -> None:
    context = browser.new_context(base_url=palate.address, storage_state=ada, java_script_enabled=False)
    page = context.new_page()
    page.goto(desk)
    page.get_by_role("button", name="Tie").click()
    page.get_by_role("link", name="Write a better one").click()
    page.get_by_role("link", name="Second").click()
    field = page.get_by_label("Your completion")
    started_from = field.input_value()
    assert page.locator("[data-original]").inner_text().strip() == started_from
    page.get_by_role("button", name="Save").click()
    expect(page.locator("main")).to_contain_text("Nothing is changed yet.")
    field.fill("Eight minutes.")
    page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(re.compile("/judge$"))
    page.goto(desk.replace("/judge", "/judgments"))
    expect(page.locator(".is-own")).to_contain_text("Eight minutes.")
    context.close()
