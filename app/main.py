"""The web app: wires every domain's pages to one database, one clock and one set of settings."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from app.accounts.access import VISITOR_COOKIE, identify, verify_csrf
from app.accounts.views import router as accounts
from app.campaigns.service import take_up_invited_enrolments
from app.campaigns.views import router as campaigns
from app.clock import Clock, utc_now
from app.comparisons.browsing import router as browsing
from app.comparisons.changing import router as changing
from app.comparisons.keys import router as keys
from app.comparisons.leaving import router as leaving
from app.comparisons.previewing import router as previewing
from app.comparisons.views import router as comparisons
from app.comparisons.working import router as working
from app.comparisons.writing import router as writing
from app.database import SessionFactory, make_engine, make_session_factory
from app.datasets.views import router as datasets
from app.errors import add_error_pages
from app.generation.views import router as prompts
from app.health import router as health
from app.languages import InTheReadersLanguage, Languages, keep_to_whole_pages
from app.live.hub import Hub
from app.live.listening import listening
from app.operation.living import keep_telling
from app.operation.views import router as operation
from app.security import SecurityHeaders
from app.settings import Settings, load_settings
from app.static_files import serve_static
from app.training.views import router as training
from app.trying.views import router as trying
from trainer.contract.logs import configure_logs
from trainer.contract.requests import RequestLog


class Web(FastAPI):
    """FastAPI whose every answer is translated, dressed and logged, those included that it gives outside of all other
    middleware: the page of a fault, and the refusal of a body that is too large.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """The stack, with the headers and the log around all of it."""
        stack = super().build_middleware_stack()
        stack = InTheReadersLanguage(stack, languages=self.state.languages)
        return RequestLog(SecurityHeaders(stack, settings=self.state.settings, visitor_cookie=VISITOR_COOKIE))


def create_app(
    settings: Settings,
    *,
    session_factory: SessionFactory,
    clock: Clock = utc_now,
    languages: Languages | None = None,
) -> FastAPI:
    """The app, handed all it needs; nothing in it reads the environment."""
    app = Web(
        title="Palate",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(identify), Depends(keep_to_whole_pages), Depends(verify_csrf)],
        lifespan=_hearing_of_changes,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # nothing is sent
        max_body_size=2 * settings.upload_megabytes * 2**20,  # cut off bluntly; up to here a form can say it kindly
    )
    app.state.settings = settings
    app.state.session_factory = session_factory
    app.state.clock = clock
    app.state.languages = languages or Languages()
    app.state.hub = Hub()
    app.state.on_joined = [take_up_invited_enrolments]
    add_error_pages(app)
    app.mount("/static", serve_static, name="static")
    app.add_middleware(GZipMiddleware, minimum_size=800, compresslevel=5)
    for router in routers():
        app.include_router(router)
    return app


@asynccontextmanager
async def _hearing_of_changes(app: FastAPI) -> AsyncIterator[None]:
    """While the process serves, live pages hear what changes; without a database of its own they ask by the clock."""
    settings: Settings = app.state.settings
    if settings.database_url is None:
        yield
        return
    async with listening(app.state.hub, database_url=settings.database_url):
        yield


def from_environment() -> FastAPI:
    """The app as a server starts it, from the environment; needs DATABASE_URL."""
    settings = load_settings()
    configure_logs("web", environment=settings.log_environment)
    if settings.database_url is None:
        raise RuntimeError("DATABASE_URL is not set; `palate web` sets it, or starts the embedded PostgreSQL")
    keep_telling(settings.database_url, kind="web")
    app = create_app(settings, session_factory=make_session_factory(make_engine(settings.database_url)))
    gc.freeze()  # what is there by now stays: looking for garbage in it again and again is for nothing
    return app


def routers() -> list[APIRouter]:
    """Every domain's pages. Routes are tried one after the other: those first that people wait for most."""
    return [
        comparisons,
        previewing,
        health,
        accounts,
        campaigns,
        prompts,
        writing,
        browsing,
        changing,
        working,
        leaving,
        keys,
        datasets,
        training,
        trying,
        operation,
    ]
