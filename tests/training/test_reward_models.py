"""Reward models among a line's versions: made and told of in words, never serving; and what they say of later runs."""

import random

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.campaigns.models import Access
from app.campaigns.service import edit_campaign
from app.campaigns.service.sources import list_model_sources
from app.deployments.models import ModelLine, ModelVersion
from app.deployments.service import current_version, deploy_version, find_reward_model, list_writers
from app.errors import Conflict, Invalid
from app.training.carrying_out import carry_out
from app.training.gate.checks import Check, Verdict
from app.training.gate.judging import is_blocked, judge
from app.training.models import Run, RunState
from app.training.reward_models import accuracy_interval, beats_chance, told_accuracy
from app.training.service.deciding import checks_of, deploy_passed, idle_version_names, override_gate
from app.training.service.requesting import readiness, request_run, start_choices
from tests.campaigns.test_editing import plan_of
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.deployments import make_line
from tests.factories.training import finished_run, judge_pairs
from tests.training.conftest import QUICK, Shop
from tests.training.reports import report, sample
from tests.training.test_pages import metrics
from trainer.contract.files import read_json
from trainer.contract.report import HeldOutReward, HeldOutRewards, Report, RewardModelResults
from trainer.contract.run import REQUEST_FILE, Budget, Method, RunRequest

RewardsOf = list[tuple[float, float]]
"""Of each held-out pair, every one of a prompt of its own: the reward of the chosen completion, and of the other."""


def held_out(rewards: RewardsOf) -> HeldOutRewards:
    """Held-out pairs under a reward model."""
    pairs = [
        HeldOutReward(
            prompt_id=f"prompt-{place}", chosen_id=f"{place}-a", rejected_id=f"{place}-b", weight=1.0,
            chosen_reward=chosen, rejected_reward=rejected,
        )
        for place, (chosen, rejected) in enumerate(rewards)
    ]  # fmt: skip
    right = [0.5 if chosen == rejected else float(chosen > rejected) for chosen, rejected in rewards]
    return HeldOutRewards(pairs=pairs, prompts=len(pairs), accuracy=sum(right) / len(right) if right else None)


def results(rewards: RewardsOf) -> RewardModelResults:
    """A run that began with a fresh head."""
    return RewardModelResults(before=held_out([(0.0, 0.0)] * len(rewards)), after=held_out(rewards))


GOOD = results([(1.0, -1.0)] * 18 + [(-1.0, 1.0)] * 2)


def reward_run(session: Session, line: ModelLine, found: RewardModelResults = GOOD, **given: object) -> Run:
    """A run that has made a reward model."""
    told = report().model_copy(
        update={"before": None, "after": None, "samples": [], "probes": [], "reward_model": found}
    )
    return finished_run(session, line, told, method=Method.REWARD_MODEL.value, **given)


def made_by(run: Run) -> ModelVersion:
    """The version that it made."""
    assert run.model_version is not None
    return run.model_version


# --- A version that never serves


def test_a_reward_model_is_kept_as_a_version_and_not_deployed(session: Session) -> None:
    line = make_line(session, slug="tiny")
    run = reward_run(session, line)
    version = made_by(run)
    assert (run.state, version.name, version.is_reward_model) == (RunState.SUCCEEDED, "tiny-v1", True)
    assert (run.message, checks_of(run)) == ("The reward model is ready.", [])
    assert version.parent_id == run.start_version_id
    assert current_version(session, line_id=line.id).number == 0
    assert find_reward_model(session, line_id=line.id) == version
    newer = made_by(reward_run(session, line))
    assert find_reward_model(session, line_id=line.id) == newer
    for unproven in (results([(1.0, -1.0)] * 10 + [(-1.0, 1.0)] * 10), results([(1.0, -1.0)] * 4), results([])):
        later = made_by(reward_run(session, line, unproven))
        assert (later.is_reward_model, later.beats_chance) == (True, False)
        assert find_reward_model(session, line_id=line.id) == newer, "nothing says that the later one knows better"
    assert [each.number for each in list_writers(session, line_id=line.id)] == [0]


def test_a_reward_model_cannot_serve_by_any_way(session: Session) -> None:
    line, person = make_line(session), make_user(session)
    run = reward_run(session, line)
    version = made_by(run)
    for attempt in (
        lambda: deploy_version(session, version=version, reason="", by_id=None, now=NOW),
        lambda: deploy_passed(session, version=version, by_id=None, now=NOW),
        lambda: override_gate(session, run=run, by_id=person.id, reason="It is very good indeed.", now=NOW),
    ):
        with pytest.raises(Conflict):
            attempt()
    assert current_version(session, line_id=line.id).number == 0
    assert [value for value, _version in start_choices(session, line=line)] == ["base"]
    assert version.name in idle_version_names(session, line_id=line.id), "whoever loads it by hand may unload it"


