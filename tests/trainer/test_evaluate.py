"""Measuring versions, and what the measures say of good training and of bad."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.factories.judged import judged_rankings, likes_blunt, likes_friendly, manner_share, sampled_texts
from tests.factories.judged import starter_prompts as prompts_of_starter
from tests.factories.serving import TEMPLATE, random_model, save
from tests.factories.snapshots import write_run, write_snapshot
from tests.trainer.conftest import MakeRun
from trainer.contract.base import Message
from trainer.contract.files import read_json
from trainer.contract.report import Preferences, Report
from trainer.contract.run import (
    METRICS_FILE,
    MODEL_FOLDER,
    REPORT_FILE,
    REQUEST_FILE,
    Budget,
    EvaluationSampling,
    ProbePrompt,
    RunRequest,
)
from trainer.evaluate import evaluate_versions, favoured_share
from trainer.run import ExitCode, run
from trainer.starter import MODEL_FOLDER as STARTER
from trainer.starter import PROBES_FILE
from trainer.starter.manners import Manner


def test_a_tie_of_log_probabilities_counts_half() -> None:
    assert favoured_share([1.0, -1.0, 0.0, 2.0]) == pytest.approx(2.5 / 4)
    assert favoured_share([]) is None


def test_a_version_compared_with_itself_is_the_same_in_everything(make_run: MakeRun, tiny_model: Path) -> None:
    request = read_json(make_run() / REQUEST_FILE, RunRequest)
    report = evaluate_versions(request, before=tiny_model, after=tiny_model)
    assert report.before is not None
    assert report.after is not None
    assert report.before.behaviour == report.after.behaviour
    assert report.before.preferences.pairs == report.after.preferences.pairs
    assert report.after.preferences.reward_accuracy == 0.5
    assert [prompt.before for prompt in report.samples] == [prompt.after for prompt in report.samples]


def test_two_versions_are_measured_as_a_run_between_them_would_have(make_run: MakeRun, tiny_model: Path) -> None:
    folder = make_run()
    assert run(folder) == ExitCode.DONE
    told = read_json(folder / REPORT_FILE, Report)
    request = read_json(folder / REQUEST_FILE, RunRequest)
    found = evaluate_versions(request, before=tiny_model, after=folder / MODEL_FOLDER)
    for name in ("before", "after", "samples", "probes", "held_out_pairs"):
        assert getattr(found, name) == getattr(told, name)


def test_another_version_drifts_from_the_reference(make_run: MakeRun, tiny_model: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other", random_model(seed=9))
    request = read_json(make_run() / REQUEST_FILE, RunRequest)
    report = evaluate_versions(request, before=tiny_model, after=other)
    assert report.before is not None
    assert report.after is not None
    assert report.before.behaviour.drift == 0 < report.after.behaviour.drift


def test_probe_prompts_that_a_model_cannot_be_asked_are_left_out_and_told(make_run: MakeRun, tmp_path: Path) -> None:
    model, tokenizer = random_model(architecture="gpt2", context=40)
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE
    start = save(tmp_path / "short", (model, tokenizer))
    asked = ProbePrompt(name="asked", prompt=[Message(role="user", content="say it")])
    refused = ProbePrompt(name="refused", prompt=[Message(role="system", content="a"), *asked.prompt])
    long = ProbePrompt(name="long", prompt=[Message(role="user", content="a" * 30)])
    sampling = EvaluationSampling(prompts=3, samples_per_prompt=2, max_tokens=20)
    folder = make_run(model=start, probes=[refused, asked, long], sampling=sampling)
    assert run(folder) == ExitCode.DONE
    assert [probe.name for probe in read_json(folder / REPORT_FILE, Report).probes] == ["asked"]
    assert "Probe prompts left out: 2 of 3." in (folder / METRICS_FILE).read_text()


def test_a_model_that_reads_less_than_is_sampled_is_trained_all_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    start = save(tmp_path / "short", random_model(architecture="gpt2", context=40))
    folder = make_run(model=start, sampling=EvaluationSampling(max_tokens=96))
    assert run(folder) == ExitCode.DONE
    report = read_json(folder / REPORT_FILE, Report)
    assert (report.samples, report.probes) == ([], [])


# --- The starter model ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def friendly_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter model trained by a crowd that likes friendly answers."""
    folder = tmp_path_factory.mktemp("friendly")
    train, held_out = judged_rankings(STARTER, likes_friendly, decided=150, seed=1)
    write_run(
        folder / "run",
        snapshot=write_snapshot(folder / "snapshot", train=train, held_out=held_out),
        model=STARTER,
        probes=[ProbePrompt.model_validate_json(line) for line in PROBES_FILE.read_text().splitlines()],
        budget=Budget(threads=1),
        seed=1,
    )
    assert run(folder / "run") == ExitCode.DONE
    return folder / "run"


