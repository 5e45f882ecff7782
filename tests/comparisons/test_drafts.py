"""Campaigns in which people begin with a draft by the model: the form, the page, what is stored, what stays untold."""

import uuid
from html import unescape
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role, User
from app.campaigns.models import Access, Campaign, CampaignKind, CampaignState
from app.campaigns.service import obstacles_to_opening
from app.comparisons.models import CampaignQueue, Comparison, Demonstration, Judgment, QueueState, Slot
from app.comparisons.service.queueing import hand_out_prompts, next_draft
from app.deployments.models import Alias
from app.generation.models import Completion, CompletionSource
from app.settings import Settings
from tests.campaigns.test_pages import filled_in
from tests.comparisons.test_demonstrating import assignment_in, opened, submit
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.datasets import make_snapshot
from tests.factories.deployments import make_line
from tests.factories.generation import make_prompt
from tests.queued import queued

DRAFT = "The sky is *blue* becuase light scatters."
HTMX = {"HX-Request": "true"}


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session, begins_with_draft=True)
    campaign.kind = CampaignKind.DEMONSTRATION
    return campaign


@pytest.fixture
def ann(session: Session, campaign: Campaign) -> User:
    ann = make_user(session, name="Ann")
    enrol(session, ann, campaign)
    session.commit()
    return ann


@pytest.fixture
def browser(ann: User, signed_in: SignedIn) -> TestClient:
    return signed_in(ann)


@pytest.fixture
def comparison(session: Session, campaign: Campaign) -> Comparison:
    comparison = make_comparison(session, campaign, texts=[DRAFT])
    session.commit()
    return comparison


def test_people_begin_with_the_draft_and_what_is_stored_says_so(
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    browser: TestClient,
    campaign: Campaign,
    comparison: Comparison,
) -> None:
    page = opened(browser, campaign)
    assert f"\n{DRAFT}</textarea>" in page
    assert f"data-original>{DRAFT}</div>" in page
    draft = session.scalars(select(Completion)).one()
    assert draft.model_version is not None
    assert draft.model_version.name not in page, "nobody is told who wrote it"
    assert submit(browser, page, DRAFT.replace("becuase", "because")).status_code == 303
    demonstration = session.scalars(select(Demonstration)).one()
    assert demonstration.corrects_id == draft.id
    written = session.get_one(Completion, demonstration.completion_id)
    assert (written.text, written.source) == (DRAFT.replace("becuase", "because"), CompletionSource.PERSON)
    assert session.scalars(select(Judgment.ranking)).one() == []
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, corrections_as_chosen=True)
    folder = Path(snapshot.path or "")
    (row,) = pq.read_table(folder / "demonstrations.parquet").to_pylist()
    assert (row["source"], row["corrects"][0]["content"]) == ("corrected", DRAFT)
    for name in ("judgments", "rankings.train", "rankings.eval"):
        assert pq.read_table(folder / f"{name}.parquet").num_rows == 0


def test_a_draft_is_sent_back_unchanged_only_by_who_says_so(
    session: Session, browser: TestClient, campaign: Campaign, comparison: Comparison
) -> None:
    page = opened(browser, campaign)
    refused = submit(browser, page, f"{DRAFT}\r\n")
    assert refused.status_code == 422
    assert "Nothing is changed yet." in refused.text
    assert session.scalars(select(Demonstration)).all() == []
    for _ in range(2):  # sent twice
        assert submit(browser, page, DRAFT, as_it_is="true").status_code == 303
    demonstration = session.scalars(select(Demonstration)).one()
    assert session.get_one(Completion, demonstration.completion_id).text == DRAFT


def test_what_was_written_is_undone_looked_at_and_never_compared(
    session: Session, browser: TestClient, campaign: Campaign, comparison: Comparison, signed_in: SignedIn
) -> None:
    page = opened(browser, campaign)
    assignment = assignment_in(page)
    for verdict in ({"ranking": "1"}, {"all_bad": "true"}):
        data = {**verdict, "key": str(uuid.uuid4())}
        assert browser.post(f"/assignments/{assignment}/judgment", data=data).status_code == 422
    submit(browser, page, "Light scatters.")
    for path in (f"/assignments/{assignment}/correction", f"/assignments/{assignment}/judgment"):
        assert browser.get(path).status_code == 409
    history = unescape(browser.get(f"/campaigns/{campaign.id}/judgments").text)
    assert "Light scatters." in history
    assert "Draft" in history
    assert "Undo and write again" in history
    assert "Tie" not in history
    assert "Edit" not in history
    mo = make_user(session, Role.MANAGER)
    enrol(session, mo, campaign, judges=False, access=Access.MANAGE)
    session.commit()
    manager = signed_in(mo)
    assert "Written: corrects completion 1" in manager.get(f"/comparisons/{comparison.id}").text
    found = manager.get(f"/comparisons?campaign={campaign.id}").text
    assert ">written</span>" in found
    assert "a draft by" in manager.get(f"/campaigns/{campaign.id}").text
    undone = browser.post(f"/assignments/{assignment}/retraction", data={"key": str(uuid.uuid4())})
    assert undone.status_code == 303
    page = opened(browser, campaign)
    assert "\nLight scatters.</textarea>" in page
    assert f"data-original>{DRAFT}</div>" in page


