"""The pages of runs, in every state; who may do what on them."""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.models import Access, Campaign
from app.deployments.models import ModelLine
from app.deployments.service import current_version
from app.training.models import Run, RunState
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.datasets import demonstrate
from tests.factories.training import finished_run, judge_pairs, make_run
from tests.training.reports import preferences, report, sample, watched
from trainer.contract.report import HeldOutDemonstrations
from trainer.contract.run import Stage

HTMX = {"HX-Request": "true"}
REFUSED = report(before=preferences([1.0] * 12), after=preferences([-1.0] * 12))


class Site:
    """A campaign on a line with a manager and a researcher."""

    def __init__(self, session: Session, signed_in: SignedIn) -> None:
        self.campaign: Campaign = make_campaign(session, name="Kindness")
        assert self.campaign.line is not None
        self.line: ModelLine = self.campaign.line
        self.manager = self._person(session, Role.MANAGER, Access.MANAGE)
        self.researcher = self._person(session, Role.RESEARCHER, Access.RESEARCH)
        self.annotator = self._person(session, Role.ANNOTATOR, Access.NONE)
        self.stranger = make_user(session, Role.MANAGER)
        session.commit()
        self.signed_in = signed_in

    def _person(self, session: Session, role: Role, access: Access) -> User:
        person = make_user(session, role)
        enrol(session, person, self.campaign, access=access)
        return person

    def as_(self, person: User) -> TestClient:
        """Somebody's browser."""
        return self.signed_in(person)


@pytest.fixture
def site(session: Session, signed_in: SignedIn) -> Site:
    """The site as three people find it."""
    return Site(session, signed_in)


def metrics(steps: int) -> list[dict[str, Any]]:
    """What the worker keeps of so many steps."""
    row = {"at": NOW.isoformat(), "stage": Stage.TRAINING.value, "fraction": 0.4, "total_steps": 40}
    return [{**row, "step": step, "loss": 1 / step, "held_out_accuracy": 0.6} for step in range(1, steps + 1)]


def test_the_train_button_starts_a_run_and_leads_to_its_page(session: Session, site: Site) -> None:
    judge_pairs(session, site.campaign)
    browser = site.as_(site.researcher)
    fragment = browser.get(f"/campaigns/{site.campaign.id}/training", headers=HTMX).text
    assert fragment.lstrip().startswith('<section id="campaign-training"')
    assert "16 judgments" in fragment
    assert "12 pairs to train on" in fragment
    action = re.search(r'<form[^>]*action="([^"]+)"', fragment)
    assert action is not None
    answer = browser.post(action[1])
    assert answer.status_code == 303
    page = browser.get(answer.headers["location"]).text
    assert "Waiting" in page
    assert 'every 1s"' in page
    assert "palate worker" in page
    again = browser.post(action[1])
    assert again.status_code == 422
    assert "is under way on this line" in again.text


def test_too_few_judgments_are_said_on_the_form_and_the_button_is_off(site: Site) -> None:
    page = site.as_(site.manager).get(f"/models/{site.line.id}/training").text
    assert "Nothing has been judged on this line yet" in page
    assert re.search(r"<button[^>]*disabled[^>]*>\s*Train", page)


def test_a_learning_rate_left_empty_goes_by_size_and_the_page_says_which_it_was(session: Session, site: Site) -> None:
    judge_pairs(session, site.campaign)
    browser = site.as_(site.manager)
    form = browser.get(f"/models/{site.line.id}/training").text
    field = re.search(r'<input id="learning_rate"[^>]*>', form)
    assert field is not None
    assert 'value=""' in field[0]
    assert "required" not in field[0]
    answer = browser.post(f"/models/{site.line.id}/runs", data={"learning_rate": ""})
    assert answer.status_code == 303
    run = session.get_one(Run, int(answer.headers["location"].rpartition("/")[2]))
    assert run.hyperparameters["learning_rate"] is None
    fact = r"<dt>Learning rate</dt>\s*<dd[^>]*>{}</dd>"
    assert re.search(fact.format("By the size of the model"), browser.get(f"/runs/{run.id}").text)
    run.report = report().model_copy(update={"learning_rate": 5e-5}).model_dump(mode="json")
    session.commit()
    assert re.search(fact.format("5e-05"), browser.get(f"/runs/{run.id}").text)


