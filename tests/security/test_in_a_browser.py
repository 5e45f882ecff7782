"""Texts that mean harm, in a real browser: no dialog, no request to anybody else, nothing that the policy had to stop.

`test_hostile_texts` reads what the server hands out; here Chromium decides what it means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, BrowserContext, Page, Request
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE
from app.accounts.service.sign_ins import start_sign_in
from app.database import make_engine, make_session_factory
from app.main import create_app
from app.settings import Settings
from tests.conftest import NOW
from tests.e2e.conftest import browser, playwright
from tests.kernel.walking import Member, Step, World, build_world, steps
from tests.security.hostile import BOMBS, EVERY, EVIL, LOADS, SCRIPTS
from tests.security.serving import served
from tests.security.worlds import make_hostile

__all__ = ["browser", "playwright"]
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser")]

NOTE_VIOLATIONS = """
    window.stopped = [];
    document.addEventListener("securitypolicyviolation",
        event => window.stopped.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
LIVELY_EVENTS = ["mouseover", "focus", "focusin", "pointerdown", "load", "toggle", "animationstart"]
FINE_LINKS = {"http", "https", "mailto"}
"""Where people may go knowingly, by a click."""
PROVOKE = """events => {
    for (const element of document.querySelectorAll("body *"))
        for (const name of events) element.dispatchEvent(new Event(name, {bubbles: true}));
}"""


@dataclass
class Watched:
    """A browser of somebody, and all that a hostile text did in it."""

    context: BrowserContext
    address: str
    done: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Open a page in a tab of its own, and wait until it is quiet."""
        page = self.context.new_page()
        page.on("dialog", lambda dialog: (self.done.append(f"{path}: dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: self.done.append(f"{path}: script error {error}"))
        page.on("popup", lambda popup: self.done.append(f"{path}: window {popup.url}"))
        page.goto(self.address + path, wait_until="load")
        return page

    def note(self, request: Request) -> None:
        """Remember a request that leaves our origin."""
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "about"} and f"{parts.scheme}://{parts.netloc}" != self.address:
            self.done.append(f"request {request.url}")


@dataclass
class Site:
    """A served world full of hostile texts."""

    app: FastAPI
    world: World
    address: str
    session: Session

    @contextmanager
    def watched(self, browser: Browser, member: Member) -> Iterator[Watched]:
        """The browser of a member."""
        user = self.world.people[member]
        token = start_sign_in(self.session, user=user, user_agent="", lasts=LASTS, now=NOW)
        self.session.commit()
        context = browser.new_context(viewport={"width": 390, "height": 844})
        context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": self.address}])
        context.add_init_script(NOTE_VIOLATIONS)
        watched = Watched(context, self.address)
        context.on("request", watched.note)
        yield watched
        context.close()


LASTS = NOW.replace(year=NOW.year + 30) - NOW


@pytest.fixture
def site(fresh_database: str, settings: Settings) -> Iterator[Site]:
    """A campaign and all that hangs on it; nothing in it is hostile yet."""
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    session = sessions()
    world = build_world(session, sessions, settings)
    app = create_app(settings, session_factory=sessions, clock=lambda: NOW)

    @app.get("/raw")
    def raw(number: int) -> HTMLResponse:
        return HTMLResponse(f"<!doctype html><body>{EVERY[number]}</body>")

    with served(app) as address:
        yield Site(app, world, address, session)
    session.close()
    engine.dispose()


@pytest.mark.parametrize("member", [Member.ADMIN_ENROLLED, Member.ANNOTATOR])
def test_no_hostile_text_acts_on_any_page_that_shows_it(browser: Browser, site: Site, member: Member) -> None:
    pages = [step.address(site.world, member) for step in steps_of(site.app)]
    make_hostile(site.session, site.world)
    shown = 0
    with site.watched(browser, member) as watched:
        for path in pages:
            answer = watched.context.request.get(watched.address + path, max_redirects=0)
            if not answer.headers.get("content-type", "").startswith("text/html") or answer.status != 200:
                continue
            page = watched.open(path)
            shown += EVIL in page.content()
            page.evaluate(PROVOKE, LIVELY_EVENTS)
            watched.done += [f"{path}: had to be stopped: {each}" for each in page.evaluate("window.stopped")]
            watched.done += [f"{path}: link {link}" for link in links_that_act(page)]
            assert urlsplit(page.url).netloc == urlsplit(watched.address).netloc, path
            page.close()
        assert not watched.done, "\n" + "\n".join(watched.done)
    assert shown >= {Member.ADMIN_ENROLLED: 20, Member.ANNOTATOR: 3}[member], "the texts were shown at all"


def test_hostile_judging_can_still_be_judged(browser: Browser, site: Site) -> None:
    make_hostile(site.session, site.world)
    with site.watched(browser, Member.ANNOTATOR) as watched:
        page = watched.open(f"/campaigns/{site.world.campaign.id}/judge")
        with page.expect_response(lambda answer: answer.url.endswith("/judgment")):
            page.locator('#judging-panel button[name="ranking"]').first.click()
        assert not watched.done, watched.done
    annotator = {"id": site.world.people[Member.ANNOTATOR].id}
    judged = site.session.scalar(text("SELECT count(*) FROM judgments WHERE annotator_id = :id"), annotator)
    assert judged == 2, "the one of the world, and this"


@pytest.mark.parametrize("name", ["one long line", "a table of 30,000 columns", "99 quotes again and again", "rules"])
def test_a_megabyte_neither_hangs_the_page_nor_pushes_it_apart(browser: Browser, site: Site, name: str) -> None:
    site.session.execute(text("UPDATE completions SET text = id || :bomb"), {"bomb": BOMBS[name]})
    site.session.commit()
    with site.watched(browser, Member.ANNOTATOR) as watched:
        page = watched.open(f"/campaigns/{site.world.campaign.id}/judge")
        button = page.locator('#judging-panel button[name="ranking"]').first
        button.wait_for(timeout=15_000)
        widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1], f"{name} makes a page of {widths[1]} pixels {widths[0]} wide"
        button.click()
        assert not watched.done, watched.done


def test_a_name_cannot_change_what_stands_beside_it(browser: Browser, site: Site) -> None:
    site.session.execute(text("UPDATE users SET name = :name"), {"name": "\u202eadmin\u202d \u2066x"})
    site.session.commit()
    with site.watched(browser, Member.ADMIN_ENROLLED) as watched:
        shown = watched.open("/people").inner_text("main")
    assert not {"\u202e", "\u202d", "\u2066"} & set(shown)
    assert "admin" in shown


@pytest.mark.parametrize("number", [EVERY.index(each) for each in SCRIPTS + LOADS])
def test_even_unsanitised_a_text_can_run_nothing_and_load_nothing(browser: Browser, site: Site, number: int) -> None:
    """The second wall: were the sanitising to fail, the policy would still hold."""
    with site.watched(browser, Member.ANNOTATOR) as watched:
        page = watched.open(f"/raw?number={number}")
        page.evaluate(PROVOKE, LIVELY_EVENTS)
        page.wait_for_timeout(50)
        assert not [each for each in watched.done if "dialog" in each or "window" in each], watched.done
        left = [each for each in watched.done if "request" in each]
        assert not left or all(stopped_by_policy(page, each) for each in left), left


def test_the_look_out_sees_what_a_page_without_a_policy_would_do(browser: Browser, site: Site) -> None:
    @site.app.get("/unguarded", name="unguarded")
    def unguarded() -> HTMLResponse:
        return HTMLResponse(f"<!doctype html><body>{SCRIPTS[0]}{LOADS[3]}</body>")

    with site.watched(browser, Member.ANNOTATOR) as watched:
        watched.context.route("**/unguarded", lambda route: route.fulfill(
            body=f"<!doctype html><body>{SCRIPTS[0]}{LOADS[3]}</body>", content_type="text/html"
        ))  # fmt: skip
        watched.open("/unguarded")
        assert any("dialog" in each for each in watched.done)
        assert any(f"//{EVIL}/" in each for each in watched.done)


def stopped_by_policy(page: Page, request: str) -> bool:
    """Whether the page says that its policy stopped a request that the browser had begun to make."""
    address = request.removeprefix("request ")
    return any(address.split("?")[0] in each for each in page.evaluate("window.stopped"))


def links_that_act(page: Page) -> list[str]:
    """What in a page runs something when it is clicked, or sends a form or the page itself to somebody else."""
    found: list[list[str]] = page.eval_on_selector_all(
        "a[href], area[href], form, [formaction], iframe, object, embed, base, meta[http-equiv]",
        """elements => elements.map(element =>
            [element.tagName, element.hasAttribute("formaction") ? element.formAction
                              : element.href || element.action || "frame"])""",
    )
    own = urlsplit(page.url).netloc
    return [
        f"{tag} {address}"
        for tag, address in found
        if (parts := urlsplit(address)).netloc != own and not (tag == "A" and parts.scheme in FINE_LINKS)
    ]


def steps_of(app: FastAPI) -> list[Step]:
    """The pages to open: every route that is only read."""
    return [step for step in steps(app) if step.method == "GET" and step.path not in {"/raw", "/unguarded"}]
