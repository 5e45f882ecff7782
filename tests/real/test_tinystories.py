"""A small real model without a chat template writes completions of real prompts, and they are judged."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.background import Workplace
from app.comparisons.models import Comparison, Judgment
from app.comparisons.service.queueing import fill_queue
from app.deployments.model_folders import checked_folder
from app.deployments.service import create_line
from app.generation.models import Completion
from app.settings import Settings, with_secrets
from tests.conftest import StoppedClock
from tests.deployments.conftest import TOKEN, ServerProcess
from tests.factories.campaigns import make_campaign
from tests.factories.desks import make_desk
from tests.factories.generation import make_prompt

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def tinystories(real_data: Path) -> Path:
    return real_data / "models" / "tinystories-260k"


@pytest.fixture
def server(tinystories: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tinystories, 0)
    server.start()
    yield server
    server.kill()


def test_completions_of_tinystories_are_made_ahead_and_judged(
    session: Session,
    session_factory: sessionmaker[Session],
    clock: StoppedClock,
    tmp_path: Path,
    tinystories: Path,
    server: ServerProcess,
    real_data: Path,
) -> None:
    settings = with_secrets(
        Settings(
            data_dir=tmp_path / "data",
            queue_target=8,
            model_server_url=f"http://127.0.0.1:{server.port}",
            model_server_token=TOKEN,
        )
    )
    folder = checked_folder(str(tinystories), roots=[tinystories])
    line = create_line(
        session, slug="tinystories", name="Tiny stories", path=str(folder.path), sha256=folder.sha256, now=clock()
    )
    campaign = make_campaign(session, line=line, max_tokens=60)
    prompts = [json.loads(row)["prompt"] for row in (real_data / "prompts/mt_bench.jsonl").open()]
    for prompt in [text for text in prompts if len(text) < 200][:10]:
        make_prompt(session, campaign, prompt)
    session.commit()

    fill_queue(Workplace(settings, session_factory, clock), campaign_id=campaign.id)
    session.expire_all()
    made = session.scalars(select(Comparison).where(Comparison.campaign_id == campaign.id)).all()
    assert len(made) == 8
    written = session.scalars(select(Completion).where(Completion.model_version_id.is_not(None))).all()
    assert all(completion.text.strip() and completion.token_ids for completion in written)
    assert {completion.model_version.name for completion in written if completion.model_version} == {"tinystories-v0"}

    desk = make_desk(session, campaign)
    for _ in made:
        lease = desk.lease()
        assert lease is not None
        desk.judge(lease, ranking="2>1")
    assert desk.lease() is None
    assert len(session.scalars(select(Judgment)).all()) == 8
    print(f"\n{written[0].text!r}\n{written[1].text!r}")