def test_settings_reach_the_run_and_wrong_ones_come_back_with_a_message(session: Session, site: Site) -> None:
    judge_pairs(session, site.campaign)
    browser = site.as_(site.manager)
    wrong = browser.post(f"/models/{site.line.id}/runs", data={"learning_rate": "-1", "epochs": "3"})
    assert wrong.status_code == 422
    assert 'id="learning_rate-error"' in wrong.text
    assert 'value="3"' in wrong.text
    at_the_top = wrong.text.partition('id="errors"')[2].partition("</div>")[0]
    assert "No run was started" in at_the_top
    assert '<a href="#learning_rate">Learning rate</a>: ' in at_the_top
    unknown = browser.post(f"/models/{site.line.id}/runs", data={"method": "guessing", "batch_comparisons": "0"})
    assert unknown.status_code == 422
    assert 'id="method-error"' in unknown.text
    assert 'id="batch_comparisons-error"' in unknown.text
    neither = browser.post(f"/models/{site.line.id}/runs", data={"method": "reward_model", "tuning": "lora"})
    assert neither.status_code == 422
    assert "A reward model trains all weights" in neither.text
    settings = {"learning_rate": "0.00001", "epochs": "1", "drift_weight": "0", "seed": "9", "holds_back": "true"}
    settings |= {"method": "ipo", "rankings": "pairs", "batch_comparisons": "4"}
    settings |= {"tuning": "lora_top", "lora_layers": "1", "lora_rank": "8", "merged": "true"}
    answer = browser.post(f"/models/{site.line.id}/runs", data=settings)
    assert answer.status_code == 303
    run = session.get_one(Run, int(answer.headers["location"].rpartition("/")[2]))
    assert (run.seed, run.deploys_when_passed) == (9, False)
    assert (run.hyperparameters["learning_rate"], run.hyperparameters["drift_weight"]) == (1e-5, 0)
    assert run.hyperparameters["beta"] == 0.1
    assert (run.hyperparameters["tuning"], run.hyperparameters["lora_layers"]) == ("lora_top", 1)
    assert (run.hyperparameters["lora_rank"], run.hyperparameters["merged"]) == (8, True)
    assert (run.method, run.hyperparameters["rankings"], run.hyperparameters["batch_comparisons"]) == (
        "ipo",
        "pairs",
        4,
    )


def test_criteria_disagreement_and_patience_reach_the_run(session: Session, site: Site) -> None:
    judge_pairs(session, site.campaign)
    browser = site.as_(site.manager)
    wrong = browser.post(f"/models/{site.line.id}/runs", data={"criteria_weights": "helpful 1, honest a lot"})
    assert wrong.status_code == 422
    assert "“honest a lot” is no criterion and its weight" in wrong.text
    assert 'value="helpful 1, honest a lot"' in wrong.text
    settings = {"criteria_weights": "helpful 1, very honest=0.5", "overall_weight": "0", "reliability": "weight"}
    settings |= {"stop_after_evaluations": "3", "most_chosen_fall": "0.4"}
    answer = browser.post(f"/models/{site.line.id}/runs", data=settings)
    assert answer.status_code == 303
    run = session.get_one(Run, int(answer.headers["location"].rpartition("/")[2]))
    assert run.hyperparameters["criteria_weights"] == {"helpful": 1.0, "very honest": 0.5}
    assert (run.hyperparameters["overall_weight"], run.hyperparameters["reliability"]) == (0, "weight")
    assert (run.budget["stop_after_evaluations"], run.budget["most_chosen_fall"]) == (3, 0.4)
    assert "very honest 0.5" in browser.get(answer.headers["location"]).text


def test_where_there_are_demonstrations_alone_they_alone_can_be_trained_on(session: Session, site: Site) -> None:
    browser = site.as_(site.manager)
    nothing = browser.post(f"/models/{site.line.id}/runs", data={"method": "sft"})
    assert nothing.status_code == 422
    assert "Nobody has written a completion" in nothing.text
    demonstrate(session, site.campaign, "What is it?", "It is a fish.")
    page = browser.get(f"/models/{site.line.id}/training").text
    assert "Training on demonstrations alone is possible" in page
    assert not re.search(r"<button[^>]*disabled[^>]*>\s*Train", page)
    assert "Train on 1 demonstration alone" in browser.get(f"/campaigns/{site.campaign.id}/training").text
    assert browser.post(f"/models/{site.line.id}/runs").status_code == 422, "there are no preferences"
    answer = browser.post(f"/models/{site.line.id}/runs", data={"method": "sft"})
    assert answer.status_code == 303
    run = session.get_one(Run, int(answer.headers["location"].rpartition("/")[2]))
    assert run.method == "sft"


