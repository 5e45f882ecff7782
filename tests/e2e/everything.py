"""A served world in which everything that pages show is there to be shown, one in which nothing is, and the pages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, BrowserContext
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE
from app.accounts.models import Role, User
from app.accounts.service.sign_ins import start_sign_in
from app.database import make_engine, make_session_factory
from app.languages import Languages
from app.main import create_app
from app.settings import Settings, with_secrets
from tests.conftest import NOW, database_address, on_server
from tests.factories.accounts import make_user
from tests.kernel.walking import Member, World, build_world, steps
from tests.security.serving import served
from tests.security.worlds import make_hostile

ANYTHING = "Ωραίο κείμενο: τι μετράει εδώ, και γιατί; Ό,τι γράφουν οι άνθρωποι."
"""Stands wherever a person or a model wrote something. Greek: what is Latin on a page, the page itself says."""
LASTS = timedelta(days=30 * 365)


@dataclass
class Site:
    """A served Palate. `world` is what is in it; none in one where only an admin is."""

    app: FastAPI
    address: str
    session: Session
    admin: User
    world: World | None = None

    def paths(self, member: Member) -> list[str]:
        """The addresses of all pages that are there for somebody."""
        client = TestClient(self.app, base_url="http://localhost", follow_redirects=False)
        if token := self.token(member):
            client.cookies.set(SESSION_COOKIE, token)
        found = []
        for step in steps(self.app):
            if step.method != "GET" or (step.parameters and self.world is None) or step.path.endswith("/events"):
                continue
            path = step.address(self.world, member) if self.world else step.path
            answer = client.get(path)
            if answer.status_code == 200 and answer.text.lstrip().startswith("<!doctype html>"):
                found.append(path)
        return found

    def token(self, member: Member) -> str:
        """A sign-in of somebody's; nobody has none."""
        if member is Member.NOBODY:
            return ""
        user = self.world.people[member] if self.world else self.admin
        token = start_sign_in(self.session, user=user, user_agent="", lasts=LASTS, now=NOW)
        self.session.commit()
        return token

    @contextmanager
    def opened_by(self, browser: Browser, member: Member, *, language: str = "en") -> Iterator[BrowserContext]:
        """The browser of somebody."""
        context = browser.new_context(base_url=self.address, extra_http_headers={"Accept-Language": language})
        if token := self.token(member):
            context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": self.address}])
        yield context
        context.close()


@contextmanager
def serving(
    template_database: str, folder: Path, *, empty: bool = False, languages: Languages | None = None
) -> Iterator[Site]:
    """A Palate with everything in it, or with nothing but an admin."""
    name = f"palate_pages_{os.getpid()}_{os.urandom(4).hex()}"
    on_server(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}"')
    engine = make_engine(database_address(name))
    sessions = make_session_factory(engine)
    settings = with_secrets(Settings(data_dir=folder / "data", _env_file=None))
    with sessions() as session:
        world = None if empty else build_world(session, sessions, settings)
        if world:
            make_hostile(session, world, evil=ANYTHING)
            session.execute(text("UPDATE model_lines SET name = name || id"))
            admin = world.people[Member.ADMIN]
        else:
            admin = make_user(session, Role.ADMIN, name=ANYTHING)
        session.commit()
        app = create_app(settings, session_factory=sessions, clock=lambda: NOW, languages=languages)
        with served(app) as address:
            yield Site(app, address, session, admin, world)
    engine.dispose()
    on_server(f'DROP DATABASE "{name}" WITH (FORCE)')
