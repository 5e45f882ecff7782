"""Reward models: rewards and gradients against transformers, the loss against TRL, and whole runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tests.factories.serving import random_model, save
from tests.factories.snapshots import model_ref, ranking_row, write_snapshot
from tests.trainer.conftest import QUICK, MakeRun, interrupt_at, vowel_rows
from tests.trainer.test_run import metrics_of, numbers_of, report_of
from trainer import memory
from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.contract.files import weights_sha256
from trainer.contract.report import HeldOutRewards, Outcome
from trainer.contract.run import MODEL_FOLDER, REPORT_FILE, Budget, Hyperparameters, Method, Stage
from trainer.errors import ModelError
from trainer.groups import Group, preference_pairs
from trainer.memory import Limits
from trainer.models import is_reward_model, load_model
from trainer.objectives.rankings import plackett_luce_loss
from trainer.preferences import Objective, Said, group_loss
from trainer.rankings import Verdict
from trainer.reward.model import load_reward_model, padding_token_id
from trainer.reward.results import held_out_rewards
from trainer.reward.scoring import NoReference, RewardScorer, fitting_reward_scorer
from trainer.reward.training import as_reward_settings
from trainer.run import ExitCode, run
from trainer.step import part_losses, training_step

PAIRS = [
    ("How are you?", "Fine, thank you!", "No."),
    ("Name a fruit", "Apple", "A pear, I would say"),
    ("x", "y", "z"),
]
REWARDING: dict[str, Any] = {
    "method": Method.REWARD_MODEL,
    "hyperparameters": Hyperparameters(epochs=12, learning_rate=1e-3),
}


def reward_model(
    folder: Path, *, architecture: str = "llama", head: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random body with a head; a fresh one gives zeros, so it is drawn unless that is what is wanted."""
    save(folder, random_model(architecture=architecture, seed=1))
    model, tokenizer = load_reward_model(folder)
    if head:
        torch.nn.init.normal_(model.get_submodule("score").weight, generator=torch.Generator().manual_seed(5))
    return model, tokenizer


def groups_of(tokenizer: PreTrainedTokenizerBase, *, strength: int = 0) -> list[Group]:
    """PAIRS as groups, the chosen one better by that many levels more than barely."""
    found = []
    for prompt, chosen, rejected in PAIRS:
        texts = [tuple(completion_token_ids(tokenizer, text)) for text in (chosen, rejected)]
        tokens = tuple(prompt_token_ids(tokenizer, [Message(role="user", content=prompt)]))
        verdict = Verdict((1, 2), (strength, 0), 1.0)
        found.append(Group("p", tokens, ("c", "r"), tuple(texts), (verdict,)))
    return found


def one_by_one(model: PreTrainedModel, groups: list[Group]) -> Tensor:
    """What transformers says of each completion, read alone."""
    sequences = [sequence for group in groups for sequence in group.tree.sequences]
    rows = [torch.tensor([[*each.prompt, *each.completion]]) for each in sequences]
    return torch.cat([model(input_ids=row).logits[:, 0] for row in rows])


def objective(**settings: Any) -> Objective:
    """What a run with these settings minimises."""
    return Objective(Method.REWARD_MODEL, as_reward_settings(Hyperparameters(**settings)))


@pytest.mark.parametrize(
    ("architecture", "in_trees"),
    [("llama", True), ("qwen3", True), ("gpt2", True), ("mistral", False), ("gemma2", False)],
)
def test_rewards_and_gradients_are_those_of_transformers(architecture: str, in_trees: bool, tmp_path: Path) -> None:
    model, tokenizer = reward_model(tmp_path / "m", architecture=architecture)
    groups = groups_of(tokenizer)
    trees = [group.tree for group in groups]
    scorer = fitting_reward_scorer(model)
    assert scorer.in_trees is in_trees
    found, expected = scorer.score(trees).logps, one_by_one(model, groups)
    padded = RewardScorer(model, in_trees=False).score(trees).logps
    assert expected.std() > 0.1
    for rewards in (found, padded):
        torch.testing.assert_close(rewards.float(), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    weights = torch.linspace(-1, 1, len(expected))
    gradients = []
    for rewards in (found, expected):
        model.zero_grad()
        (weights * rewards).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    scale = float(gradients[1].abs().max())
    torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, rtol=1e-5, atol=1e-5)


def test_a_model_whose_short_cut_lies_is_read_padded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = reward_model(tmp_path / "m", head=False)
    real = RewardScorer.at_ends

    def lying(self: RewardScorer, trees: Any) -> Tensor:
        return real(self, trees) + (0.1 if self.in_trees else 0.0)

    monkeypatch.setattr(RewardScorer, "at_ends", lying)
    assert fitting_reward_scorer(model).in_trees is False