@pytest.mark.parametrize(
    ("demonstrations", "pairs", "said"),
    [
        (0, 12, "Trained on 12 pairs in 9 steps, checked on"),
        (26, 0, "Trained on 26 demonstrations in 9 steps, checked on"),
        (26, 12, "Trained on 26 demonstrations and 12 pairs in 9 steps, checked on"),
    ],
)
def test_a_report_says_what_was_trained_on_and_what_was_left_out(
    demonstrations: int, pairs: int, said: str, session: Session, site: Site
) -> None:
    counts = {"demonstrations": demonstrations, "train_pairs": pairs, "steps": 9, "dropped": {"disagreement": 2}}
    run = finished_run(session, site.line, report().model_copy(update=counts))
    page = " ".join(site.as_(site.researcher).get(f"/runs/{run.id}").text.split())
    assert said in page
    assert "2 on which people disagree" in page


def test_a_report_says_how_likely_held_out_demonstrations_are(session: Session, site: Site) -> None:
    measured = report()
    assert measured.before is not None
    assert measured.after is not None
    found = {
        name: results.model_copy(
            update={"demonstrations": HeldOutDemonstrations(demonstrations=7, logp_per_token=logp)}
        )
        for name, results, logp in (("before", measured.before, -2.5), ("after", measured.after, -1.25))
    }
    run = finished_run(session, site.line, measured.model_copy(update=found))
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    row = re.search(r"Log-probability of held-out demonstrations, nats per token</th>(.*?)</tr>", page, re.DOTALL)
    assert row is not None
    assert re.findall(r">(-[\d.]+)<", row[1]) == ["-2.50", "-1.25"]


def test_a_run_that_stopped_early_says_why(session: Session, site: Site) -> None:
    run = finished_run(session, site.line, report().model_copy(update={"stopped": "Enough was learnt."}))
    page = site.as_(site.manager).get(f"/runs/{run.id}").text
    assert "Training stopped early" in page
    assert "Enough was learnt." in page


def test_a_run_under_way_shows_how_far_it_is_and_asks_again(session: Session, site: Site) -> None:
    run = make_run(
        session, site.line, state=RunState.RUNNING, fraction=0.4, message="Step 10 of 40", metrics=metrics(10),
        log="12:00 Training on 40 pairs.\n",
    )  # fmt: skip
    fragment = site.as_(site.researcher).get(f"/runs/{run.id}", headers=HTMX).text
    assert fragment.lstrip().startswith('<section id="run" hx-get')
    assert re.search(r'<progress[^>]* value="40"', fragment)
    assert "Step 10 of 40" in fragment
    assert fragment.count("<svg") == 2
    assert 'aria-label="Loss: 1 at first, 0.1 at step 10."' in fragment
    assert "12:00 Training on 40 pairs." in fragment
    assert "style=" not in fragment


CHARTS = ["loss", "accuracy", "margin", "logps", "kl", "length"]
LATEST = {**metrics(10)[-1], "tokens_per_second": 1090.4, "seconds_left": 33.0}
FAR = {"name": "far", "first_step": 6, "last_step": 10, "figures": {"now": "0.30", "bound": "0.25"}}


def test_a_run_under_way_says_where_it_stands_and_what_each_chart_means(session: Session, site: Site) -> None:
    start = {**metrics(1)[0], "stage": "before", "step": 0, "loss": None, "held_out_accuracy": 0.5, "sample_kl": 0.0}
    rows = [
        start,
        *metrics(9),
        {**LATEST, "sample_kl": 0.03, "sample_tokens": 12.0, "held_out_chosen_logp": -4.0, "held_out_margin": 0.3},
    ]
    run = make_run(session, site.line, state=RunState.RUNNING, metrics=rows, latest=LATEST)
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    for shown in ("about 35 seconds", "10 of 40", "1,090", "60 %", "more than before training (50 %)", "0.03"):
        assert shown in page
    assert re.findall(r'<figure class="chart" id="chart-(\w+)"', page) == CHARTS
    notes = re.findall(r'<span class="small muted note">([^<]+)</span>', page)
    assert len(notes) == len(CHARTS)
    assert all(len(note) > 60 for note in notes)


