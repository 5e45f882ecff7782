"""Looking comparisons up: who sees what, what each filter finds, paging, and changes of many."""

import re
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role, User
from app.audit import AuditEntry
from app.campaigns.models import Access, Campaign
from app.comparisons.filters import Annotator, ComparisonFilter, FilterForm
from app.comparisons.models import BulkChange, BulkState, Comparison, Judgment
from app.comparisons.service import bulk, finding
from app.comparisons.service.finding import find_page
from app.comparisons.service.rejecting import Grounds, reject_judgment
from app.generation.models import Prompt, PromptState
from app.pseudonyms import Pseudonyms
from app.settings import Settings
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.datasets import house, import_lines
from tests.factories.deployments import make_line
from tests.factories.desks import Desk, make_desk
from tests.factories.generation import make_prompt


@dataclass
class World:
    """A campaign with six comparisons, judged or not; a manager, a researcher, two annotators; and another campaign."""

    campaign: Campaign
    other: Campaign
    manager: User
    researcher: User
    ann: Desk
    bob: Desk
    items: dict[str, Comparison]


@pytest.fixture
def world(session: Session) -> World:
    """See World."""
    campaign, other = make_campaign(session, line=make_line(session)), make_campaign(session)
    manager, researcher = make_user(session, Role.MANAGER), make_user(session, Role.RESEARCHER)
    enrol(session, manager, campaign, judges=False, access=Access.MANAGE)
    enrol(session, researcher, campaign, judges=False, access=Access.RESEARCH)
    ann, bob = make_desk(session, campaign), make_desk(session, campaign)
    items = {}
    said = {
        "first": ("How is black tea made?", ["Boil the kettle.", "Ask your aunt."], ["drinks"]),
        "second": ("Wie wird grüner Tee gekocht?", ["Mit 80 Grad.", "Gar nicht."], ["drinks", "german"]),
        "tie": ("What is rain?", ["Water that falls.", "Falling water."], []),
        "all_bad": ("東京タワーはどこですか", ["東京の港区にあります。", "知りません。"], []),
        "skipped": ("What is snow?", ["Frozen water.", "100%_sure it is cold."], []),
        "not_judged": ("What is hail?", ["Ice.", "Hard ice."], []),
    }
    for name, (prompt, texts, tags) in said.items():
        asked = make_prompt(session, campaign, prompt, tags=tags)
        items[name] = make_comparison(session, campaign, prompt=asked, texts=texts, redundancy=2)
    by_id = {item.id: name for name, item in items.items()}
    while (lease := ann.lease()) is not None:
        name = by_id[lease.comparison_id]
        if name == "not_judged":
            break
        if name == "skipped":
            ann.skip(lease, "Too cold.")
            continue
        first = items[name].members[0].completion_id
        place = lease.shown_order.index(first) + 1
        rankings = {"first": f"{place}>{3 - place}", "second": f"{3 - place}>{place}", "tie": "1=2", "all_bad": None}
        ann.judge(lease, rankings[name], all_bad=name == "all_bad")
    make_comparison(session, other, prompt=make_prompt(session, other, "A secret about tea?"))
    session.commit()
    return World(campaign, other, manager, researcher, ann, bob, items)


def found(session: Session, world: World, **typed: Any) -> list[str]:
    """Names of what a filter finds in the campaign."""
    annotator_id = typed.pop("annotator_id", None)
    annotator = Annotator(annotator_id) if annotator_id is not None else None
    which = ComparisonFilter(FilterForm.model_validate(typed), [world.campaign.id], annotator)
    names = {item.id: name for name, item in world.items.items()}
    return sorted(names[each] for each in find_page(session, which).ids)