def test_who_is_ahead_of_the_model_waits_for_it(
    session: Session, browser: TestClient, campaign: Campaign, ann: User
) -> None:
    make_prompt(session, campaign, "Why is the sky blue?")
    session.add(CampaignQueue(campaign_id=campaign.id, state=QueueState.MAKING, updated_at=NOW))
    session.commit()
    page = opened(browser, campaign)
    assert "The model is writing." in page
    assert 'hx-trigger="every 2s"' in page
    assert "textarea" not in page
    assert session.scalars(select(Slot)).all() == [], "no prompt is handed out bare"
    assert [name for name, _ in queued(session)] == ["comparisons:fill_queue"]
    path = f"/campaigns/{campaign.id}/write"
    assert browser.get(path, headers=HTMX).status_code == 204
    make_comparison(session, campaign, texts=[DRAFT])
    session.commit()
    assert browser.get(path, headers=HTMX).headers["HX-Redirect"] == path
    assert DRAFT in opened(browser, campaign)


def test_a_draft_is_one_sample_and_prompts_wait_for_it(session: Session, campaign: Campaign) -> None:
    make_prompt(session, campaign)
    session.commit()
    assert not hand_out_prompts(session, campaign_id=campaign.id, now=NOW)
    draft = next_draft(session, campaign_id=campaign.id, target=3, now=NOW)
    assert draft is not None
    assert (draft.samples, draft.count) == (1, 1)


def test_a_campaign_has_drafts_only_where_a_model_writes_them(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session, slug="toy")
    session.commit()
    manager = signed_in(make_user(session, Role.MANAGER))
    asked = {"kind": "demonstration", "begins_with_draft": "true"}
    refused = manager.post("/campaigns", data=filled_in(**asked, source="none"))
    assert refused.status_code == 422
    page = unescape(refused.text)
    assert 'id="begins_with_draft-error">Choose the model that writes the draft' in page
    assert 'name="begins_with_draft" value="true" checked' in page
    source = f"{line.id}:current"
    manager.post("/campaigns", data=filled_in(**asked, source=source))
    campaign = session.scalars(select(Campaign)).one()
    assert (campaign.begins_with_draft, campaign.alias, campaign.comparisons_per_prompt) == (True, Alias.CURRENT, 1)
    make_prompt(session, campaign)
    assert obstacles_to_opening(session, campaign) == []
    path = f"/campaigns/{campaign.id}"
    edited = manager.get(f"{path}/edit").text
    assert 'name="begins_with_draft" value="true" checked' in edited
    assert '<input type="hidden" name="kind" value="demonstration">' in edited
    refused = manager.post(path, data=filled_in(**asked, source=f"{line.id}:none"))
    assert "Choose the model that writes the draft" in refused.text
    unasked = manager.post(path, data=filled_in(begins_with_draft="true", source=f"{line.id}:none"))
    assert (unasked.status_code, "Choose the model whose draft" in unasked.text) == (422, True)
    manager.post(path, data=filled_in(source=source))
    session.expire_all()
    assert (campaign.begins_with_draft, campaign.alias) == (False, None)
    manager.post("/campaigns", data=filled_in(begins_with_draft="true", source=source))
    compared = session.scalars(select(Campaign).where(Campaign.id != campaign.id)).one()
    assert (compared.begins_with_draft, compared.alias) == (False, Alias.CURRENT)


def test_it_cannot_be_opened_before_its_model_is_there(session: Session) -> None:
    campaign = make_campaign(
        session, line=make_line(session, deployed=False), state=CampaignState.DRAFT, begins_with_draft=True
    )
    campaign.kind = CampaignKind.DEMONSTRATION
    make_prompt(session, campaign)
    assert "No version of its model is deployed" in obstacles_to_opening(session, campaign)[0]