def test_a_run_that_has_nothing_to_show_yet_says_what_will_come(session: Session, site: Site) -> None:
    run = make_run(session, site.line, state=RunState.RUNNING, latest={**LATEST, "stage": "loading", "step": 0})
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    assert "Curves appear here as soon as it begins to train." in page
    assert "Loading" in page
    assert "<figure" not in page


def test_the_stage_is_that_of_the_newest_row(session: Session, site: Site) -> None:
    latest = {**LATEST, "stage": "after", "seconds_left": 4.0}
    run = make_run(session, site.line, state=RunState.RUNNING, metrics=metrics(10), latest=latest)
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    assert "Measuring the result" in page
    assert "about a few seconds" not in page
    assert "a few seconds" in page


def test_a_warning_stands_where_it_is_read_out_with_what_to_do(session: Session, site: Site) -> None:
    passed = {"name": "endless", "first_step": 4, "last_step": 6, "figures": {"now": "40 %", "before": "0 %"}}
    given: dict[str, Any] = {"metrics": metrics(10), "latest": LATEST, "warnings": [passed, FAR]}
    run = make_run(session, site.line, state=RunState.RUNNING, **given)
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    region = page.partition('<div id="warnings" role="status">')[2].partition("</div>")[0]
    assert "From step 6:" in region
    assert "0.30 nats per token, more than 0.25. What it knew may be lost." in region
    assert "From step 4 to 6, no longer:" in region
    assert region.count('class="notice warn"') == 1
    other = make_campaign(session).line
    assert other is not None
    silent = make_run(session, other, state=RunState.RUNNING, metrics=metrics(10), latest=LATEST)
    page = site.as_(make_user(session, Role.ADMIN)).get(f"/runs/{silent.id}").text
    assert '<div id="warnings" role="status">' in page, "it is there before there is something to read out"
    assert "notice warn" not in page


def test_warnings_stay_with_a_run_that_is_over(session: Session, site: Site) -> None:
    run = finished_run(session, site.line, report(), metrics=metrics(10), latest=LATEST, warnings=[FAR])
    assert "0.30 nats per token" in site.as_(site.researcher).get(f"/runs/{run.id}").text


def test_samples_show_before_and_each_evaluation_of_which_the_newest_is_open(session: Session, site: Site) -> None:
    samples = [watched(0, "As before."), watched(20, "First <b>steps</b>."), watched(40, "By now.", "")]
    given: dict[str, Any] = {"metrics": metrics(10), "latest": LATEST, "samples": samples}
    run = make_run(session, site.line, state=RunState.RUNNING, **given)
    page = site.as_(make_user(session, Role.ADMIN)).get(f"/runs/{run.id}").text
    part = page.partition('<section id="watched"')[2].partition("</section>")[0]
    assert "As before." in part
    assert "First &lt;b&gt;steps&lt;/b&gt;." in part
    assert "(empty)" in part
    blocks = re.findall(r'<(\w+) data-evaluation="(\d)">', part)
    assert blocks == [("details", "0"), ("div", "1")], "older ones can be unfolded, by those without scripts too"
    assert re.search(r'<input type="range" id="evaluation" min="0" max="1" value="1" aria-valuetext="Step 40">', part)


def test_samples_before_the_first_evaluation_say_that_more_will_come(session: Session, site: Site) -> None:
    given: dict[str, Any] = {"metrics": metrics(2), "latest": LATEST, "samples": [watched(0, "As before.")]}
    run = make_run(session, site.line, state=RunState.RUNNING, **given)
    page = site.as_(make_user(session, Role.ADMIN)).get(f"/runs/{run.id}").text
    assert "It is asked again at the first evaluation." in page
    assert 'type="range"' not in page


def test_watched_samples_of_other_peoples_campaigns_are_left_out(session: Session, site: Site) -> None:
    mine = judged_prompt(session, site.campaign)
    theirs = judged_prompt(session, make_campaign(session, line=site.line))
    one, other = watched(0, "Mine.", prompt_id=str(mine)), watched(0, "Not mine.", prompt_id=str(theirs))
    samples = [{**one, "prompts": one["prompts"] + other["prompts"]}]
    run = make_run(session, site.line, state=RunState.RUNNING, latest=LATEST, samples=samples)
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    assert "Mine." in page
    assert "Not mine." not in page
    assert "1 prompt belongs to a campaign in which you have no part" in page
    assert "Not mine." in site.as_(make_user(session, Role.ADMIN)).get(f"/runs/{run.id}").text
    run.samples = [other]
    session.commit()
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    assert "1 prompt belongs to a campaign in which you have no part" in page
    assert 'type="range"' not in page