@pytest.fixture(params=["candidates", "in order"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of looking find the same: from an index, and one by one."""
    if request.param == "in order":
        monkeypatch.setattr(finding, "MOST_CANDIDATES", -1)
    return str(request.param)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("tea", ["first"]),
        ("TEA kettle", []),
        ("boil", ["first"]),
        ('"falling water"', ["tie"]),
        ("water -frozen", ["tie"]),
        ("kettle or snow", ["first", "skipped"]),
        ("GRÜNER", ["second"]),
        ("タワー", ["all_bad"]),
        ("港区", ["all_bad"]),
        ("東京 どこ", ["all_bad"]),
        ("100%_sure", ["skipped"]),
        ("%", ["skipped"]),
        ("nowhere", []),
        ("user", []),
        ("content", []),
    ],
)
def test_a_search_finds_words_phrases_and_characters(
    session: Session, world: World, way: str, query: str, names: list[str]
) -> None:
    assert found(session, world, q=query) == names


@pytest.mark.parametrize("outcome", ["first", "second", "tie", "all_bad", "skipped"])
def test_each_outcome_finds_its_own(session: Session, world: World, way: str, outcome: str) -> None:
    assert found(session, world, outcome=outcome) == [outcome]


def test_filters_narrow_together(session: Session, world: World, way: str) -> None:
    ann, bob = world.ann.annotator_id, world.bob.annotator_id
    judged = ["all_bad", "first", "second", "tie"]
    assert found(session, world, outcome="not_judged") == ["not_judged", "skipped"]
    assert found(session, world, annotator_id=ann) == judged
    assert found(session, world, annotator_id=bob) == []
    assert found(session, world, annotator_id=ann, outcome="skipped") == ["skipped"]
    assert found(session, world, annotator_id=bob, outcome="skipped") == []
    assert found(session, world, tag="drinks") == ["first", "second"]
    assert found(session, world, tag="drinks", outcome="second") == ["second"]
    assert found(session, world, since=NOW.date(), until=NOW.date()) == judged
    assert found(session, world, since=NOW.date() + timedelta(days=1)) == []
    assert found(session, world, counting="counted") == judged
    assert found(session, world, counting="surplus") == found(session, world, counting="rejected") == []
    version = session.scalar(text("SELECT max(model_version_id) FROM comparisons WHERE campaign_id = :id"), {
        "id": world.campaign.id})  # fmt: skip
    assert len(found(session, world, version=version)) == 6
    assert found(session, world, version=2**31 - 1) == []
    sides = [found(session, world, split=side) for side in ("train", "eval", "neither")]
    assert sorted(name for side in sides for name in side) == sorted(world.items)


def test_rejected_disagreeing_and_flagged_judgments_are_found(session: Session, world: World, way: str) -> None:
    judgment_id = session.scalars(select(Judgment.id).where(Judgment.comparison_id == world.items["first"].id)).one()
    reject_judgment(session, judgment_id=judgment_id, grounds=Grounds("No."), by_id=None, now=NOW)
    assert found(session, world, counting="rejected") == ["first"]
    assert found(session, world, outcome="first") == []
    assert found(session, world, outcome="first", counting="rejected") == ["first"]
    lease = world.bob.take()
    assert lease.comparison_id == world.items["first"].id
    world.bob.judge(lease, "1=2")
    assert found(session, world, outcome="disagreement") == [], "what is set aside disagrees with nobody"
    lease = world.bob.take()
    recorded = world.bob.judge(lease, "1=2")
    assert found(session, world, outcome="disagreement") == ["second"]
    completion = str(lease.shown_order[0])
    session.execute(
        text(
            "UPDATE judgments SET flags = jsonb_build_object(CAST(:c AS text), jsonb_build_array('rude')) "
            "WHERE id = :id"
        ),
        {"c": completion, "id": recorded.judgment_id},
    )
    assert found(session, world, flag="rude") == ["second"]
    assert found(session, world, flag="kind") == []


def test_pages_follow_each_other_both_ways_and_go_on_where_enough_was_looked_at(
    session: Session, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = ComparisonFilter(FilterForm(), [world.campaign.id])
    newest = sorted((item.id for item in world.items.values()), reverse=True)
    first = find_page(session, which, size=4)
    assert (first.ids, first.after) == (newest[:4], None)
    second = find_page(session, which, size=4, before=first.before)
    assert (second.ids, second.before) == (newest[4:], None)
    back = find_page(session, which, size=4, after=second.after)
    assert (back.ids, back.after) == (newest[:4], None)
    assert find_page(session, which, size=4, before=back.before).ids == newest[4:]
    monkeypatch.setattr(finding, "MOST_LOOKED_AT", 2)
    monkeypatch.setattr(finding, "MOST_CANDIDATES", -1)
    rare = ComparisonFilter(FilterForm(outcome="first"), [world.campaign.id])
    edge, pages, ids = None, 0, []
    while True:
        page = find_page(session, rare, before=edge)
        ids += page.ids
        pages += 1
        if page.before is None:
            break
        assert page.looked_through
        edge = page.before
    assert (ids, pages) == ([world.items["first"].id], 4)


def test_managers_see_names_and_researchers_the_pseudonyms_of_snapshots(
    session: Session, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    name = session.get_one(User, world.ann.annotator_id).name
    pseudonym = Pseudonyms(settings.required_secret()).of_user(world.ann.annotator_id)
    item = world.items["first"].id
    for path in ("/comparisons", f"/comparisons/{item}"):
        by_manager, by_researcher = (signed_in(each).get(path).text for each in (world.manager, world.researcher))
        assert name in by_manager
        assert name not in by_researcher
        assert pseudonym[:10] in by_researcher
        assert "A secret about tea?" not in by_manager + by_researcher
    assert "Reject …" in signed_in(world.manager).get(f"/comparisons/{item}").text
    assert "Reject …" not in signed_in(world.researcher).get(f"/comparisons/{item}").text
    mine = signed_in(world.researcher).get("/comparisons", params={"annotator": pseudonym}).text
    assert "What is rain?" in mine
    assert "What is hail?" not in mine


def test_annotators_see_nothing_of_it(session: Session, signed_in: SignedIn, world: World) -> None:
    browser = signed_in(session.get_one(User, world.ann.annotator_id))
    page = browser.get("/comparisons")
    assert "You may see no campaign" in page.text
    assert "What is rain?" not in page.text
    assert browser.get(f"/comparisons/{world.items['first'].id}").status_code == 404
    assert 'href="/comparisons"' not in browser.get("/account").text


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("campaign=999", "There is no such campaign"),
        ("campaign=x", "valid integer"),
        ("outcome=best", "Input"),
        ("annotator=a-nobody", "Nobody here goes by this name"),
        ("since=yesterday", "date"),
        ("since=0001-01-01", "no day on which"),
        ("q=" + "x" * 401, "400"),
    ],
)
def test_a_filter_that_cannot_be_used_says_what_is_wrong(
    signed_in: SignedIn, world: World, query: str, says: str
) -> None:
    answer = signed_in(world.manager).get(f"/comparisons?{query}")
    assert answer.status_code == 422
    assert says.lower() in answer.text.lower()
    assert "What is rain?" not in answer.text


def test_nothing_found_and_odd_queries_are_pages_too(signed_in: SignedIn, world: World) -> None:
    browser = signed_in(world.manager)
    assert "No comparison is like that." in browser.get("/comparisons?q=nowhere").text
    for query in ("q=%00", "q=%22", "q=()", "q=:*", "before=abc", "before=" + "9" * 30, "after=0", "q=-", "flag=%27"):
        assert browser.get(f"/comparisons?{query}").status_code == 200, query


def test_one_comparison_shows_everything_and_the_way_through_the_search(
    session: Session, signed_in: SignedIn, world: World
) -> None:
    lease = world.bob.take()
    world.bob.judge(lease, "1>2")
    world.bob.judge(lease, "2>1")
    session.commit()
    browser = signed_in(world.manager)
    page = browser.get(f"/comparisons/{world.items['first'].id}").text
    for said in ("How is black tea made?", "Boil the kettle.", "under campaign revision 1", "revision 2", "counts",
                 "no longer in force", "Shown in the order", "2 filled", "Ended by"):  # fmt: skip
        assert said in page
    assert "Too cold." in browser.get(f"/comparisons/{world.items['skipped'].id}").text
    drinks = browser.get(f"/comparisons/{world.items['second'].id}?tag=drinks").text
    assert f"/comparisons/{world.items['first'].id}?tag=drinks" in drinks
    assert f"/comparisons/{world.items['tie'].id}?" not in drinks


def test_a_manager_rejects_on_the_page_and_takes_it_back(session: Session, signed_in: SignedIn, world: World) -> None:
    item = world.items["first"].id
    judgment_id = session.scalars(select(Judgment.id).where(Judgment.comparison_id == item)).one()
    browser = signed_in(world.manager)
    assert browser.post(f"/judgments/{judgment_id}/rejection", data={"reason": " "}).status_code == 422
    answer = browser.post(f"/judgments/{judgment_id}/rejection", data={"reason": "Skimmed <b>it</b>."})
    assert answer.headers["location"] == f"/comparisons/{item}?said=rejected#judgment-{judgment_id}"
    page = browser.get(f"/comparisons/{item}?said=rejected").text
    assert "Skimmed &lt;b&gt;it&lt;/b&gt;." in page
    assert "Take the rejection back" in page
    own = signed_in(session.get_one(User, world.ann.annotator_id))
    assert "Skimmed &lt;b&gt;" in own.get(f"/campaigns/{world.campaign.id}/judgments").text
    assert browser.post(f"/judgments/{judgment_id}/reinstatement").status_code == 303
    assert "Rejection taken back" in browser.get(f"/comparisons/{item}").text


# --- Many at once


def change(browser: TestClient, world: World, **data: Any) -> Any:
    given = {"key": str(uuid.uuid4()), "which": "all", **data}
    return browser.post(f"/campaigns/{world.campaign.id}/changes", data=given)


def test_many_are_counted_confirmed_once_and_changed_once(session: Session, signed_in: SignedIn, world: World) -> None:
    browser = signed_in(world.manager)
    asked = {"verb": "reject", "which": "all", "outcome": "tie"}
    page = browser.get(f"/campaigns/{world.campaign.id}/changes/new", params=asked).text
    assert "1 judgment will be set aside." in page
    key = str(uuid.uuid4())
    for _ in range(2):
        answer = change(browser, world, verb="reject", outcome="tie", reason="Too easy.", key=key)
        assert answer.status_code == 303
    (done,) = session.scalars(select(BulkChange))
    assert answer.headers["location"].endswith(f"/changes/{done.id}")
    assert (done.state, done.found, done.done, done.passed_over) == (BulkState.DONE, 1, 1, 0)
    assert "Done." in browser.get(answer.headers["location"]).text
    assert found(session, world, counting="rejected") == ["tie"]
    actions = list(session.scalars(select(AuditEntry.action).where(AuditEntry.action.like("bulk%"))))
    assert actions == ["bulk_change.requested", "bulk_change.finished"]
    again = change(browser, world, verb="reject", outcome="tie", reason="Too easy.")
    second = session.get_one(BulkChange, int(again.headers["location"].rpartition("/")[2]))
    assert (second.found, second.done) == (0, 0)


def test_those_chosen_get_a_priority_tags_or_are_retired(session: Session, signed_in: SignedIn, world: World) -> None:
    browser = signed_in(world.manager)
    ids = [world.items["first"].id, world.items["tie"].id]
    foreign = session.scalars(select(Comparison.id).where(Comparison.campaign_id == world.other.id)).one()
    chosen = {"which": "chosen", "ids": [*ids, foreign]}
    assert change(browser, world, verb="prioritise", priority="2.5", **chosen).status_code == 303
    assert change(browser, world, verb="tag", tags="hot; seen", **chosen).status_code == 303
    assert change(browser, world, verb="retire", **chosen).status_code == 303
    session.expire_all()
    rows = session.execute(text("SELECT DISTINCT comparison_id FROM slots WHERE priority = 2.5")).scalars().all()
    assert sorted(rows) == sorted(ids)
    assert {item.priority for item in (session.get_one(Comparison, each) for each in ids)} == {2.5}
    prompts = [session.get_one(Prompt, session.get_one(Comparison, each).prompt_id) for each in ids]
    assert [prompt.tags for prompt in prompts] == [["drinks", "hot", "seen"], ["hot", "seen"]]
    assert {prompt.state for prompt in prompts} == {PromptState.RETIRED}
    assert session.get_one(Comparison, foreign).priority == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"verb": "reject", "reason": " "}, "Say why"),
        ({"verb": "prioritise", "priority": "high"}, "A priority is a number"),
        ({"verb": "prioritise", "priority": "nan"}, "A priority is a number"),
        ({"verb": "tag", "tags": " ; "}, "Say which tags"),
        ({"verb": "reject", "reason": "x", "which": "chosen"}, "Choose some comparisons first"),
        ({"verb": "explode"}, "verb"),
    ],
)
def test_a_change_that_cannot_be_done_says_why(
    session: Session, signed_in: SignedIn, world: World, data: dict[str, str], says: str
) -> None:
    answer = change(signed_in(world.manager), world, **data)
    assert answer.status_code == 422
    assert says in answer.text
    assert session.scalars(select(BulkChange)).all() == []


def test_a_large_change_is_the_workers_and_goes_on_where_it_was_broken_off(
    session: Session,
    session_factory: sessionmaker[Session],
    signed_in: SignedIn,
    clock: StoppedClock,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "DONE_AT_ONCE", 2)
    monkeypatch.setattr(bulk, "BATCH", 2)
    browser = signed_in(world.manager)
    answer = change(browser, world, verb="reject", reason="All of them.")
    waiting = browser.get(answer.headers["location"]).text
    assert "The worker is at it: 0 of 4." in waiting
    (job,) = session.execute(text("SELECT task_name, args FROM procrastinate_jobs WHERE task_name LIKE '%change'"))
    assert job.task_name == "comparisons:carry_out_change"
    begun = []

    def broken(*given: Any, **named: Any) -> Any:
        begun.append(1)
        if len(begun) == 2:
            raise RuntimeError("killed")
        return bulk_do(*given, **named)

    bulk_do = bulk._do
    monkeypatch.setattr(bulk, "_do", broken)
    change_id = job.args["change_id"]
    with pytest.raises(RuntimeError):
        bulk.carry_out(session_factory, change_id=change_id, clock=clock)
    session.expire_all()
    halfway = session.get_one(BulkChange, change_id)
    assert halfway.state is BulkState.RUNNING
    for _ in range(2):
        bulk.carry_out(session_factory, change_id=change_id, clock=clock)
    session.expire_all()
    assert (halfway.state, halfway.done, halfway.passed_over) == (BulkState.DONE, 4, 0)
    assert session.scalar(text("SELECT count(*) FROM rejections")) == 4


def test_whom_an_import_names_can_be_looked_for(
    session: Session,
    session_factory: sessionmaker[Session],
    signed_in: SignedIn,
    settings: Settings,
    world: World,
    tmp_path: Path,
) -> None:
    lines = [
        house("Is salt salty?", judgments=[{"annotator": "Zoë", "ranking": "1>2"}]),
        house("Is ice cold?", judgments=[{"annotator": "Yan", "ranking": "1>2"}]),
    ]
    import_lines(session_factory, world.campaign, lines, tmp_path)
    imported = session.scalars(select(Judgment).where(Judgment.external_annotator == "Zoë")).one()
    assert imported.import_id is not None
    pseudonym = Pseudonyms(settings.required_secret()).of_external(imported.import_id, "Zoë")
    for person, label in ((world.manager, "Zoë"), (world.researcher, pseudonym)):
        page = signed_in(person).get("/comparisons", params={"annotator": pseudonym}).text
        assert re.search(rf'<option value="{pseudonym}" selected>{label}</option>', page)
        assert "Is salt salty?" in page
        assert "Is ice cold?" not in page
        assert "How is black tea made?" not in page
    change(signed_in(world.manager), world, verb="reject", annotator=pseudonym, reason="Not ours.")
    done = session.scalars(select(BulkChange)).one()
    assert (done.done, done.found) == (1, 1)
    assert bulk.which_of(done).annotator == Annotator(import_id=imported.import_id, external="Zoë")
