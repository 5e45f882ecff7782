"""Completions from real second servers: our own model server as a stranger's, and `transformers serve`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.background import Workplace
from app.comparisons.models import CampaignQueue, Comparison, QueueState
from app.comparisons.service.queueing import fill_queue
from app.deployments.endpoint_client import checked
from app.deployments.endpoints import Asking, find_endpoint, register_endpoint
from app.deployments.models import ModelLine
from app.generation.models import Completion, PromptState
from app.settings import ROOT, Settings
from tests.conftest import NOW, StoppedClock
from tests.deployments.conftest import ServerProcess, model_server, models, running_server, served_settings
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import make_line
from tests.factories.generation import make_prompt
from trainer.contract.files import weights_sha256

__all__ = ["model_server", "models", "running_server", "served_settings"]
STARTER = ROOT / "trainer" / "starter" / "model"


def registered(session: Session, settings: Settings, *, origin: str, model: str) -> ModelLine:
    """The server's model as a line of ours."""
    line = register_endpoint(
        session, settings=settings, slug="theirs", name="Theirs", model=model,
        asking=Asking(base_url=f"{origin}/v1", concurrency=2), now=NOW,
    )  # fmt: skip
    session.commit()
    return line


def listing(settings: Settings, origin: str) -> Settings:
    """The settings, with a server that may be asked and none of our own."""
    return settings.model_copy(
        update={"endpoint_origins": [origin], "model_server_url": "http://127.0.0.1:9", "queue_target": 3}
    )


def test_our_own_model_server_serves_as_a_strangers(
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    clock: StoppedClock,
    model_server: ServerProcess,
    models: Path,
) -> None:
    origin = f"http://127.0.0.1:{model_server.port}"
    left = models / "left"
    load = {"name": "lettered", "path": str(left), "sha256": weights_sha256(left)}
    headers = {"Authorization": "Bearer a-token-for-tests-only"}
    httpx.post(f"{origin}/admin/versions", json=load, headers=headers, timeout=60).raise_for_status()
    settings = listing(settings, origin)
    line = registered(session, settings, origin=origin, model="lettered")
    learner = make_line(session, slug="learner")
    version = find_endpoint(session, line)
    assert version is not None
    campaigns = [
        make_campaign(session, line=line, max_tokens=12),
        make_campaign(session, line=learner, max_tokens=12),
    ]
    campaigns[1].alias, campaigns[1].pinned_version_id = None, version.version_id
    long = make_prompt(session, campaigns[0], "Read this. " * 60)
    for campaign in campaigns:
        make_prompt(session, campaign, f"Say {campaign.id}.")
    session.commit()
    place = Workplace(settings=settings, session_factory=session_factory, clock=clock)
    for campaign in campaigns:
        fill_queue(place, campaign_id=campaign.id)
    session.expire_all()
    comparisons = session.scalars(select(Comparison)).all()
    assert [comparison.campaign_id for comparison in comparisons] == [campaign.id for campaign in campaigns]
    written = session.scalars(select(Completion)).all()
    assert {completion.model_version_id for completion in written} == {version.version_id}
    assert set().union(*(completion.text for completion in written)) <= set("ab")
    assert {completion.finish_reason for completion in written} == {"length"}
    assert all(completion.token_ids is None and completion.seed is None for completion in written)
    assert long.state is PromptState.SET_ASIDE
    assert "reads at most 128 tokens" in long.state_reason


@pytest.fixture(scope="module")
def transformers_serve() -> Iterator[str]:
    """`transformers serve` with the starter model; its origin."""
    program = Path(sys.executable).with_name("transformers")
    assert program.exists() or shutil.which("transformers"), "install the dev extra"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(program), "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", str(STARTER)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    origin = f"http://127.0.0.1:{port}"
    try:
        _wait_for(origin, process)
        yield origin
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def _wait_for(origin: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, "it ended at once"
        try:
            httpx.get(f"{origin}/health", timeout=1).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.3)
    pytest.fail("transformers serve did not come up")


@pytest.mark.slow
def test_transformers_serve_fills_a_campaigns_queue(
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    clock: StoppedClock,
    transformers_serve: str,
) -> None:
    settings = listing(settings, transformers_serve)
    line = registered(session, settings, origin=transformers_serve, model=str(STARTER))
    endpoint = find_endpoint(session, line)
    assert endpoint is not None
    passed, message = checked(settings, endpoint)
    assert passed, message
    campaign = make_campaign(session, line=line, max_tokens=32, temperature=1.0)
    for country in ("France", "Italy", "Japan"):
        make_prompt(session, campaign, f"What is the capital of {country}?")
    session.commit()
    place = Workplace(settings=settings, session_factory=session_factory, clock=clock)
    fill_queue(place, campaign_id=campaign.id)
    comparisons = session.scalars(select(Comparison)).all()
    queue = session.get_one(CampaignQueue, campaign.id, populate_existing=True)
    assert len(comparisons) == 3, queue.message
    assert queue.state in {QueueState.READY, QueueState.RUN_OUT}
    for completion in session.scalars(select(Completion)):
        assert completion.text.strip()
        assert completion.finish_reason in {"stop", "length"}
        assert completion.completion_tokens, "it writes one at a time and says how many tokens"
        assert (completion.token_ids, completion.seed, completion.tokenizer_sha256) == (None, None, None)