def test_a_run_that_has_told_nothing_for_minutes_sends_one_to_look_at_the_worker(
    session: Session, site: Site, clock: StoppedClock
) -> None:
    run = make_run(session, site.line, state=RunState.RUNNING, started_at=NOW, metrics=metrics(10), latest=LATEST)
    browser = site.as_(site.researcher)
    assert 'id="silent"' not in browser.get(f"/runs/{run.id}").text
    clock.forward(minutes=6)
    page = browser.get(f"/runs/{run.id}").text
    silent = page.partition('id="silent"')[2].partition("</div>")[0]
    assert "Nothing has been heard of it since 2026-11-23 12:00 UTC." in silent
    assert "palate worker" in silent
    assert "about 35 seconds" not in page


def test_a_version_of_an_earlier_step_is_told_from_the_last_samples(session: Session, site: Site) -> None:
    samples = [watched(0, "As before."), watched(6, "At best."), watched(10, "At last.")]
    given: dict[str, Any] = {"metrics": metrics(10), "latest": LATEST, "samples": samples}
    best = report().model_copy(update={"best_step": 6})
    run = finished_run(session, site.line, best, **given)
    page = site.as_(make_user(session, Role.ADMIN)).get(f"/runs/{run.id}").text
    assert "The version is that of step 6, which agreed best with people." in page
    assert "The last samples are of step 10 and not of the version, which is that of step 6." in page
    assert re.search(r'Agrees with people</dt>\s*<dd><span class="large">100 %', page), "as the report has it"
    last = report().model_copy(update={"best_step": 10})
    other = make_campaign(session).line
    assert other is not None
    run = finished_run(session, other, last, **given)
    page = site.as_(make_user(session, Role.ADMIN)).get(f"/runs/{run.id}").text
    assert "The last samples are of step" not in page


def test_what_was_asked_names_the_method_and_when_it_would_stop(session: Session, site: Site) -> None:
    budget = {"stop_after_evaluations": 3, "most_chosen_fall": 0.4}
    run = make_run(session, site.line, method="reward_model", budget=budget)
    browser = site.as_(site.researcher)
    facts = browser.get(f"/runs/{run.id}").text.partition('<details id="facts">')[2]
    assert "<dt>Method</dt><dd>Reward model</dd>" in facts
    facts = facts.replace(' translate="no"', "")
    assert "<dt>Patience</dt><dd>3 evaluations without a rise of held-out accuracy</dd>" in facts
    assert "<dt>Fall that stops training</dt><dd>0.4 nats per token</dd>" in facts
    assert "<dt>What is trained</dt><dd>By the size of the model</dd>" in facts, "as on the form"
    assert "<dt>Write an adapter merged into its base</dt><dd>no</dd>" in facts
    run.budget = {"stop_after_evaluations": 0, "most_chosen_fall": None}
    session.commit()
    facts = browser.get(f"/runs/{run.id}").text.partition('<details id="facts">')[2]
    assert "<dt>Patience</dt><dd>without end</dd>" in facts.replace(' translate="no"', "")
    assert "Fall that stops training" not in facts


def test_cancelling_asks_the_trainer_to_stop(session: Session, site: Site) -> None:
    run = make_run(session, site.line, state=RunState.RUNNING)
    browser = site.as_(site.researcher)
    answer = browser.post(f"/runs/{run.id}/cancellation")
    assert answer.status_code == 303
    page = browser.get(f"/runs/{run.id}").text
    assert "Cancelling" in page
    assert "/cancellation" not in page


def test_a_failed_run_says_why_and_what_to_do(session: Session, site: Site) -> None:
    given = {
        "state": RunState.FAILED,
        "message": "The disk is full. Free some space.",
        "log": "OSError",
        "finished_at": NOW,
    }
    run = make_run(session, site.line, **given)
    page = site.as_(site.manager).get(f"/runs/{run.id}").text
    assert "The disk is full. Free some space." in page
    assert "OSError" in page
    assert "Start a new run" in page
    assert "every 1s" not in page