def test_no_campaign_draws_completions_from_a_reward_model(session: Session) -> None:
    campaign = make_campaign(session)
    assert campaign.line is not None
    version = made_by(reward_run(session, campaign.line))
    sources = list_model_sources(session)
    assert sources
    assert version.name not in {source.serves for source in sources}
    assert version.id not in {source.version_id for source in sources}
    plan = plan_of(campaign)
    pinned = type(plan)(**{**plan.__dict__, "alias": None, "pinned_version_id": version.id})
    with pytest.raises(Invalid, match="is a reward model, which writes nothing"):
        edit_campaign(session, campaign=campaign, plan=pinned, by_id=None, now=NOW)


def test_nobody_talks_to_a_reward_model_or_compares_it_with_those_that_write(
    session: Session, signed_in: SignedIn
) -> None:
    line = make_line(session, slug="tiny")
    ordinary, rewarding = finished_run(session, line, report()), reward_run(session, line)
    admin = make_user(session, Role.ADMIN)
    browser = signed_in(admin)
    version = made_by(rewarding)
    assert version.name not in browser.get("/try").text
    assert "tiny-v1" in browser.get("/try").text
    answer = browser.post(f"/try/{version.id}/reply", data={"prompt": "Why?"})
    assert answer.status_code == 409
    assert "is a reward model" in answer.text
    page = browser.get(f"/models/{line.id}/comparison?run={ordinary.id}&run={rewarding.id}&version={version.id}").text
    assert "Tick at least one more" in page
    assert version.name not in page


def test_what_a_reward_model_saw_says_nothing_of_when_the_line_was_last_trained(session: Session) -> None:
    campaign = make_campaign(session)
    assert campaign.line is not None
    judge_pairs(session, campaign)
    reward_run(session, campaign.line)
    ready = readiness(session, line=campaign.line)
    assert (ready.last, ready.new_judgments) == (None, 16)


# --- Pages


def test_a_reward_model_is_trained_from_the_form(session: Session, signed_in: SignedIn) -> None:
    campaign = make_campaign(session)
    assert campaign.line is not None
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, access=Access.MANAGE)
    judge_pairs(session, campaign)
    browser = signed_in(manager)
    form = browser.get(f"/models/{campaign.line.id}/training").text
    assert '<option value="reward_model"' in form
    assert "learns to tell which completions people prefer" in form
    wanted = {"method": "reward_model", "reward_centring": "0.01"}
    answer = browser.post(f"/models/{campaign.line.id}/runs", data=wanted)
    assert answer.status_code == 303
    run = session.get_one(Run, int(answer.headers["location"].rpartition("/")[2]))
    assert (run.method, run.hyperparameters["reward_centring"]) == ("reward_model", 0.01)


def test_its_pages_say_what_it_is_and_offer_nothing_that_does_not_apply(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session, slug="tiny")
    run = reward_run(session, line, metrics=metrics(3))
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/runs/{run.id}").text
    assert "tiny-v1 is a reward model." in page
    assert "in 90 % of 20 held-out pairs of 20 prompts; before training it was 50 %, which is chance." in page
    assert "better than chance" in page
    assert "From now on the report of every run" in page
    assert "not asked" not in page
    assert "no independent judge" in page
    for absent in ("Passed the gate", f"/runs/{run.id}/deployment", 'id="gate"', "Before and after", ">Drift<"):
        assert absent not in page
    assert page.count("<svg") == 2 + 1, "loss and held-out accuracy, and the logo"
    of_line = browser.get(f"/models/{line.id}").text
    assert "Reward model" in of_line
    assert f'name="version_id" value="{made_by(run).id}"' not in of_line
    assert f"left={made_by(run).id}" not in of_line
    assert "50 % → 90 %" in browser.get("/runs").text
    for address, data in (
        (f"/runs/{run.id}/deployment", {}),
        (f"/models/{line.id}/deployment", {"version_id": str(made_by(run).id)}),
    ):
        answer = browser.post(address, data=data)
        assert answer.status_code == 409
        assert "is a reward model" in answer.text
    assert current_version(session, line_id=line.id).number == 0


def test_its_pages_say_that_one_of_which_nothing_is_known_is_not_asked(session: Session, signed_in: SignedIn) -> None:
    line = make_line(session, slug="tiny")
    run = reward_run(session, line, results([(1.0, -1.0)] * 11 + [(-1.0, 1.0)] * 9))
    browser = signed_in(make_user(session, Role.ADMIN))
    page = browser.get(f"/runs/{run.id}").text
    assert "It is not asked about anything" in page
    assert "From now on the report of every run" not in page
    assert "never serves, not asked" in browser.get(f"/models/{line.id}").text