@pytest.fixture(scope="module")
def trl_reward(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's RewardTrainer on the same weights and pairs, each with a margin of 0.7."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    model, tokenizer = reward_model(tmp_path_factory.mktemp("trl") / "m")
    rows = []
    for group in groups_of(tokenizer):
        chosen, rejected = ([*group.prompt, *completion] for completion in group.completions)
        rows.append({"chosen_ids": chosen, "rejected_ids": rejected, "margin": 0.7})
    config = RewardConfig(
        output_dir=str(tmp_path_factory.mktemp("out")), use_cpu=True, report_to="none", bf16=False, max_length=128,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = RewardTrainer(model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    model.eval()
    return trainer


@pytest.mark.parametrize("margin", [0.0, 0.7])
@pytest.mark.parametrize("centring", [0.0, 0.3])
def test_the_loss_is_that_of_trl_on_the_same_pairs(trl_reward: Any, margin: float, centring: float) -> None:
    rows = [dict(trl_reward.train_dataset[index]) for index in range(len(PAIRS))]
    if not margin:
        rows = [{name: value for name, value in row.items() if name != "margin"} for row in rows]
    trl_reward.args.center_rewards_coefficient = centring or None
    batch = trl_reward.data_collator(rows)
    expected = float(trl_reward.compute_loss(trl_reward.model, batch))
    scorer = fitting_reward_scorer(trl_reward.model)
    groups = groups_of(trl_reward.processing_class, strength=1)
    settings = objective(strength_margin=margin, reward_centring=centring)
    losses = part_losses(scorer, groups, NoReference(scorer), settings)
    assert float(losses.preference) / len(PAIRS) == pytest.approx(expected, rel=1e-5)
    assert float(losses.drift) == 0


def test_a_ranking_counts_as_it_is_ties_included() -> None:
    rewards = torch.tensor([0.3, -0.2, 0.9, 0.1], dtype=torch.float64)
    verdicts = (Verdict((2, 1, 2, 3), (0,) * 4, 0.5), Verdict((4, 3, 2, 1), (0,) * 4, 1.0))
    group = Group("p", (10,), ("a", "b", "c", "d"), ((20, 1), (30, 31, 1), (40, 1), (50, 1)), verdicts)
    said = Said(rewards, rewards, torch.tensor([2, 3, 2, 2]))
    by_hand = 0.5 * plackett_luce_loss(rewards, (2, 1, 2, 3)) + plackett_luce_loss(rewards, (4, 3, 2, 1))
    assert float(group_loss(said, group, objective())) == pytest.approx(float(by_hand))
    centred = sum(pair.weight * float(rewards[pair.chosen] + rewards[pair.rejected]) ** 2 for pair in group.pairs)
    assert float(group_loss(said, group, objective(reward_centring=0.1))) == pytest.approx(
        float(by_hand) + 0.1 * centred
    )


def test_layers_of_a_reward_model_recompute_too_for_the_same_gradients(tmp_path: Path) -> None:
    model, tokenizer = reward_model(tmp_path / "m")
    trees = [group.tree for group in groups_of(tokenizer)]
    scorer = fitting_reward_scorer(model)
    gradients, kept = [], []
    for recompute in (False, True):
        scorer.limits = Limits(recompute=recompute)
        kept.append(memory._kept_bytes(scorer, trees[0]))
        model.zero_grad()
        scorer.score(trees).logps.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.equal(*gradients)
    assert kept[1] < kept[0] / 3


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_rewards_in_bfloat16_are_within_its_rounding(architecture: str, tmp_path: Path) -> None:
    model, tokenizer = reward_model(tmp_path / "m", architecture=architecture)
    trees = [group.tree for group in groups_of(tokenizer)]
    plain = fitting_reward_scorer(model).score(trees).logps
    scorer = fitting_reward_scorer(model, autocast=torch.bfloat16)
    for recompute in (False, True):
        scorer.limits = Limits(recompute=recompute)
        found = scorer.score(trees).logps
        assert scorer.in_trees
        assert 0 < float((found - plain).abs().max()) < 0.05 * float(plain.abs().max())
        found.sum().backward()


def test_a_batch_in_parts_has_the_gradient_of_the_whole(tmp_path: Path) -> None:
    model, tokenizer = reward_model(tmp_path / "m")
    groups = groups_of(tokenizer)
    scorer = fitting_reward_scorer(model.double())
    gradients = []
    for limit in (10**6, 20):
        scorer.limits = Limits(tokens=limit)
        optimizer = torch.optim.SGD(model.parameters())
        training_step(
            scorer, optimizer, groups, NoReference(scorer), objective(max_grad_norm=1e9), rate=0.0, mean_weight=1.0
        )
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert len(list(scorer.in_parts([group.tree for group in groups]))) > 1
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-7, atol=1e-10)


def test_a_fresh_head_knows_nothing(tmp_path: Path) -> None:
    model, tokenizer = reward_model(tmp_path / "m", head=False)
    found = held_out_rewards(fitting_reward_scorer(model), preference_pairs(groups_of(tokenizer)))
    assert found.accuracy == 0.5
    assert {pair.chosen_reward for pair in found.pairs} == {0.0}


def test_padding_is_never_what_ends_a_completion(tmp_path: Path) -> None:
    model, tokenizer = random_model()
    assert padding_token_id(tokenizer, model) == tokenizer.pad_token_id
    tokenizer.pad_token = tokenizer.eos_token
    found = padding_token_id(tokenizer, model)
    assert found in tokenizer.all_special_ids
    assert found != tokenizer.eos_token_id


# --- Whole runs


def held_out(folder: Path) -> tuple[HeldOutRewards, HeldOutRewards]:
    """Held-out pairs before and after."""
    results = report_of(folder).reward_model
    assert results is not None
    assert results.before is not None
    assert results.after is not None
    return results.before, results.after


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_run_learns_what_people_prefer_of_prompts_that_it_has_not_seen(
    make_run: MakeRun, tmp_path: Path, architecture: str
) -> None:
    start = save(tmp_path / "start", random_model(architecture=architecture))
    folder = make_run(model=start, **REWARDING)
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    before, after = held_out(folder)
    assert (report.state, report.before, report.after, report.samples) == (Outcome.SUCCEEDED, None, None, [])
    assert (report.train_pairs, report.held_out_pairs, len(after.pairs), after.prompts) == (40, 16, 16, 16)
    assert before.accuracy == 0.5
    assert after.accuracy is not None
    assert after.accuracy >= 0.9
    assert report.hashes["model"] == weights_sha256(folder / MODEL_FOLDER)


def test_metrics_say_only_what_a_reward_model_has(make_run: MakeRun) -> None:
    folder = make_run(**REWARDING)
    run(folder)
    rows = metrics_of(folder)
    steps = [row for row in rows if row.loss is not None]
    assert steps[0].preference_loss == pytest.approx(0.6931, abs=1e-3)
    assert steps[-1].preference_loss is not None
    assert steps[-1].preference_loss < 0.5
    assert {row.stage for row in rows} == set(Stage) - {Stage.REFERENCE}
    for row in rows:
        assert (row.chosen_logp, row.drift, row.likelihood_loss, row.held_out_chosen_fall) == (None,) * 4
        assert (row.held_out_chosen_logp, row.held_out_rejected_logp) == (None, None), "rewards are none"
    assert steps[-1].held_out_accuracy is not None
    fractions = [row.fraction for row in rows]
    assert fractions == sorted(fractions)


def test_transformers_loads_what_was_written_and_gives_the_same_rewards(make_run: MakeRun, tmp_path: Path) -> None:
    model, tokenizer = random_model()
    tokenizer.pad_token = tokenizer.eos_token  # what many models do
    model.config.pad_token_id = tokenizer.eos_token_id
    folder = make_run(model=save(tmp_path / "start", (model, tokenizer)), **REWARDING)
    assert run(folder) == ExitCode.DONE
    there = folder / MODEL_FOLDER
    assert json.loads((there / "config.json").read_bytes())["architectures"] == ["LlamaForSequenceClassification"]
    loaded = AutoModelForSequenceClassification.from_pretrained(there)
    reads = AutoTokenizer.from_pretrained(there)
    assert loaded.config.num_labels == 1
    assert loaded.config.pad_token_id == reads.pad_token_id != tokenizer.eos_token_id
    rows = vowel_rows(16, seed=2)
    texts = [row["completions"][side][0]["content"] for row in rows for side in (0, 1)]
    ids = [
        prompt_token_ids(reads, [Message(role="user", content=row["prompt"][0]["content"])])
        + completion_token_ids(reads, text)
        for row, text in zip((row for row in rows for _ in (0, 1)), texts, strict=True)
    ]
    batch = reads.pad({"input_ids": ids}, return_tensors="pt", padding_side="right")
    with torch.no_grad():
        rewards = loaded(**batch).logits[:, 0]
        alone = torch.stack([loaded(input_ids=torch.tensor([each])).logits[0, 0] for each in ids])
    expected = [reward for pair in held_out(folder)[1].pairs for reward in (pair.chosen_reward, pair.rejected_reward)]
    torch.testing.assert_close(rewards, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_a_reward_model_is_taken_for_no_language_model(make_run: MakeRun, tiny_model: Path) -> None:
    folder = make_run(**REWARDING)
    run(folder)
    assert is_reward_model(folder / MODEL_FOLDER)
    assert not is_reward_model(tiny_model)
    with pytest.raises(ModelError, match="writes no text"):
        load_model(folder / MODEL_FOLDER)
    another = make_run("another", start=model_ref(folder / MODEL_FOLDER))
    assert run(another) == ExitCode.FAILED
    assert "writes no text" in report_of(another).message


def test_rankings_of_four_with_ties_train_a_reward_model(make_run: MakeRun, tmp_path: Path) -> None:
    def rows(count: int, *, seed: int) -> list[Any]:
        found = []
        for row in vowel_rows(2 * count, seed=seed)[::2]:
            other = vowel_rows(2 * count, seed=seed + 10)[len(found)]
            texts = [each["completions"][side][0]["content"] for each in (row, other) for side in (0, 1)]
            found.append(
                {**ranking_row(row["prompt"][0]["content"], texts, ranks=[1, 2, 1, 2]), "prompt_id": row["prompt_id"]}
            )
        return found

    snapshot = write_snapshot(tmp_path / "rankings", train=rows(20, seed=1), held_out=rows(8, seed=2))
    folder = make_run(snapshot=snapshot, **REWARDING)
    assert run(folder) == ExitCode.DONE
    accuracy = held_out(folder)[1].accuracy
    assert accuracy is not None
    assert accuracy > 0.85


@pytest.mark.parametrize("rows_until_interrupted", [4, 12, 40, 63])
def test_a_run_interrupted_anywhere_ends_with_the_same_numbers(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, rows_until_interrupted: int
) -> None:
    unbroken, folder = make_run("unbroken", **REWARDING), make_run("broken", **REWARDING)
    assert run(unbroken) == ExitCode.DONE
    interrupt_at(monkeypatch, rows_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert not (folder / REPORT_FILE).exists()
    monkeypatch.setattr(memory, "bytes_left", lambda device: 0)
    assert run(folder) == ExitCode.DONE
    assert report_of(folder).resumed == 1
    assert numbers_of(folder) == numbers_of(unbroken)


# --- The samples of another run


def test_a_later_run_tells_the_rewards_of_its_fresh_samples(make_run: MakeRun) -> None:
    first = make_run("rewarding", **REWARDING)
    run(first)
    judge = first / MODEL_FOLDER
    more = Hyperparameters(epochs=8, learning_rate=1e-3, drift_weight=0, likelihood_weight=1.0)
    folder = make_run("later", reward_model=model_ref(judge), hyperparameters=more)
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.before is not None
    assert report.after is not None
    before, after = report.before.behaviour.reward, report.after.behaviour.reward
    assert before is not None
    assert after is not None
    assert after > before, "it was trained towards what the reward model was trained on"
    model, tokenizer = load_reward_model(judge)
    prompt = report.samples[0]
    ids = [*prompt_token_ids(tokenizer, prompt.prompt), *completion_token_ids(tokenizer, prompt.after[0].text)]
    expected = float(model(input_ids=torch.tensor([ids])).logits)
    assert prompt.after[0].reward == pytest.approx(expected, abs=1e-5)


def test_a_reward_model_that_has_changed_stops_a_run_before_work_goes_into_it(make_run: MakeRun) -> None:
    first = make_run("rewarding", **{**REWARDING, "budget": Budget(threads=1, max_steps=2)})
    run(first)
    named = model_ref(first / MODEL_FOLDER).model_copy(update={"sha256": "0" * 64})
    folder = make_run("later", reward_model=named)
    assert run(folder) == ExitCode.FAILED
    assert "have changed" in report_of(folder).message
    assert all(row.stage is Stage.LOADING for row in metrics_of(folder))


def test_without_a_reward_model_nothing_is_said_of_rewards(make_run: MakeRun) -> None:
    folder = make_run(hyperparameters=QUICK["hyperparameters"])
    run(folder)
    report = report_of(folder)
    assert report.reward_model is None
    assert report.after is not None
    assert report.after.behaviour.reward is None