def test_a_deployed_run_shows_report_samples_and_the_way_back(session: Session, site: Site) -> None:
    run = finished_run(session, site.line, report(samples_after=[sample("Glad you asked!\n<script>")] * 12))
    browser = site.as_(site.manager)
    page = browser.get(f"/runs/{run.id}").text
    assert "Passed the gate" in page
    assert "0.0 %" in page
    assert "Not reachable" in page, "no model server runs here, and the page says so"
    rollback = f"/models/{site.line.id}/rollback"
    assert rollback in page
    assert browser.post(rollback).status_code == 303
    assert current_version(session, line_id=site.line.id).number == 0
    assert "is not deployed" in browser.get(f"/runs/{run.id}").text


def test_a_refused_run_names_its_checks_and_an_override_needs_a_reason(session: Session, site: Site) -> None:
    run = finished_run(session, site.line, REFUSED)
    browser = site.as_(site.manager)
    page = browser.get(f"/runs/{run.id}").text
    assert "The gate refused it: Held-out accuracy, Held-out pairs whose margin rose." in page
    assert page.count("Blocks: worse") == 2
    short = browser.post(f"/runs/{run.id}/override", data={"reason": "because"})
    assert short.status_code == 422
    assert "at least 10 characters" in short.text
    assert current_version(session, line_id=site.line.id).number == 0
    assert browser.post(f"/runs/{run.id}/deployment").status_code == 409
    answer = browser.post(f"/runs/{run.id}/override", data={"reason": "The held-out prompts are stale."})
    assert answer.status_code == 303
    assert current_version(session, line_id=site.line.id) == run.model_version
    assert "The held-out prompts are stale." in browser.get(f"/runs/{run.id}").text


def test_a_run_that_was_held_back_waits_for_a_manager(session: Session, site: Site) -> None:
    run = finished_run(session, site.line, report(), deploys_when_passed=False)
    assert "A manager of the line can deploy it." in site.as_(site.researcher).get(f"/runs/{run.id}").text
    assert site.as_(site.researcher).post(f"/runs/{run.id}/deployment").status_code == 403
    assert site.as_(site.manager).post(f"/runs/{run.id}/deployment").status_code == 303
    assert current_version(session, line_id=site.line.id) == run.model_version


def test_samples_of_other_peoples_campaigns_are_left_out(session: Session, site: Site) -> None:
    mine = judged_prompt(session, site.campaign)
    theirs = judged_prompt(session, make_campaign(session, line=site.line))
    whole = report()
    samples = [
        whole.samples[0].model_copy(update={"prompt_id": str(mine), "after": [sample("Mine to see.")]}),
        whole.samples[1].model_copy(update={"prompt_id": str(theirs), "after": [sample("Not mine.")]}),
    ]
    run = finished_run(session, site.line, whole.model_copy(update={"samples": samples}))
    page = site.as_(site.researcher).get(f"/runs/{run.id}").text
    assert "Mine to see." in page
    assert "Not mine." not in page
    assert "1 prompt belongs to a campaign in which you have no part" in page
    assert "Not mine." in site.as_(make_user(session, Role.ADMIN)).get(f"/runs/{run.id}").text


def judged_prompt(session: Session, campaign: Campaign) -> int:
    """A prompt of a campaign; its id."""
    judge_pairs(session, campaign, train=1, held_out=0)
    found = session.execute(text("SELECT id FROM prompts WHERE campaign_id = :id"), {"id": campaign.id}).scalar_one()
    return int(found)


@pytest.mark.parametrize(
    ("method", "path", "who", "status"),
    [
        ("GET", "/runs/{run}", "researcher", 200),
        ("GET", "/runs/{run}", "annotator", 404),
        ("GET", "/runs/{run}", "stranger", 404),
        ("POST", "/runs/{run}/cancellation", "researcher", 303),
        ("POST", "/runs/{run}/cancellation", "stranger", 404),
        ("POST", "/runs/{run}/override", "researcher", 403),
        ("POST", "/runs/{run}/deployment", "annotator", 404),
        ("POST", "/models/{line}/runs", "annotator", 404),
        ("POST", "/models/{line}/runs", "researcher", 422),
        ("GET", "/models/{line}", "researcher", 200),
        ("GET", "/models/{line}", "stranger", 404),
        ("POST", "/models/{line}/rollback", "researcher", 403),
        ("POST", "/models/{line}/deployment", "researcher", 403),
        ("GET", "/models/new", "manager", 403),
        ("POST", "/models", "manager", 403),
    ],
)
def test_each_may_do_what_their_part_in_the_lines_campaigns_gives_them(
    *, session: Session, site: Site, method: str, path: str, who: str, status: int
) -> None:
    run = make_run(session, site.line)
    address = path.format(run=run.id, line=site.line.id)
    assert site.as_(getattr(site, who)).request(method, address).status_code == status


