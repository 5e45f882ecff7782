"""The first start fills an empty installation, once, and gives its first admin a part in it."""

from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.access import csrf_token
from app.accounts.models import User
from app.campaigns.models import Access, Campaign, Enrolment
from app.deployments.models import ModelVersion
from app.generation.models import Prompt
from app.settings import Settings
from app.starter import add_starter, first_admin_path, follow_moved_folder
from app.training.models import LineProbe
from tests.conftest import NOW


def add(session: Session, settings: Settings) -> Campaign:
    folder = settings.starter_dir
    return add_starter(session, folder=folder / "model", data=folder / "data", now=NOW)


def test_an_empty_installation_gets_a_toy_line_probes_and_an_open_campaign(
    session: Session, settings: Settings
) -> None:
    campaign = add(session, settings)
    assert campaign.is_open
    assert campaign.line is not None
    assert campaign.line.is_toy
    assert session.scalar(select(func.count()).select_from(Prompt)) == 200
    assert session.scalar(select(func.count()).select_from(LineProbe)) == 10


def test_the_first_admin_judges_in_and_manages_the_starter_campaign(
    session: Session, settings: Settings, visitor: TestClient
) -> None:
    campaign = add(session, settings)
    path = first_admin_path(session, now=NOW)
    session.commit()
    visitor.get(path)
    token = csrf_token(settings, visitor.cookies["palate_visitor"])
    form = {"name": "Ada", "email": "ada@example.org", "password": "a long enough password", "csrf_token": token}
    answer = visitor.post(path, data=form)
    assert answer.status_code == 303, answer.text
    user = session.scalars(select(User)).one()
    enrolment = session.get_one(Enrolment, (campaign.id, user.id))
    assert (enrolment.judges, enrolment.access) == (True, Access.MANAGE)


def test_the_starter_is_found_again_after_the_checkout_was_moved(session: Session, settings: Settings) -> None:
    add(session, settings)
    base = session.scalars(select(ModelVersion)).one()
    base.path = "/somewhere/else"
    session.flush()
    follow_moved_folder(session, folder=settings.starter_dir / "model")
    session.expire_all()
    assert base.path == str(settings.starter_dir / "model")
