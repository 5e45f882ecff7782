"""What serves after a run: deploying what passed, overriding the gate with a reason, letting go of the rest."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.campaigns.models import Campaign, CampaignState
from app.deployments.model_server import kept_version_ids
from app.deployments.models import Deployment, ModelVersion
from app.deployments.service import deploy_version, list_versions
from app.errors import Conflict, Invalid
from app.training.gate.checks import Check
from app.training.gate.judging import is_blocked
from app.training.models import GateOverride, Run
from app.wording import gettext as _

LEAST_REASON_CHARACTERS = 10


def checks_of(run: Run) -> list[Check]:
    """The gate's checks as they were decided; empty where the run made no version."""
    return [Check.model_validate(check) for check in run.gate or []]


def find_run_of(session: Session, *, version: ModelVersion) -> Run | None:
    """The run that made a version; None for a base."""
    return session.scalars(select(Run).where(Run.model_version_id == version.id)).one_or_none()


def find_override(session: Session, *, run: Run) -> GateOverride | None:
    """The decision to deploy what the gate refused, if somebody took it."""
    return session.scalars(select(GateOverride).where(GateOverride.run_id == run.id)).one_or_none()


def deploy_passed(
    session: Session, *, version: ModelVersion, by_id: int | None, now: datetime, reason: str = ""
) -> Deployment:
    """Let a version serve, unless the gate refused it and nobody has overridden that. Raises Conflict then."""
    run = find_run_of(session, version=version)
    if run is not None and is_blocked(checks_of(run)) and find_override(session, run=run) is None:
        raise Conflict(
            _(
                "The gate refused %(name)s. See why on the page of run %(id)s; a manager can override it "
                "there, with a written reason.",
                name=version.name,
                id=run.id,
            )
        )
    return deploy_version(session, version=version, reason=reason.strip() or _("By hand."), by_id=by_id, now=now)


def override_gate(session: Session, *, run: Run, by_id: int, reason: str, now: datetime) -> GateOverride:
    """Deploy what the gate refused, on the word of a manager. Raises Invalid without a real reason.

    Raises Conflict where there is nothing to override. The first reason stays on record.
    """
    why = " ".join(reason.split())
    if len(why) < LEAST_REASON_CHARACTERS:
        raise Invalid(
            _(
                "Write down why this version should serve although the gate refused it, in at least "
                "%(least_reason_characters)s characters. Whoever asks later will read it.",
                least_reason_characters=LEAST_REASON_CHARACTERS,
            )
        )
    if run.model_version is None or not is_blocked(checks_of(run)):
        raise Conflict(_("The gate has not refused this run, so there is nothing to override."))
    override = find_override(session, run=run)
    if override is None:
        override = GateOverride(run_id=run.id, by_id=by_id, reason=why, at=now)
        session.add(override)
        session.flush()
        blocking = [check.name for check in checks_of(run) if check.blocks]
        record_deed(
            session, action="gate.overridden", subject=run, subject_id=run.id, actor_id=by_id, now=now,
            reason=why, checks=blocking,
        )  # fmt: skip
    deploy_version(
        session, version=run.model_version, reason=_("Gate overridden: %(why)s", why=why), by_id=by_id, now=now
    )
    return override


def idle_version_names(session: Session, *, line_id: int) -> list[str]:
    """Versions of a line that nothing needs loaded: not deployed, not the one before, pinned by no campaign."""
    pinned = select(Campaign.pinned_version_id).where(
        Campaign.pinned_version_id.is_not(None), Campaign.state != CampaignState.CLOSED
    )
    kept = kept_version_ids(session, line_id=line_id) | set(session.scalars(pinned))
    return [version.name for version in list_versions(session, line_id=line_id) if version.id not in kept]
