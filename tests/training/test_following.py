"""What the worker keeps of a run for its page: where it is, samples, warnings. The real trainer runs."""

from sqlalchemy import select

from app.training.carrying_out import carry_out
from app.training.models import Run, RunState
from app.training.run_folder import read_starts
from app.training.warning_signs import Warned
from app.training.watched import evaluations_of
from tests.training.conftest import Shop
from trainer.contract.run import LOG_FILE, Hyperparameters, MetricsRow, Stage

WILD = Hyperparameters(epochs=10, learning_rate=0.05, drift_weight=0, likelihood_weight=0)
"""What breaks any model."""


def test_a_run_keeps_where_it_is_and_what_was_sampled(shop: Shop) -> None:
    run_id = shop.ask(Hyperparameters(epochs=5, learning_rate=1e-6))
    carry_out(shop.place, run_id=run_id, poll_seconds=0.1)
    with shop.session() as session:
        run = session.scalars(select(Run).where(Run.id == run_id)).one()
        assert run.state is RunState.SUCCEEDED, run.message
        latest = MetricsRow.model_validate(run.latest)
        assert (latest.stage, latest.fraction) == (Stage.WRITING, 1)
        samples = evaluations_of(run.samples)
        assert [evaluation.step for evaluation in samples][:2] == [0, 10]
        assert samples[-1].step == 15
        assert all(len(evaluation.prompts) == 6 for evaluation in samples)
        assert [row["step"] for row in run.metrics if "sample_kl" in row] == [each.step for each in samples]
        # What a random model writes hangs on the last bits of its weights, but it has not moved.
        assert {"far", "no_progress", "by_heart", "chosen_falls"}.isdisjoint(each["name"] for each in run.warnings)


def test_a_run_that_goes_wrong_keeps_its_warnings_and_its_log_tells_each_once(shop: Shop) -> None:
    run_id = shop.ask(WILD)
    carry_out(shop.place, run_id=run_id, poll_seconds=0.1)
    run = shop.run(run_id)
    warned = {each.name: each for each in map(Warned.model_validate, run.warnings)}
    assert warned["far"].first_step == 10
    log = (shop.folder(run_id) / LOG_FILE).read_text()
    assert log.count("WARNING It has moved far from the model that it is compared with") == 1
    assert "WARNING It has moved far" in run.log
    assert log.count("WARNING") == len(warned)
    assert read_starts(shop.folder(run_id)).in_vain == 0