def test_the_list_of_runs_holds_only_lines_that_one_may_see(session: Session, site: Site) -> None:
    run = finished_run(session, site.line, report())
    page = site.as_(site.manager).get("/runs").text
    assert f"Run {run.id}" in page
    assert "0 % → 100 %" in page
    assert f"Run {run.id}" not in site.as_(site.stranger).get("/runs").text


def test_the_web_process_shows_a_run_without_its_folder(app: FastAPI, session: Session, site: Site) -> None:
    run = finished_run(session, site.line, report(), metrics=metrics(3), log="The run has succeeded.\n")
    assert not app.state.settings.runs_dir.exists()
    page = site.as_(site.manager).get(f"/runs/{run.id}").text
    assert "The run has succeeded." in page
    assert "<svg" in page


def test_a_manager_pauses_a_run_and_continues_it_and_a_researcher_does_not(session: Session, site: Site) -> None:
    run = make_run(session, site.line, state=RunState.RUNNING)
    manager, researcher = site.as_(site.manager), site.as_(site.researcher)
    assert "/pause" not in researcher.get(f"/runs/{run.id}").text
    assert researcher.post(f"/runs/{run.id}/pause").status_code == 403
    assert "/pause" in manager.get(f"/runs/{run.id}").text
    assert manager.post(f"/runs/{run.id}/pause").status_code == 303
    page = manager.get(f"/runs/{run.id}").text
    assert re.search(r'class="badge warn">\s*Paused', page)
    assert "/continuation" in page
    assert "/cancellation" in page
    assert re.search(r'class="badge warn">\s*Paused', manager.get("/runs").text)
    assert "Paused" in manager.get(f"/campaigns/{site.campaign.id}/training", headers=HTMX).text
    assert manager.post(f"/runs/{run.id}/continuation").status_code == 303
    assert "/pause" in manager.get(f"/runs/{run.id}").text
    session.refresh(run)
    assert not run.is_paused


def test_a_run_says_who_paused_it_who_let_it_go_on_and_who_called_it_off(session: Session, site: Site) -> None:
    run = make_run(session, site.line, state=RunState.RUNNING)
    manager, researcher = site.as_(site.manager), site.as_(site.researcher)
    manager.post(f"/runs/{run.id}/pause")
    assert re.search(rf"Paused: .*, {site.manager.name}<", researcher.get(f"/runs/{run.id}").text)
    manager.post(f"/runs/{run.id}/continuation")
    assert "Paused: " not in researcher.get(f"/runs/{run.id}").text
    researcher.post(f"/runs/{run.id}/cancellation")
    page = manager.get(f"/runs/{run.id}").text
    assert re.search(rf"Cancelled: .*, {site.researcher.name}<", page)
    of_deeds = re.findall(r"<dt>(Paused|Continued|Cancelled)</dt><dd>[^<]*, ([^<]*)</dd>", page)
    assert of_deeds == [
        ("Paused", site.manager.name),
        ("Continued", site.manager.name),
        ("Cancelled", site.researcher.name),
    ]


def test_an_adapter_is_shown_with_the_base_that_it_stands_on(session: Session, site: Site) -> None:
    base = current_version(session, line_id=site.line.id)
    adapter = report()
    run = finished_run(session, site.line, adapter.model_copy(update={"hashes": {"base": base.sha256}}))
    browser = site.as_(site.manager)
    assert f"an adapter on {base.name}" in browser.get(f"/runs/{run.id}").text
    assert browser.get(f"/models/{site.line.id}").text.count(f"Adapter on {base.name}") == 1
    form = browser.get(f"/models/{site.line.id}/training").text
    assert re.search(r'<select id="tuning".*?<option value="auto" selected>By the size of the model', form, re.DOTALL)
