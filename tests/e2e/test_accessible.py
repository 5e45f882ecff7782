"""Every page meets WCAG 2.2 AA as far as a program can tell, in either colour scheme, on a desk and on a phone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.languages import Languages
from app.settings import ROOT
from tests.conftest import on_server
from tests.e2e.conftest import browser, playwright
from tests.e2e.everything import Site, serving
from tests.kernel.pseudo import PSEUDO, write_pseudo_language
from tests.kernel.walking import Member

__all__ = ["browser", "playwright"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("browser")]

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
EVERYTHING = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]
LOOK = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]
"""What depends on colours and widths."""
RUN = """async (runOnly) => {
    const {violations} = await axe.run(document, {runOnly, resultTypes: ["violations"], iframes: false});
    return violations.map(({id, help, nodes}) =>
        [id, help, nodes.slice(0, 4).map(node => `${node.target.join(" ")} ${node.any[0]?.message ?? ""}`)]);
}"""
UNFOLD = """() => {
    for (const each of document.querySelectorAll("details:not(.menu, .confirm)")) each.open = true;
}"""
SEND_NONSENSE = """() => {
    const form = [...document.querySelectorAll("main form[method=post]")]
        .sort((one, other) => other.elements.length - one.elements.length)[0];
    for (const each of form.elements)
        if (each.matches("textarea, input:not([type=hidden], [type=checkbox], [type=radio])")) each.value = "?";
    form.noValidate = true;
    form.submit();
}"""
FRAME = """() => ({
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    headings: document.querySelectorAll("h1").length,
    title: document.title,
})"""
DESK, PHONE = 1440, 390
Look = tuple[Literal["light", "dark"], int, list[str]]
LOOKS: list[Look] = [
    ("light", DESK, EVERYTHING),
    ("dark", DESK, LOOK),
    ("dark", PHONE, EVERYTHING),
    ("light", PHONE, LOOK),
]
"""Each rule is asked at either width, and in either scheme; of colours and widths, in each of the four."""


@pytest.fixture(scope="module")
def site(template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Everything is there, in English and in the language that nobody speaks."""
    languages = Languages(write_pseudo_language(tmp_path_factory.mktemp("locale")))
    with serving(template_database, tmp_path_factory.mktemp("everything"), languages=languages) as site:
        yield site


