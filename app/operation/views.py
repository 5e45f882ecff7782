"""How the installation is: a page for admins, and figures for Prometheus."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from app.accounts.access import CurrentAdmin
from app.clock import Now
from app.database import SessionFactory
from app.operation.access import metrics_reader
from app.operation.condition import examine
from app.operation.figures import figures
from app.operation.processes import processes_or_none
from app.settings import Settings
from app.templating import render

router = APIRouter()


@router.get("/condition", name="operation:condition")
def condition(request: Request, person: CurrentAdmin, now: Now) -> Response:
    """Every part of the installation, and what to do where one is not well."""
    settings, sessions = _settings(request), _sessions(request)
    findings = examine(settings, sessions, now=now)
    processes = processes_or_none(sessions, settings, now=now)
    return render(request, "operation/condition.html", findings=findings, processes=processes, at=now)


@router.get("/metrics", name="operation:metrics", dependencies=[Depends(metrics_reader)])
def metrics(request: Request, now: Now) -> Response:
    """Figures in Prometheus' text format, for whoever has the token; there is no such page where none is set."""
    return PlainTextResponse(
        figures(_settings(request), _sessions(request), now=now), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _sessions(request: Request) -> SessionFactory:
    sessions: SessionFactory = request.app.state.session_factory
    return sessions
