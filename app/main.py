"""The web app: wires every domain's pages to one database, one clock and one set of settings."""

from fastapi import APIRouter, Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from app.accounts.access import VISITOR_COOKIE, identify, verify_csrf
from app.accounts.views import router as accounts
from app.campaigns.service import take_up_invited_enrolments
from app.campaigns.views import router as campaigns
from app.clock import Clock, utc_now
from app.comparisons.views import router as comparisons
from app.database import SessionFactory, make_engine, make_session_factory
from app.datasets.views import router as datasets
from app.errors import add_error_pages
from app.generation.views import router as prompts
from app.health import router as health
from app.operation.views import router as operation
from app.security import SecurityHeaders
from app.settings import ROOT, Settings, load_settings
from app.training.views import router as training
from app.trying.views import router as trying
from trainer.contract.logs import configure_logs
from trainer.contract.requests import RequestLog


class Web(FastAPI):
    """FastAPI whose every answer is dressed and logged, those included that it gives outside of all other middleware:
    the page of a fault, and the refusal of a body that is too large.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """The stack, with the headers and the log around all of it."""
        stack = super().build_middleware_stack()
        return RequestLog(SecurityHeaders(stack, settings=self.state.settings, visitor_cookie=VISITOR_COOKIE))


def create_app(settings: Settings, *, session_factory: SessionFactory, clock: Clock = utc_now) -> FastAPI:
    """The app, handed all it needs; nothing in it reads the environment."""
    app = Web(
        title="Palate",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(identify), Depends(verify_csrf)],
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # nothing is sent
        max_body_size=2 * settings.upload_megabytes * 2**20,  # cut off bluntly; up to here a form can say it kindly
    )
    app.state.settings = settings
    app.state.session_factory = session_factory
    app.state.clock = clock
    app.state.on_joined = [take_up_invited_enrolments]
    add_error_pages(app)
    app.mount("/static", StaticFiles(directory=ROOT / "static"), name="static")
    app.add_middleware(GZipMiddleware, minimum_size=800, compresslevel=5)
    for router in routers():
        app.include_router(router)
    return app


def from_environment() -> FastAPI:
    """The app as a server starts it, from the environment; needs DATABASE_URL."""
    settings = load_settings()
    configure_logs("web", environment=settings.log_environment)
    if settings.database_url is None:
        raise RuntimeError("DATABASE_URL is not set; `palate web` sets it, or starts the embedded PostgreSQL")
    return create_app(settings, session_factory=make_session_factory(make_engine(settings.database_url)))


def routers() -> list[APIRouter]:
    """Every domain's pages."""
    return [health, accounts, campaigns, prompts, comparisons, datasets, training, trying, operation]