# --- How well it orders held-out pairs, in words


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ([(1.0, 0.0)] * 18 + [(0.0, 1.0)] * 2, "better than chance"),
        ([(1.0, 0.0)] * 2 + [(0.0, 1.0)] * 18, "worse than chance"),
        ([(1.0, 0.0)] * 10 + [(0.0, 1.0)] * 9, "nothing yet says that it is better than chance"),
        ([(1.0, 0.0)] * 20, "between 83 % and 100 %"),  # 0.025 to the power of 1/20
        ([(1.0, 0.0)] * 5, "too few prompts to say how sure"),
        ([], "No judged pair was held out"),
    ],
)
def test_its_accuracy_is_told_with_how_sure_it_is(rewards: RewardsOf, said: str) -> None:
    assert said in " ".join(told_accuracy(results(rewards)))


def test_judgments_of_one_prompt_are_one_observation() -> None:
    one_prompt = [pair.model_copy(update={"prompt_id": "same"}) for pair in held_out([(1.0, 0.0)] * 30).pairs]
    assert accuracy_interval(one_prompt).low is None
    weighted = [
        pair.model_copy(update={"weight": weight}) for pair, weight in zip(one_prompt[:2], (3.0, 1.0), strict=True)
    ]
    wrong = weighted[1].model_copy(update={"chosen_reward": -1.0})
    assert accuracy_interval([weighted[0], wrong]).mean == 0.75


# --- The gate of later runs


def rewarded_check(before: list[float | None], after: list[float | None]) -> Check | None:
    """The check of a run whose samples, one per prompt, got these rewards."""
    found = judge(
        report(
            samples_before=[sample(drift=0.0, reward=each) for each in before],
            samples_after=[sample(reward=each) for each in after],
        )
    )
    assert not is_blocked(found)
    return next((check for check in found if check.name == "sample_rewards"), None)


def test_rewards_of_fresh_samples_are_judged_both_ways_and_never_block() -> None:
    rng = random.Random(1)
    low = [rng.gauss(0.0, 1.0) for _ in range(24)]
    high = [each + 1.0 + rng.gauss(0.0, 0.5) for each in low]
    better, worse = rewarded_check([*low], [*high]), rewarded_check([*high], [*low])
    assert better is not None
    assert worse is not None
    assert (better.verdict, better.warns, better.blocks) == (Verdict.BETTER, False, False)
    assert (worse.verdict, worse.warns, worse.blocks) == (Verdict.WORSE, True, False)
    assert better.effective == 24
    assert better.after is not None
    assert better.before is not None
    assert better.after - better.before == pytest.approx(sum(high) / 24 - sum(low) / 24)
    assert better.figures["low"] > 0
    assert "no independent judge" in better.message


def test_rewards_that_rose_on_some_prompts_and_fell_on_others_are_not_enough() -> None:
    found = rewarded_check([0.0] * 24, [1.0, -1.0] * 12)
    assert found is not None
    assert (found.verdict, found.warns) == (Verdict.UNCLEAR, False)
    few = rewarded_check([0.0] * 5, [9.0] * 5)
    assert few is not None
    assert few.verdict is Verdict.UNCLEAR, "five prompts say nothing, however much they rose"


def test_samples_without_a_reward_are_left_out_and_without_any_there_is_no_check() -> None:
    found = rewarded_check([0.0, None] * 8, [1.0] * 16)
    assert found is not None
    assert found.effective == 8
    assert rewarded_check([None] * 12, [None] * 12) is None


# --- By the worker and the real trainer


@pytest.mark.slow
def test_a_reward_model_is_trained_by_the_worker_and_asked_by_the_next_run(shop: Shop) -> None:
    budget = Budget(threads=1, checkpoint_every_steps=5, evaluate_every_steps=10)
    with shop.session() as session:
        line = session.get_one(ModelLine, shop.line_id)
        asked = request_run(
            session, line=line, person=None, now=NOW, method=Method.REWARD_MODEL, hyperparameters=QUICK, budget=budget
        ).id
    carry_out(shop.place, run_id=asked, poll_seconds=0.2)
    run = shop.run(asked)
    assert run.state is RunState.SUCCEEDED, run.message
    found = Report.model_validate(run.report).reward_model
    assert found is not None
    assert found.after is not None
    assert len(found.after.pairs) == 8
    version = made_by(run)
    assert (version.is_reward_model, version.beats_chance) == (True, beats_chance(found))
    with shop.session() as session:  # a tiny model, hardly trained: nothing to rely on
        session.get_one(ModelVersion, version.id).beats_chance = True
    later = shop.ask(QUICK)
    carry_out(shop.place, run_id=later, poll_seconds=0.2)
    request = read_json(shop.folder(later) / REQUEST_FILE, RunRequest)
    assert request.reward_model is not None
    assert (request.reward_model.path, request.reward_model.sha256) == (version.path, version.sha256)
    assert read_json(shop.folder(asked) / REQUEST_FILE, RunRequest).reward_model is None
    after = shop.run(later)
    assert after.state is RunState.SUCCEEDED, after.message
    assert "sample_rewards" in {check.name for check in checks_of(after)}
    assert Report.model_validate(after.report).hashes["reward_model"] == version.sha256
