"""The Models pages: what serves, what should, versions, history, and taking in a model folder."""

import html
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.deployments.model_server import ModelServerRefused, connected, teach, wanted
from app.deployments.models import ModelLine
from app.deployments.service import create_line, current_version, deploy_version
from app.settings import Settings
from tests.conftest import NOW, SignedIn
from tests.deployments.test_model_folders import model_folder
from tests.factories.accounts import make_user
from tests.factories.deployments import make_line, make_version
from tests.factories.training import finished_run
from tests.training.reports import preferences, report
from trainer.contract.files import weights_sha256


def test_a_toy_is_labelled_with_the_way_to_a_real_model(session: Session, signed_in: SignedIn) -> None:
    create_line(session, slug="toy", name="Little one", path="/toy", sha256="a", is_toy=True, now=NOW)
    browser = signed_in(make_user(session, Role.ADMIN))
    for path in ("/models", "/runs"):
        page = browser.get(path).text
        assert "Little one" in page
        assert ">Toy<" in page
    assert 'href="/models/new"' in browser.get("/models").text


def test_the_page_of_a_line_shows_versions_with_their_runs_and_what_served(
    session: Session, signed_in: SignedIn
) -> None:
    line = make_line(session, slug="tiny")
    run = finished_run(session, line, report())
    page = signed_in(make_user(session, Role.ADMIN)).get(f"/models/{line.id}").text
    assert "The base of the line" in page
    assert f'href="/runs/{run.id}"' in page
    assert "from tiny-v0" in page
    assert f"Run {run.id} passed the gate." in page
    assert "Roll back to tiny-v0" in page


def test_a_version_is_deployed_and_rolled_back_with_one_click_each(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session)
    version = make_version(session, line)
    session.commit()
    browser = signed_in(make_user(session, Role.ADMIN))
    answer = browser.post(f"/models/{line.id}/deployment", data={"version_id": version.id})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/models/{line.id}")
    assert current_version(session, line_id=line.id) == version
    browser.post(f"/models/{line.id}/rollback")
    assert current_version(session, line_id=line.id).number == 0
    assert browser.post(f"/models/{line.id}/rollback").status_code == 409


def test_a_version_that_the_gate_refused_has_no_deploy_button_and_no_way_around_it(
    session: Session, signed_in: SignedIn
) -> None:
    line = make_line(session)
    run = finished_run(session, line, report(before=preferences([1.0] * 12), after=preferences([-1.0] * 12)))
    assert run.model_version is not None
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/models/{line.id}").text
    assert "Refused by the gate" in page
    assert f'name="version_id" value="{run.model_version_id}"' not in page
    answer = browser.post(f"/models/{line.id}/deployment", data={"version_id": run.model_version_id})
    assert answer.status_code == 409
    assert f"page of run {run.id}" in answer.text


def test_a_version_of_another_line_cannot_be_deployed_here(session: Session, signed_in: SignedIn) -> None:
    line, other = make_line(session), make_line(session)
    version = make_version(session, other)
    browser = signed_in(make_user(session, Role.ADMIN))
    assert browser.post(f"/models/{line.id}/deployment", data={"version_id": version.id}).status_code == 404


def test_a_model_server_that_is_down_is_said_with_what_should_serve(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session, slug="tiny")
    browser = signed_in(make_user(session, Role.ADMIN))
    fragment = browser.get(f"/models/{line.id}/serving").text
    assert "Not reachable" in fragment
    assert "tiny-v0 should serve" in fragment
    assert 'every 2s"' in fragment


def test_what_serves_is_what_the_model_server_says(
    app: FastAPI, session: Session, signed_in: SignedIn, served_settings: Settings, models: Path
) -> None:
    app.state.settings = served_settings.model_copy(update={"secret_key": app.state.settings.secret_key})
    left, right = models / "left", models / "right"
    line = create_line(session, slug="tiny", name="Tiny", path=str(left), sha256=weights_sha256(left), now=NOW)
    browser = signed_in(make_user(session, Role.ADMIN))
    address = f"/models/{line.id}/serving"
    assert "Being loaded" in browser.get(address).text
    with connected(served_settings) as server:
        teach(server, wanted(session))
    settled = browser.get(address).text
    assert "Serving now" in settled
    assert "every 2s" not in settled
    version = make_version(session, line, path=str(right), sha256=weights_sha256(right))
    deploy_version(session, version=version, reason="New", by_id=None, now=NOW)
    session.commit()
    assert "Until then tiny-v0 does." in browser.get(address).text


def form(folder: Path, **given: str) -> dict[str, str]:
    """A filled form."""
    return {"path": str(folder), "name": "Mine", "slug": "mine", **given}


def test_a_model_folder_becomes_a_line_whose_base_serves(
    session: Session, signed_in: SignedIn, settings: Settings
) -> None:
    folder = model_folder(settings.data_dir / "models" / "mine")
    answer = signed_in(make_user(session, Role.ADMIN)).post("/models", data=form(folder, description="Ours."))
    assert answer.status_code == 303
    line = session.scalars(select(ModelLine).where(ModelLine.slug == "mine")).one()
    base = current_version(session, line_id=line.id)
    assert (base.name, base.path, base.sha256) == ("mine-v0", str(folder), weights_sha256(folder))


def test_folders_that_are_there_are_offered_and_fill_the_form_in(
    session: Session, signed_in: SignedIn, settings: Settings
) -> None:
    folder = model_folder(settings.data_dir / "models" / "My Model_2")
    model_folder(settings.data_dir / "models" / "bare", without="tokenizer.json")
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get("/models/new").text
    assert "holds no tokenizer" in page
    (address,) = re.findall(r'<a class="where" href="([^"]*My[^"]*)"', page)
    filled = browser.get(address).text
    assert f'value="{folder}"' in filled
    assert 'value="my-model-2"' in filled
    browser.post("/models", data=form(folder))
    assert str(folder) not in browser.get("/models/new").text, "what is in use is not offered again"


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"path": "/etc"}, "path", "may only be loaded from these folders"),
        ({"slug": "Not plain"}, "slug", "lower-case letters, digits and dashes"),
        ({"slug": "taken"}, "slug", "Choose another short name"),
        ({"name": " "}, "name", "too short"),
    ],
)
def test_what_is_wrong_with_a_folder_stands_beside_its_field(
    *, session: Session, signed_in: SignedIn, settings: Settings, given: dict[str, str], field: str, said: str
) -> None:
    make_line(session, slug="taken")
    folder = model_folder(settings.data_dir / "models" / "mine")
    answer = signed_in(make_user(session, Role.ADMIN)).post("/models", data=form(folder, **given))
    assert answer.status_code == 422
    message = answer.text.partition(f'id="{field}-error"')[2].partition("</p>")[0]
    assert said in message


def test_why_the_model_server_does_not_load_what_should_serve_is_on_the_page(
    app: FastAPI, session: Session, signed_in: SignedIn, served_settings: Settings, models: Path
) -> None:
    app.state.settings = served_settings.model_copy(update={"secret_key": app.state.settings.secret_key})
    line = create_line(session, slug="lost", name="Lost", path=str(models / "lost"), sha256="0" * 64, now=NOW)
    browser = signed_in(make_user(session, Role.ADMIN))
    with connected(served_settings) as server, pytest.raises(ModelServerRefused) as refusal:
        teach(server, wanted(session))
    page = browser.get(f"/models/{line.id}/serving").text
    assert "Not loaded" in page
    assert refusal.value.message.partition("refused: ")[2] in html.unescape(page)
