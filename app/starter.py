"""The first start: a toy model line and an open campaign, so that a newcomer sees the loop turn at once.

Everything here can be done by hand on the pages, too; nothing depends on it afterwards.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.service.admins import has_active_admin
from app.accounts.service.links import create_first_admin_link, get_usable_link, link_path
from app.campaigns.models import Access, Campaign, InvitedEnrolment
from app.campaigns.service.editing import CampaignPlan, Question, create_campaign
from app.campaigns.service.opening import open_campaign
from app.clock import utc_now
from app.database import make_engine, make_session_factory
from app.deployments.models import Alias, ModelLine, ModelVersion
from app.deployments.service import create_line
from app.generation.service.prompts import add_prompt
from app.settings import Settings
from app.training.models import LineProbe
from trainer.contract.files import weights_sha256
from trainer.contract.run import ProbePrompt

SLUG = "starter"
NAME = "Starter (a toy)"
DESCRIPTION = (
    "A toy of about one million parameters that Palate trained itself. It knows a few hundred simple facts and answers "
    "each in one of four manners: brief, friendly, detailed or blunt. It is here to show the loop turning; for real "
    "work add a real model under Models."
)
GUIDELINES = (
    "This campaign runs on a **toy model** that comes with Palate, so that you can watch the whole loop once.\n\n"
    "The model answers simple questions (capitals, opposites, colours, sounds, baby animals) in four manners: brief, "
    "friendly, detailed and blunt. **Decide which manner you like, and prefer it whenever you see it.** Where both "
    "completions are alike, call it a tie; where both are wrong, say that both are bad.\n\n"
    "Once some 150 judgments are no ties, a manager presses *Train*. About a minute later the comparisons you see come "
    "from the model that learned from you."
)


def prepare(settings: Settings) -> str | None:
    """Fill an empty installation; returns the path of the first admin's link, or None once there is an admin."""
    assert settings.database_url is not None
    engine = make_engine(settings.database_url)
    with make_session_factory(engine).begin() as session:
        now = utc_now()
        folder = settings.starter_dir / "model"
        if folder.is_dir():
            if session.scalar(select(ModelLine.id).limit(1)) is None:
                add_starter(session, folder=folder, data=settings.starter_dir / "data", now=now)
            follow_moved_folder(session, folder=folder)
        path = None if has_active_admin(session) else first_admin_path(session, now=now)
    engine.dispose()
    return path


def add_starter(session: Session, *, folder: Path, data: Path, now: datetime) -> Campaign:
    """The starter line with its probe prompts, and an open campaign on it."""
    line = create_line(
        session,
        slug=SLUG,
        name=NAME,
        description=DESCRIPTION,
        is_toy=True,
        path=str(folder),
        sha256=weights_sha256(folder),
        now=now,
    )
    for row in _rows(data / "probes.jsonl"):
        probe = ProbePrompt.model_validate(row)
        session.add(LineProbe(line_id=line.id, name=probe.name, probe=probe.model_dump(mode="json")))
    plan = CampaignPlan(
        name="First steps", line_id=line.id, alias=Alias.CURRENT, comparisons_per_prompt=5, max_tokens=96
    )
    campaign = create_campaign(session, plan=plan, question=Question(guidelines=GUIDELINES), by_id=None, now=now)
    for row in _rows(data / "prompts.jsonl"):
        messages = [{"role": "user", "content": row["prompt"]}]
        add_prompt(session, campaign=campaign, messages=messages, tags=row["tags"], by_id=None, now=now)
    session.flush()
    open_campaign(session, campaign=campaign, by_id=None, now=now)
    return campaign


def first_admin_path(session: Session, *, now: datetime) -> str:
    """A fresh link for the first admin, who also judges in and manages every campaign there is."""
    token = create_first_admin_link(session, now=now)
    link = get_usable_link(session, token=token, now=now)
    for campaign_id in session.scalars(select(Campaign.id)):
        part = {"link_id": link.id, "campaign_id": campaign_id, "judges": True, "access": Access.MANAGE}
        session.execute(insert(InvitedEnrolment).values(part).on_conflict_do_nothing())
    return link_path(token)


def follow_moved_folder(session: Session, *, folder: Path) -> None:
    """Find the starter's weights again after the checkout was moved: same hash, another address."""
    moved = update(ModelVersion).where(ModelVersion.sha256 == weights_sha256(folder), ModelVersion.number == 0)
    session.execute(moved.where(ModelVersion.path != str(folder)).values(path=str(folder)))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