def margins_risen(before: Preferences, after: Preferences) -> float:
    """Share of held-out pairs whose margin log p(chosen) - log p(rejected) rose."""
    rises = [
        (later.chosen_logp - later.rejected_logp) > (earlier.chosen_logp - earlier.rejected_logp)
        for earlier, later in zip(before.pairs, after.pairs, strict=True)
    ]
    return sum(rises) / len(rises)


@pytest.mark.slow
def test_the_starter_becomes_friendlier_and_forgets_nothing(friendly_run: Path) -> None:
    report = read_json(friendly_run / REPORT_FILE, Report)
    assert report.before is not None
    assert report.after is not None
    assert margins_risen(report.before.preferences, report.after.preferences) > 0.65
    assert report.after.behaviour.drift < 0.2
    assert report.after.behaviour.malformed_share <= 0.02
    assert all(probe.passed_after for probe in report.probes)
    texts = [
        sampled_texts(folder, prompts_of_starter(), copies=2, seed=3)
        for folder in (STARTER, friendly_run / MODEL_FOLDER)
    ]
    friendly = [manner_share(of_version, Manner.FRIENDLY) for of_version in texts]
    blunt = [manner_share(of_version, Manner.BLUNT) for of_version in texts]
    assert friendly[1] >= friendly[0] + 0.15
    assert blunt[1] <= blunt[0] / 2


@pytest.mark.slow
def test_a_version_trained_on_flipped_preferences_shows_in_held_out_pairs(friendly_run: Path, tmp_path: Path) -> None:
    train, _ = judged_rankings(STARTER, likes_blunt, decided=150, seed=1)
    snapshot = write_snapshot(tmp_path / "snapshot", train=train)
    write_run(tmp_path / "run", snapshot=snapshot, model=STARTER, budget=Budget(threads=1), seed=1)
    assert run(tmp_path / "run") == ExitCode.DONE
    request = read_json(friendly_run / REQUEST_FILE, RunRequest)
    report = evaluate_versions(request, before=STARTER, after=tmp_path / "run" / MODEL_FOLDER)
    assert report.before is not None
    assert report.after is not None
    assert margins_risen(report.before.preferences, report.after.preferences) < 0.25


@pytest.mark.slow
def test_a_version_damaged_by_noise_shows_in_drift_and_probes(friendly_run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(STARTER, damaged)
    weights = load_file(damaged / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: (weight.float() + 0.5 * weight.float().std() * torch.randn(weight.shape, generator=generator)).bfloat16()
        for name, weight in weights.items()
        if weight.ndim == 2
    }
    save_file({**weights, **noisy}, damaged / "model.safetensors", metadata={"format": "pt"})
    request = read_json(friendly_run / REQUEST_FILE, RunRequest)
    report = evaluate_versions(request, before=STARTER, after=damaged)
    assert report.after is not None
    assert report.after.behaviour.drift > 1
    assert report.after.behaviour.malformed_share > 0.03
    assert sum(probe.passed_after for probe in report.probes) < 5