@pytest.fixture(scope="module")
def empty_site(template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The first day: an admin and nothing else."""
    with serving(template_database, tmp_path_factory.mktemp("nothing"), empty=True) as site:
        yield site


def problems(page: Page, looks: list[Look]) -> list[str]:
    """What is wrong with the page that is open, in each look of it."""
    page.evaluate(UNFOLD)
    found = []
    for scheme, width, rules in looks:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        look = f"/{page.url.partition('//')[2].partition('/')[2]}, {scheme}, {width} px"
        wrong: list[Any] = page.evaluate(RUN, rules)
        found += [f"{look}: {rule}: {help} {where}" for rule, help, where in wrong]
        frame = page.evaluate(FRAME)
        if frame["sideways"] > 0:
            found.append(f"{look}: {frame['sideways']} px stick out sideways")
        if frame["headings"] != 1:
            found.append(f"{look}: {frame['headings']} main headings")
        if not frame["title"].removesuffix("Palate").strip(" ·"):
            found.append(f"{look}: no title")
    return found


def opened(context: BrowserContext) -> Page:
    """A tab that can look at its pages."""
    page = context.new_page()
    page.add_init_script(path=AXE)
    return page


def walked(context: BrowserContext, paths: list[str], *, looks: list[Look]) -> list[str]:
    """What is wrong with pages, opened one after the other."""
    page = opened(context)
    found = []
    for path in paths:
        page.goto(path, wait_until="load")
        found += problems(page, looks)
    return found


@pytest.mark.parametrize(
    ("member", "pages", "looks"),
    [
        (Member.NOBODY, 2, LOOKS),
        (Member.ANNOTATOR, 4, LOOKS),
        (Member.ADMIN_ENROLLED, 40, LOOKS),
        (Member.MANAGER, 25, LOOKS[:1]),  # what they see is much like an admin's
        (Member.RESEARCHER, 20, LOOKS[:1]),
    ],
)
def test_every_page_is_accessible(browser: Browser, site: Site, member: Member, pages: int, looks: list[Look]) -> None:
    with site.opened_by(browser, member) as context:
        paths = site.paths(member)
        assert len(paths) >= pages
        found = walked(context, [*paths, "/nowhere"], looks=looks)
    assert not found, "\n" + "\n".join(found)


def test_every_page_is_accessible_while_there_is_nothing_to_show(browser: Browser, empty_site: Site) -> None:
    with empty_site.opened_by(browser, Member.ADMIN) as context:
        found = walked(context, empty_site.paths(Member.ADMIN), looks=LOOKS)
    assert not found, "\n" + "\n".join(found)


def test_a_form_that_comes_back_with_messages_is_accessible(browser: Browser, site: Site) -> None:
    assert site.world
    campaign = f"/campaigns/{site.world.campaign.id}"
    found = []
    with site.opened_by(browser, Member.ADMIN_ENROLLED) as context:
        page = opened(context)
        for path in ("/campaigns/new", f"{campaign}/prompts/new", "/people/invitations", "/account", "/models/new"):
            page.goto(path)
            with page.expect_navigation():
                page.evaluate(SEND_NONSENSE)
            assert page.locator(".field-error, [role=alert]").count(), path
            found += problems(page, LOOKS)
    assert not found, "\n" + "\n".join(found)


def test_every_page_of_what_went_wrong_is_accessible(browser: Browser, template_database: str, tmp_path: Path) -> None:
    """Each is brought about: no permission, nothing there, an address that cannot be read, a throttled sign-in, a
    mistake of ours, and a database that takes nobody.
    """
    with serving(template_database, tmp_path) as site:
        assert site.world

        @site.app.api_route("/mistake", methods=["GET", "POST"])
        def mistake() -> None:
            raise ZeroDivisionError

        found = []
        with site.opened_by(browser, Member.NOBODY) as context:
            page = opened(context)
            page.goto("/sign-in")
            status = 0
            for _ in range(30):
                page.get_by_label("Email").fill("somebody@example.org")
                page.get_by_label("Password", exact=True).fill("not the password")
                with page.expect_navigation() as navigation:
                    page.get_by_role("button", name="Sign in", exact=True).click()
                if (status := navigation.value.status) == 429:
                    break
            assert status == 429
            found += problems(page, LOOKS)
        with site.opened_by(browser, Member.ANNOTATOR) as context:
            page = opened(context)
            campaign = f"/campaigns/{site.world.campaign.id}"
            for path, expected in (
                ("/people", 403), ("/nowhere", 404), (f"{campaign}/judgments?page=many", 422), ("/mistake", 500)
            ):  # fmt: skip
                answer = page.goto(path)
                assert answer
                assert answer.status == expected, path
                found += problems(page, LOOKS)
            page.goto(f"{campaign}/judgments")
            page.evaluate("htmx.ajax('GET', '/mistake', '#main')")
            expect(page.locator("#notice")).to_contain_text("Something broke")
            found += problems(page, LOOKS)
            with nobody_connects(site.session):
                answer = page.goto(f"{campaign}/judge")
                assert answer
                assert answer.status == 503
                found += problems(page, LOOKS)
            answer = page.goto(f"{campaign}/judge")
            assert answer
            assert answer.status == 200, "it comes back by itself"
    assert not found, "\n" + "\n".join(found)


@contextmanager
def nobody_connects(session: Session) -> Iterator[None]:
    """The database of this session takes nobody, and has put everybody out."""
    name = session.scalar(text("SELECT current_database()"))
    session.rollback()
    session.connection().invalidate()
    session.close()
    on_server(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    on_server(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    yield
    on_server(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


STOP = """() => {
    const element = document.activeElement;
    if (element === document.body) return null;
    const painted = element.matches(".marks input") ? element.nextElementSibling : element;
    const {x, y, width, height} = painted.getBoundingClientRect();
    const style = getComputedStyle(painted);
    const top = document.elementFromPoint(x + width / 2, y + height / 2);
    return {
        name: (element.ariaLabel ?? element.labels?.[0]?.innerText ?? element.innerText).trim().replace(/\\s+/g, " "),
        isMarked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        isCovered: !(top && (painted.contains(top) || top.contains(painted))),
        top: y + scrollY, bottom: y + height + scrollY, start: x,
    };
}"""


def stops(page: Page) -> list[dict[str, Any]]:
    """Where Tab leads, from the top of the page until it leaves it."""
    found = []
    page.evaluate("document.activeElement.blur()")
    while len(found) < 200:
        page.keyboard.press("Tab")
        if (stop := page.evaluate(STOP)) is None:
            return found
        found.append(stop)
    pytest.fail("Tab never leaves the page")


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_tab_leads_through_the_judging_page_as_one_reads_and_is_always_seen(
    browser: Browser, site: Site, width: int
) -> None:
    assert site.world
    with site.opened_by(browser, Member.ANNOTATOR) as context:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 700})
        page.goto(f"/campaigns/{site.world.campaign.id}/judge")
        found = stops(page)
    unseen = [stop["name"] for stop in found if not stop["isMarked"] or stop["isCovered"]]
    assert not unseen
    names = [stop["name"] for stop in found]
    expected = [
        "Skip to content", "Palate", "Judge", "History", "Guidelines", "Difference", "All keys",
        "and go on", "First is better", "Tie", "Both bad", "Second is better", "Skip",
    ]  # fmt: skip
    order = [
        next((place for place, name in enumerate(names) if re.search(rf"\b{each}( \S)?$", name)), -1)
        for each in expected
    ]
    assert order == sorted(order), names
    assert -1 not in order, names


def test_tab_leads_down_a_form_and_is_always_seen(browser: Browser, site: Site) -> None:
    with site.opened_by(browser, Member.ADMIN_ENROLLED) as context:
        page = context.new_page()
        page.set_viewport_size({"width": DESK, "height": 700})
        for path in ("/campaigns/new", "/people/invitations", "/account"):
            page.goto(path)
            page.evaluate(UNFOLD)
            found = stops(page)
            assert len(found) > 10
            assert not [f"{path}: {stop['name']}" for stop in found if not stop["isMarked"] or stop["isCovered"]]
            up = [
                f"{path}: from {one['name']} up to {other['name']}"
                for one, other in pairwise(found)
                if other["bottom"] <= one["top"]
            ]
            assert not up


def test_a_sheet_takes_the_focus_and_gives_it_back(browser: Browser, site: Site) -> None:
    assert site.world
    with site.opened_by(browser, Member.ANNOTATOR) as context:
        page = context.new_page()
        page.goto(f"/campaigns/{site.world.campaign.id}/judge")
        for opener, sheet in (
            ("Guidelines", "#guidelines"),
            ("All keys", "#keys"),
            ("Something wrong", "#skip-reason"),
        ):
            button = page.locator("#judging-panel").get_by_role("button", name=opener)
            button.focus()
            page.keyboard.press("Enter")
            expect(page.locator(sheet)).to_be_visible()
            assert page.locator(sheet).get_attribute("aria-labelledby")
            assert page.evaluate("name => document.querySelector(name).contains(document.activeElement)", sheet), sheet
            page.keyboard.press("Escape")
            expect(page.locator(sheet)).to_be_hidden()
            expect(button).to_be_focused()


def test_what_happened_is_said_where_screen_readers_listen(browser: Browser, site: Site) -> None:
    assert site.world
    with site.opened_by(browser, Member.ADMIN_ENROLLED) as context:
        page = context.new_page()
        page.goto(f"/campaigns/{site.world.campaign.id}/judge")
        said = page.locator("#judging-said").element_handle()
        page.get_by_role("button", name="Skip").first.click()
        page.wait_for_function("said => said.textContent.trim() !== ''", arg=said)
        assert page.evaluate("said => said.isConnected && said.getAttribute('role') === 'status'", said)
        expect(page.locator("#judging-heading")).to_be_focused()
        for path, region, label, heard in (
            ("/people", "#people [role=status]", "Search by name or email", "Nobody found"),
            ("/comparisons", "#found-said", "Search prompts, completions and rationales", "No comparison is like that"),
            (f"/campaigns/{site.world.campaign.id}/prompts", "#prompts-said", "Search", "No prompt is like that"),
        ):
            page.goto(path)
            said = page.locator(region).element_handle()
            page.get_by_label(label, exact=True).fill("nobody at all")
            if path == "/comparisons":
                page.get_by_label(label, exact=True).press("Enter")
            page.wait_for_function("([said, heard]) => said.textContent.includes(heard)", arg=[said, heard])
            assert page.evaluate("said => said.isConnected", said), "a region that is replaced is not read out"
            assert page.locator("[role=status]").filter(has_text=heard).count() == 1, "and it is said once"


STICKING_OUT = """() => [...document.querySelectorAll("main :is(button, .button, .badge, summary, label, h1, h2, dt)")]
    .filter(each => each.checkVisibility() && getComputedStyle(each).overflowX === "visible"
                    && each.clientWidth && each.scrollWidth > each.clientWidth + 1
                    && !each.closest(".visually-hidden, .table-scroll") && !each.querySelector(".visually-hidden"))
    .map(each => each.innerText)"""


@pytest.mark.parametrize("member", [Member.NOBODY, Member.ANNOTATOR, Member.MANAGER, Member.ADMIN_ENROLLED])
def test_nothing_sticks_out_in_a_long_language_from_right_to_left(browser: Browser, site: Site, member: Member) -> None:
    found = []
    with site.opened_by(browser, member, language=PSEUDO) as context:
        page = context.new_page()
        page.set_viewport_size({"width": PHONE, "height": 844})
        for path in site.paths(member):
            page.goto(path, wait_until="load")
            assert page.evaluate("document.dir") == "rtl"
            page.evaluate(UNFOLD)
            if (sideways := page.evaluate(FRAME)["sideways"]) > 0:
                found.append(f"{path}: {sideways} px stick out sideways")
            found += [f"{path}: cut off: {text}" for text in page.evaluate(STICKING_OUT)]
    assert not found, "\n" + "\n".join(found)
