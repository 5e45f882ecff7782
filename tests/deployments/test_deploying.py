"""Lines, versions, and what serves since when, by whom and why."""

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.audit import AuditEntry
from app.deployments.models import Alias, ModelLine, ModelVersion, VersionKind
from app.deployments.service import (
    create_line,
    current_version,
    deploy_version,
    deployment_history,
    find_current_version,
    previous_version,
    register_version,
    roll_back,
)
from app.errors import Conflict, NotFound
from tests.conftest import NOW, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.deployments import make_line, make_version


def new_line(session: Session, slug: str = "tiny") -> ModelLine:
    """A line whose base serves."""
    return create_line(session, slug=slug, name="Tiny", path="/models/tiny", sha256="a" * 64, now=NOW)


def trained(session: Session, parent: ModelVersion) -> ModelVersion:
    """A version trained from another."""
    return register_version(
        session, parent=parent, kind=VersionKind.FULL, path="/runs/1/model", sha256="b" * 64, now=NOW
    )


def jobs(session: Session) -> list[tuple[str, dict[str, object]]]:
    """What has been put in line."""
    rows = session.execute(text("SELECT task_name, args FROM procrastinate_jobs ORDER BY id"))
    return [(row.task_name, row.args) for row in rows]


def test_the_base_of_a_new_line_is_version_0_and_serves(session: Session) -> None:
    line = new_line(session)
    base = current_version(session, line_id=line.id)
    assert (base.name, base.kind, base.parent_id) == ("tiny-v0", VersionKind.BASE, None)
    with pytest.raises(Conflict, match="called tiny already"):
        new_line(session)


def test_a_deployment_ends_the_one_before_and_is_told_to_everyone_concerned(
    session: Session, clock: StoppedClock
) -> None:
    line, person = new_line(session), make_user(session)
    version = trained(session, current_version(session, line_id=line.id))
    later = clock.forward(hours=1)
    deploy_version(session, version=version, reason="It is kinder.", by_id=person.id, now=later)
    now, before = deployment_history(session, line_id=line.id)
    assert (now.version.name, now.since, now.until, now.reason) == ("tiny-v1", later, None, "It is kinder.")
    assert now.by == person
    assert (before.version.name, before.until) == ("tiny-v0", later)
    assert jobs(session)[-2:] == [
        ("deployments:publish", {"line_id": line.id}),
        ("comparisons:turn_over", {"line_id": line.id}),
    ]
    deed = session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc()).limit(1)).one()
    assert (deed.action, deed.actor_id) == ("version.deployed", person.id)
    assert deed.details == {"version": "tiny-v1", "before": "tiny-v0", "alias": "current", "reason": "It is kinder."}


def test_deploying_what_serves_already_changes_nothing(session: Session) -> None:
    line = new_line(session)
    before = jobs(session)
    deploy_version(session, version=current_version(session, line_id=line.id), reason="Again", by_id=None, now=NOW)
    assert len(deployment_history(session, line_id=line.id)) == 1
    assert jobs(session) == before


def test_aliases_of_a_line_move_one_by_one(session: Session) -> None:
    line = new_line(session)
    version = trained(session, current_version(session, line_id=line.id))
    deploy_version(session, version=version, alias=Alias.CANDIDATE, reason="To try", by_id=None, now=NOW)
    assert current_version(session, line_id=line.id).number == 0
    assert current_version(session, line_id=line.id, alias=Alias.CANDIDATE).number == 1


def test_a_roll_back_deploys_the_version_before_in_one_step(session: Session) -> None:
    line = new_line(session)
    base = current_version(session, line_id=line.id)
    deploy_version(session, version=trained(session, base), reason="New", by_id=None, now=NOW)
    assert previous_version(session, line_id=line.id) == base
    roll_back(session, line_id=line.id, by_id=None, now=NOW)
    assert current_version(session, line_id=line.id) == base
    assert deployment_history(session, line_id=line.id)[0].reason == "Rolled back from tiny-v1."
    with pytest.raises(Conflict, match="nothing to go back to"):
        roll_back(session, line_id=line.id, by_id=None, now=NOW)


def test_versions_are_numbered_in_turn_and_a_number_is_given_once(session: Session) -> None:
    line = make_line(session)
    make_version(session, line)
    parent = current_version(session, line_id=line.id)
    assert trained(session, parent).number == 2
    with pytest.raises(Conflict, match="next free number is 3"):
        register_version(session, parent=parent, kind=VersionKind.FULL, path="/x", sha256="c" * 64, now=NOW, number=2)


def test_a_line_that_serves_nothing_says_what_to_do(session: Session) -> None:
    line = make_line(session, deployed=False)
    assert find_current_version(session, line_id=line.id) is None
    with pytest.raises(NotFound, match="Deploy one on the Models page"):
        current_version(session, line_id=line.id)
