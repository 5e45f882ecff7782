"""Runs and versions side by side: what differs is marked, whatever state the runs are in."""

import re
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.campaigns.models import Access
from app.training.models import RunState
from tests.conftest import SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.deployments import make_line
from tests.factories.training import finished_run, make_run
from tests.training.reports import preferences, report, sample, watched
from tests.training.test_pages import metrics
from tests.training.test_reward_models import made_by, reward_run
from trainer.contract.run import Hyperparameters


def marked(page: str) -> set[str]:
    """Names of the rows in which runs differ."""
    rows = page.split('<tr class="differs"><th scope="row">')[1:]
    return {row.partition("<")[0] for row in rows}


def charts(page: str) -> list[str]:
    """Names of the charts, in their order."""
    return re.findall(r'<figure class="chart" id="chart-(\w+)"', page)


def left_out(page: str) -> list[str]:
    """What the page says of the curves that it does not draw, one by one."""
    notice = page.partition('id="not-drawn"')[2].partition("</div>")[0]
    found = re.findall(r"<li>(.*?)</li>", notice, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", "", each).split()) for each in found]


def curves(steps: int, **first: float) -> list[dict[str, Any]]:
    """What a run keeps of its metrics, margins and distances among them."""
    return [{**row, "held_out_margin": 0.2, "sample_kl": 0.1, **first} for row in metrics(steps)]


def test_what_differs_between_runs_is_marked_and_the_base_stands_beside_them(
    session: Session, signed_in: SignedIn
) -> None:
    line = make_line(session, slug="tiny")
    quick = Hyperparameters(learning_rate=0.5).model_dump(mode="json")
    first = finished_run(session, line, report())
    worse = report(before=preferences([1.0] * 12), after=preferences([-1.0] * 12))
    second = finished_run(session, line, worse, hyperparameters=quick, seed=3)
    first.metrics = second.metrics = metrics(2)
    session.commit()
    browser = signed_in(make_user(session, Role.ADMIN))
    base = first.base_version_id
    page = browser.get(
        f"/models/{line.id}/comparison?run={first.id}&version={second.model_version_id}&version={base}"
    ).text
    for shown in ("tiny-v0", "tiny-v1", "tiny-v2", "Refused by the gate", "Passed the gate", "0.5", "What colour is"):
        assert shown in page
    assert {"Learning rate", "Seed", "Held-out accuracy"} <= marked(page)
    alike = page.partition('<details id="same">')[2].partition("</details>")[0]
    assert '<dt>Beta</dt><dd translate="no">0.1</dd>' in alike, "what differs is not drowned in it"
    assert "Learning rate" not in alike
    for chart in ("loss", "accuracy"):
        figure = page.partition(f'<figure class="chart" id="chart-{chart}"')[2].partition("</figure>")[0]
        assert figure.count("<polyline") == 2, "both runs in one chart"
        assert 'data-y="0.5">0.5</td><td class="number" data-y="0.5"' in figure or chart == "accuracy"
        assert figure.count('<th class="number"') == 2
    assert page.count('role="img"') == 2
    chosen = page.partition("Choose what to compare")[2]
    assert chosen.count(" checked") == 3


@pytest.mark.parametrize(
    ("method", "weights", "reason"),
    [
        ("ipo", {}, "Method"),
        ("sft", {}, "Method"),
        ("dpo", {"likelihood_weight": 1.0, "drift_weight": 0.0}, "Likelihood weight, Drift weight"),
    ],
)
def test_losses_of_different_objectives_are_not_drawn_on_the_same_axes(
    session: Session, signed_in: SignedIn, method: str, weights: dict[str, float], reason: str
) -> None:
    line = make_line(session)
    asked = Hyperparameters.model_validate(weights).model_dump(mode="json")
    first = finished_run(session, line, report(), metrics=curves(3))
    second = finished_run(session, line, report(), metrics=curves(3, loss=25.0), method=method, hyperparameters=asked)
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/models/{line.id}/comparison?run={first.id}&run={second.id}").text
    assert charts(page) == ["accuracy", "margin", "kl"], "what can be compared, and agreement with people first"
    assert left_out(page) == [f"Loss. The runs differ in: {reason}"]
    assert "the lower or higher one is not the better run" in page


def test_margins_counted_by_another_beta_are_not_drawn_on_the_same_axes(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session)
    sharper = Hyperparameters(beta=0.5).model_dump(mode="json")
    first = finished_run(session, line, report(), metrics=curves(3))
    second = finished_run(session, line, report(), metrics=curves(3), hyperparameters=sharper)
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/models/{line.id}/comparison?run={first.id}&run={second.id}").text
    assert charts(page) == ["accuracy", "kl"]
    assert left_out(page) == [
        "Loss. The runs differ in: Beta",
        "Margin on held-out pairs. The runs differ in: Beta",
    ]


def test_runs_with_other_references_share_neither_losses_nor_distances(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session)
    first = finished_run(session, line, report(), metrics=curves(3))
    onward = make_run(session, line, state=RunState.RUNNING, metrics=curves(3))
    onward.reference_version = made_by(first)
    session.commit()
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/models/{line.id}/comparison?run={first.id}&run={onward.id}").text
    assert charts(page) == ["accuracy"]
    assert [each.partition(".")[0] for each in left_out(page)] == [
        "Loss",
        "Margin on held-out pairs",
        "Distance from the reference (KL)",
    ]


def test_what_older_runs_were_not_asked_counts_as_the_default(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session)
    older = {name: value for name, value in Hyperparameters().model_dump(mode="json").items() if name != "rankings"}
    first = finished_run(session, line, report(), metrics=curves(3), hyperparameters=older)
    second = finished_run(session, line, report(), metrics=curves(3), seed=2, hyperparameters={"learning_rate": 0.1})
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/models/{line.id}/comparison?run={first.id}&run={second.id}").text
    assert charts(page) == ["loss", "accuracy", "margin", "kl"]
    assert "not-drawn" not in page


def test_why_a_reward_model_is_not_compared_is_said(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session)
    first, second = finished_run(session, line, report()), finished_run(session, line, report())
    rewards = reward_run(session, line)
    browser = signed_in(make_user(session, Role.ADMIN))
    asked = f"/models/{line.id}/comparison?run={first.id}&run={second.id}"
    for more in (f"&run={rewards.id}", f"&version={made_by(rewards).id}"):
        page = browser.get(asked + more).text
        said = page.partition('id="not-shown"')[2].partition("</div>")[0]
        assert "a reward model writes nothing" in said
        assert f'href="/runs/{rewards.id}"' in said
    page = browser.get(asked).text
    assert "not-shown" not in page
    listed = page.partition("Choose what to compare")[2]
    assert "a reward model writes nothing" in listed
    assert f'href="/runs/{rewards.id}"' in listed
    assert f'name="run" value="{rewards.id}"' not in listed


def test_a_run_leads_to_the_comparison_where_there_is_another_one(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session)
    first, rewards = finished_run(session, line, report()), reward_run(session, line)
    finished_run(session, make_line(session), report())
    browser = signed_in(make_user(session, Role.ADMIN))
    link = f"/models/{line.id}/comparison?run="
    assert link not in browser.get(f"/runs/{first.id}").text
    second = make_run(session, line, state=RunState.RUNNING)
    page = browser.get(f"/runs/{second.id}").text
    assert re.search(rf'<a href="[^"]*{re.escape(link)}{second.id}">Compare with other runs</a>', page)
    assert f"{link}{first.id}" in browser.get(f"/runs/{first.id}").text
    assert link not in browser.get(f"/runs/{rewards.id}").text, "reward models are not compared"


def test_runs_that_wait_run_or_failed_are_compared_as_far_as_they_came(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session)
    failed = make_run(session, line, state=RunState.FAILED, message="The disk is full.")
    running = make_run(session, line, state=RunState.RUNNING, fraction=0.4, message="Training.")
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/models/{line.id}/comparison?run={failed.id}&run={running.id}").text
    for shown in ("The disk is full.", "40 %", f"Run {failed.id}", "Running", "Failed"):
        assert shown in page


def test_runs_under_way_are_compared_by_what_they_write_for_the_same_prompts(
    session: Session, signed_in: SignedIn
) -> None:
    line = make_line(session)
    samples = [watched(0, "As before."), watched(20, "First steps."), watched(40, "By now.")]
    ended = finished_run(session, line, report(samples_after=[sample("In the end.")] * 12))
    running = make_run(session, line, state=RunState.RUNNING, samples=samples)
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/models/{line.id}/comparison?run={running.id}&run={ended.id}").text
    row = page.partition('<th scope="row" class="verbatim">What colour is the sky?</th>')[2].partition("</tr>")[0]
    assert "By now." in row
    assert "In the end." in row
    assert "First steps." not in page


@pytest.mark.parametrize("query", ["", "?run=1", "?run=0&run=99999999999999&version=-1", "?run=2147483647"])
def test_without_enough_to_compare_there_is_the_list_to_choose_from(
    session: Session, signed_in: SignedIn, query: str
) -> None:
    line = make_line(session)
    make_run(session, line, state=RunState.FAILED)
    answer = signed_in(make_user(session, Role.ADMIN)).get(f"/models/{line.id}/comparison{query}")
    assert answer.status_code == 200
    assert "Compare the ticked" in answer.text


def test_runs_of_other_lines_and_samples_of_other_peoples_campaigns_stay_out(
    session: Session, signed_in: SignedIn
) -> None:
    line, other = make_line(session), make_line(session)
    own = finished_run(session, line, report())
    second = finished_run(session, line, report())
    foreign = finished_run(session, other, report())
    researcher = make_user(session, Role.RESEARCHER)
    enrol(session, researcher, make_campaign(session, line=line), access=Access.RESEARCH)
    session.commit()
    browser = signed_in(researcher)
    page = browser.get(f"/models/{line.id}/comparison?run={own.id}&run={second.id}&run={foreign.id}").text
    assert f'href="/runs/{foreign.id}"' not in page
    assert "What colour is the sky?" not in page
    assert browser.get(f"/models/{other.id}/comparison?run={foreign.id}").status_code == 404
