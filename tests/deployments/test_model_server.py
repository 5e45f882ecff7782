"""The model server is told what serves, and told again when it has forgotten. A real one answers."""

import socket
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from procrastinate import JobContext
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.background import Workplace
from app.deployments.jobs import publish, reconcile
from app.deployments.model_server import (
    ModelServerDown,
    ModelServerRefused,
    connected,
    ensure_serving,
    teach,
    wanted,
)
from app.deployments.models import ModelLine, ModelVersion, VersionKind
from app.deployments.service import create_line, current_version, deploy_version, register_version, roll_back
from app.settings import Settings
from app.training.jobs import release_versions
from tests.conftest import NOW, StoppedClock
from tests.deployments.conftest import ServerProcess
from tests.factories.adapters import write_moved
from tests.factories.campaigns import make_campaign
from tests.factories.snapshots import model_ref
from trainer.contract.files import weights_sha256


@dataclass(frozen=True)
class Loop:
    """A line with two versions, the base serving."""

    line: ModelLine
    base: ModelVersion
    trained: ModelVersion


@pytest.fixture
def loop(session: Session, models: Path) -> Loop:
    """A line over the two models."""
    left, right = models / "left", models / "right"
    line = create_line(session, slug="tiny", name="Tiny", path=str(left), sha256=weights_sha256(left), now=NOW)
    base = current_version(session, line_id=line.id)
    trained = register_version(
        session, parent=base, kind=VersionKind.FULL, path=str(right), sha256=weights_sha256(right), now=NOW
    )
    session.commit()
    return Loop(line, base, trained)


@pytest.fixture
def context(served_settings: Settings, session_factory: sessionmaker[Session], clock: StoppedClock) -> Any:
    """What the worker hands to a job."""
    place = Workplace(settings=served_settings, session_factory=session_factory, clock=clock)
    return SimpleNamespace(additional_context={"workplace": place})


def said(settings: Settings, model: str) -> tuple[str, str]:
    """Which version answers to a name, and the letters that it writes."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 32}
    reply = httpx.post(f"{settings.model_server_url}/v1/chat/completions", json=body, timeout=20).json()
    return reply["model"], "".join(sorted(set(reply["choices"][0]["message"]["content"])))


def run_job(job: Any, context: JobContext, **arguments: Any) -> None:
    """Run a job as the worker would."""
    job.func(context, **arguments)


def test_a_deployment_is_published_and_a_roll_back_is_instant(
    session: Session, served_settings: Settings, context: JobContext, loop: Loop
) -> None:
    run_job(publish, context, line_id=loop.line.id)
    assert said(served_settings, "tiny/current") == ("tiny-v0", "ab")
    deploy_version(session, version=loop.trained, reason="Better", by_id=None, now=NOW)
    session.commit()
    run_job(publish, context, line_id=loop.line.id)
    assert said(served_settings, "tiny/current") == ("tiny-v1", "yz")
    run_job(release_versions, context, line_id=loop.line.id)
    assert said(served_settings, "tiny-v0") == ("tiny-v0", "ab"), "the version before stays loaded"
    roll_back(session, line_id=loop.line.id, by_id=None, now=NOW)
    session.commit()
    run_job(publish, context, line_id=loop.line.id)
    assert said(served_settings, "tiny/current") == ("tiny-v0", "ab")


def test_a_restarted_model_server_is_taught_everything_again(
    served_settings: Settings, context: JobContext, loop: Loop, model_server: ServerProcess
) -> None:
    run_job(reconcile, context)
    model_server.kill()
    run_job(reconcile, context, timestamp=0)  # nobody there: no failure, the next minute tries again
    model_server.start()
    with connected(served_settings) as server:
        assert server.state().versions == []
    run_job(reconcile, context)
    assert said(served_settings, "tiny/current") == ("tiny-v0", "ab")


def test_a_version_is_loaded_where_it_is_needed_and_moves_no_alias(
    session: Session, served_settings: Settings, context: JobContext, loop: Loop
) -> None:
    run_job(publish, context, line_id=loop.line.id)
    ensure_serving(served_settings, session, loop.trained)
    ensure_serving(served_settings, session, loop.trained)
    assert said(served_settings, "tiny-v1") == ("tiny-v1", "yz")
    assert said(served_settings, "tiny/current") == ("tiny-v0", "ab")


def test_versions_that_nothing_needs_are_let_go_but_pinned_ones_stay(
    session: Session, served_settings: Settings, context: JobContext, loop: Loop
) -> None:
    ensure_serving(served_settings, session, loop.trained)
    campaign = make_campaign(session, line=loop.line)
    campaign.alias, campaign.pinned_version_id = None, loop.trained.id
    session.commit()
    run_job(release_versions, context, line_id=loop.line.id)
    assert said(served_settings, "tiny-v1")[0] == "tiny-v1"
    campaign.pinned_version_id = None
    session.commit()
    run_job(release_versions, context, line_id=loop.line.id)
    with connected(served_settings) as server:
        assert {version.name for version in server.state().versions} == {"tiny-v0"}


def test_what_is_gone_already_can_be_let_go_of(served_settings: Settings) -> None:
    with connected(served_settings) as server:
        before = server.state()
        server.unload("gone-v7")
        assert server.state() == before


def test_one_version_that_cannot_be_loaded_keeps_no_other_from_serving(
    session: Session, served_settings: Settings, loop: Loop
) -> None:
    create_line(session, slug="aaa", name="Gone", path=str(Path(loop.base.path) / "gone"), sha256="0" * 64, now=NOW)
    create_line(session, slug="zzz", name="Other", path=loop.base.path, sha256=loop.base.sha256, now=NOW)
    with connected(served_settings) as server, pytest.raises(ModelServerRefused):
        teach(server, wanted(session))
    assert said(served_settings, "zzz/current")[0] == "zzz-v0"


def test_a_model_server_that_is_down_is_named_with_what_to_do(
    session: Session, settings: Settings, context: JobContext, loop: Loop
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    down = settings.model_copy(update={"model_server_url": f"http://127.0.0.1:{port}"})
    with pytest.raises(ModelServerDown, match="palate model-server"):
        ensure_serving(down, session, loop.base)


def test_publishing_asks_for_a_look_at_what_may_be_unloaded(session: Session, context: JobContext, loop: Loop) -> None:
    run_job(publish, context, line_id=loop.line.id)
    asked = session.execute(text("SELECT args FROM procrastinate_jobs WHERE task_name = 'training:release_versions'"))
    assert [row.args for row in asked] == [{"line_id": loop.line.id}]


def test_an_adapter_is_loaded_on_its_base_where_that_lies_now(
    session: Session, served_settings: Settings, context: JobContext, loop: Loop, models: Path
) -> None:
    left = model_ref(models / "left")
    adapter = write_moved(models / "adapter", left)
    stated = models / "adapter" / "base_model.json"
    stated.write_text(stated.read_text().replace(left.path, "/where/it/was/once"))
    version = register_version(
        session, parent=loop.base, kind=VersionKind.ADAPTER, path=adapter.path, sha256=adapter.sha256, now=NOW
    )
    further = register_version(
        session, parent=version, kind=VersionKind.ADAPTER, path=adapter.path, sha256=adapter.sha256, now=NOW
    )
    assert further.base is loop.base
    assert loop.trained.base is None
    deploy_version(session, version=further, reason="Kinder", by_id=None, now=NOW)
    session.commit()
    run_job(publish, context, line_id=loop.line.id)
    assert said(served_settings, "tiny/current") == ("tiny-v3", "ab")
