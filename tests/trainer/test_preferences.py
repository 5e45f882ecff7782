"""The loss of a group by each method, from a model's own log-probabilities, against TRL's and by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.factories.serving import random_model
from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.contract.run import Hyperparameters, Method
from trainer.demonstrations import demonstration_groups
from trainer.groups import Group
from trainer.logps import fitting_scorer
from trainer.objectives.pairs import dpo_loss
from trainer.objectives.rankings import plackett_luce_loss
from trainer.preferences import Objective, Said, group_loss
from trainer.rankings import Verdict
from trainer.reference import Kept, ask_about
from trainer.snapshot import Demonstration
from trainer.step import training_step

BETA = 0.2
PAIRS = [
    ("How are you?", "Fine, thank you!", "No."),
    ("Name a fruit", "Apple", "A pear, I would say"),
    ("x", "y", "z"),
]


@pytest.fixture(scope="module")
def said() -> list[tuple[Said, Group]]:
    """The pairs as groups, and what a random policy and another model as reference say of them."""
    policy, tokenizer = random_model(seed=1)
    ours, theirs = fitting_scorer(policy), fitting_scorer(random_model(seed=2)[0])
    found = []
    for prompt, chosen, rejected in PAIRS:
        group = Group(
            prompt_id="p",
            prompt=tuple(prompt_token_ids(tokenizer, [Message(role="user", content=prompt)])),
            completion_ids=("c", "r"),
            completions=tuple(tuple(completion_token_ids(tokenizer, text)) for text in (chosen, rejected)),
            verdicts=(Verdict((1, 2), (0, 0), 1.0),),
        )
        logps = torch.tensor(ours.sequence_logps(group.tree.sequences), dtype=torch.float64)
        of_reference = torch.tensor(theirs.sequence_logps(group.tree.sequences), dtype=torch.float64)
        tokens = torch.tensor([len(completion) for completion in group.completions])
        found.append((Said(logps, logps - of_reference, tokens), group))
    return found


@pytest.fixture(scope="module")
def trl_dpo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's DPOTrainer with the same models and pairs."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, tokenizer = random_model(seed=1)
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in PAIRS
    ]
    config = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), beta=BETA, use_cpu=True, report_to="none", bf16=False,
        max_length=128,
    )  # fmt: skip
    trainer = DPOTrainer(
        policy,
        random_model(seed=2)[0],
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    policy.eval()
    return trainer


def mean_loss(said: list[tuple[Said, Group]], method: Method, **settings: Any) -> float:
    """Over the pairs."""
    objective = Objective(method, Hyperparameters(beta=BETA, **settings))
    return sum(group_loss(each, group, objective).item() for each, group in said) / len(said)


@pytest.mark.parametrize(
    ("method", "theirs", "settings"),
    [
        (Method.DPO, "sigmoid", {}),
        (Method.DPO_NORMALISED, "sigmoid_norm", {}),
        (Method.ROBUST_DPO, "robust", {"label_smoothing": 0.1}),
        (Method.IPO, "ipo", {}),
        (Method.HINGE, "hinge", {}),
        (Method.APO_ZERO, "apo_zero", {}),
        (Method.APO_DOWN, "apo_down", {}),
        (Method.BCO, "bco_pair", {}),
    ],
)
def test_losses_are_those_of_trl_on_the_same_pairs(
    said: list[tuple[Said, Group]], trl_dpo: Any, method: Method, theirs: str, settings: dict[str, float]
) -> None:
    trl_dpo.loss_types, trl_dpo.label_smoothing = [theirs], settings.get("label_smoothing", 0.0)
    batch = trl_dpo.data_collator([trl_dpo.train_dataset[index] for index in range(len(PAIRS))])
    expected = trl_dpo.compute_loss(trl_dpo.model, batch).item()
    assert mean_loss(said, method, **settings) == pytest.approx(expected, rel=1e-5)


def test_what_a_step_on_demonstrations_minimises_is_that_of_trl_on_the_chosen_ones(trl_dpo: Any) -> None:
    trl_dpo.loss_types, trl_dpo.label_smoothing = ["sft"], 0.0
    batch = trl_dpo.data_collator([trl_dpo.train_dataset[index] for index in range(len(PAIRS))])
    expected = trl_dpo.compute_loss(trl_dpo.model, batch).item()
    policy, tokenizer = random_model(seed=1)
    written = [Demonstration(f"p{number}", (Message(role="user", content=prompt),), f"c{number}", text)
               for number, (prompt, text, _) in enumerate(PAIRS)]  # fmt: skip
    groups, dropped = demonstration_groups(written, tokenizer, max_tokens=128)
    assert not dropped
    scorer = fitting_scorer(policy)
    reference, _ = ask_about(
        scorer,
        [sequence for group in groups for sequence in group.tree.sequences],
        table={},
        kept=Kept(),
        on_progress=lambda share: None,
    )
    figures = training_step(
        scorer,
        torch.optim.AdamW(policy.parameters()),
        groups,
        reference,
        Objective(Method.SFT, Hyperparameters()),
        rate=0.0,
        mean_weight=1.0,
    )
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)


def test_losses_without_a_reference_and_smoothed_ones_are_those_of_trl(said: list[tuple[Said, Group]]) -> None:
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    per_token = [each.logps / each.tokens for each, _ in said]
    chosen, rejected = torch.stack(per_token).unbind(1)
    place = SimpleNamespace(device="cpu")
    simpo: Any = SimpleNamespace(
        loss_type="simpo", simpo_gamma=0.5, beta=BETA, label_smoothing=0.0, alpha=0.0, accelerator=place
    )
    expected = CPOTrainer.cpo_loss(simpo, chosen, rejected)[0].mean().item()
    assert mean_loss(said, Method.SIMPO, gamma=0.5) == pytest.approx(expected, rel=1e-6)
    # TRL's DPO smooths no labels any more; its CPO does, and is DPO where it is given log-ratios.
    smoothed: Any = SimpleNamespace(loss_type="sigmoid", beta=BETA, label_smoothing=0.1, alpha=0.0, accelerator=place)
    ratios = torch.stack([each.log_ratios for each, _ in said]).unbind(1)
    expected = CPOTrainer.cpo_loss(smoothed, *ratios)[0].mean().item()
    assert mean_loss(said, Method.DPO, label_smoothing=0.1) == pytest.approx(expected, rel=1e-6)
    orpo: Any = SimpleNamespace(beta=1.0, accelerator=place)
    expected = -ORPOTrainer.odds_ratio_loss(orpo, chosen, rejected)[0].mean().item()
    assert mean_loss(said, Method.ORPO) == pytest.approx(expected, rel=1e-5)


def test_kto_is_that_of_trl_at_the_anchor_that_trl_finds(said: list[tuple[Said, Group]], tmp_path: Path) -> None:
    """With policy and reference changed over, so that the anchor is not cut off at 0."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    policy, tokenizer = random_model(seed=2)
    rows = [
        {"prompt": [{"role": "user", "content": prompt}], "completion": [{"role": "assistant", "content": text}],
         "label": is_good}
        for prompt, chosen, rejected in PAIRS
        for text, is_good in ((chosen, True), (rejected, False))
    ]  # fmt: skip
    config = KTOConfig(
        output_dir=str(tmp_path), beta=BETA, use_cpu=True, report_to="none", bf16=False, max_length=128,
        per_device_train_batch_size=len(rows),
    )  # fmt: skip
    trainer: Any = KTOTrainer(
        policy,
        random_model(seed=1)[0],
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    policy.eval()
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(len(rows))])
    expected = trainer.compute_loss(trainer.model, batch).item()
    (kl,) = trainer._metrics["eval"]["kl"]
    assert kl > 0
    objective = Objective(Method.KTO, Hyperparameters(beta=BETA), anchor=BETA * kl)
    turned = [(Said(each.logps - each.log_ratios, -each.log_ratios, each.tokens), group) for each, group in said]
    ours = sum(group_loss(each, group, objective).item() for each, group in turned) / len(rows)
    assert ours == pytest.approx(expected, rel=1e-5)


def test_a_completion_is_praised_for_the_others_that_it_beats() -> None:
    completions = ((20, 1), (30, 31, 1), (40, 1), (50, 51, 52, 1))
    flat = (0, 0, 0, 0)
    assert Verdict((2, 1, 2, 3), flat, 1.0).praise(completions) == pytest.approx((0, 1, 0, -1))
    assert Verdict((1, 2, 3, 4), flat, 1.0).praise(completions) == pytest.approx((1, 1 / 3, -1 / 3, -1))
    assert Verdict((1, 1, 1, 1), flat, 1.0, all_bad=True).praise(completions) == (-1, -1, -1, -1)
    each, group = ranking(Verdict((1, 1, 1, 1), flat, 0.5, all_bad=True))
    by_hand = 0.5 * sum(1 - torch.sigmoid(-(BETA * ratio - 0.02)).item() for ratio in each.log_ratios)
    objective = Objective(Method.KTO, Hyperparameters(beta=BETA), anchor=0.02)
    assert group_loss(each, group, objective).item() == pytest.approx(by_hand)


def test_doubt_softens_the_verdict_that_it_is_about_and_no_other() -> None:
    each, group = ranking(Verdict((1, 2, 3, 4), (0, 0, 0, 0), 1.0, doubt=0.25), Verdict((1, 2, 3, 4), (0,) * 4, 1.0))
    pairs = [(pair.chosen, pair.rejected) for pair in group.pairs[:6]]
    doubted = sum(
        0.75 * margin(each.log_ratios, better, worse) + 0.25 * margin(each.log_ratios, worse, better)
        for better, worse in pairs
    )
    sure = sum(margin(each.log_ratios, better, worse) for better, worse in pairs)
    found = mean_loss([(each, group)], Method.DPO, reliability="smoothing")
    assert found == pytest.approx((doubted + sure) / 3)


def ranking(*verdicts: Verdict) -> tuple[Said, Group]:
    """Four completions, with log-ratios that are easy to tell apart."""
    completions = ((20, 1), (30, 31, 1), (40, 1), (50, 51, 52, 1))
    logps = torch.tensor([-4.0, -6.0, -3.0, -9.0], dtype=torch.float64)
    log_ratios = torch.tensor([0.3, -0.2, 0.9, 0.1], dtype=torch.float64)
    group = Group("p", (10,), ("a", "b", "c", "d"), completions, verdicts)
    return Said(logps, log_ratios, torch.tensor([2, 3, 2, 4])), group


def margin(values: Tensor, better: int, worse: int) -> float:
    """The DPO loss of one pair at BETA."""
    return dpo_loss(values[better], values[worse], beta=BETA).item()


def test_a_ranking_counts_as_it_is_or_as_its_pairs() -> None:
    flat = (0, 0, 0, 0)
    each, group = ranking(Verdict((2, 1, 2, 3), flat, 0.5), Verdict((4, 3, 2, 1), flat, 1.0))
    rewards = BETA * each.log_ratios
    whole = 0.5 * plackett_luce_loss(rewards, (2, 1, 2, 3)) + plackett_luce_loss(rewards, (4, 3, 2, 1))
    assert mean_loss([(each, group)], Method.DPO) == pytest.approx(whole.item())
    first = [(1, 0), (1, 2), (1, 3), (0, 3), (2, 3)]
    second = [(3, 2), (3, 1), (3, 0), (2, 1), (2, 0), (1, 0)]
    by_hand = sum(
        weight / 3 * margin(each.log_ratios, better, worse)
        for weight, pairs in ((0.5, first), (1.0, second))
        for better, worse in pairs
    )
    assert mean_loss([(each, group)], Method.DPO, rankings="pairs") == pytest.approx(by_hand)
    assert mean_loss([(each, group)], Method.DPO, label_smoothing=1e-12) == pytest.approx(by_hand), (
        "it knows pairs alone"
    )
    normalised = plackett_luce_loss(BETA * each.log_ratios / each.tokens, (4, 3, 2, 1))
    alone = ranking(Verdict((4, 3, 2, 1), flat, 1.0))
    assert mean_loss([alone], Method.DPO_NORMALISED) == pytest.approx(normalised.item())
    assert mean_loss([alone], Method.SIMPO) == pytest.approx(
        plackett_luce_loss(BETA * each.logps / each.tokens, (4, 3, 2, 1)).item()
    )


def test_the_stronger_a_preference_the_larger_the_margin_that_it_wants() -> None:
    # c far above a (strength 3, so 2 levels more than barely), a barely above b and d.
    each, group = ranking(Verdict((2, 3, 1, 3), (0, 0, 2, 0), 1.0))
    assert [(pair.chosen, pair.rejected, pair.strength) for pair in group.pairs] == [
        (0, 1, 0), (2, 0, 2), (0, 3, 0), (2, 1, 2), (2, 3, 2),
    ]  # fmt: skip
    values = BETA * each.log_ratios
    wanted = [values[pair.chosen] - values[pair.rejected] - 0.5 * pair.strength for pair in group.pairs]
    by_hand = sum(-torch.nn.functional.logsigmoid(reward).item() / 3 for reward in wanted)
    assert mean_loss([(each, group)], Method.DPO, strength_margin=0.5) == pytest.approx(by_hand)


def test_every_method_pulls_the_chosen_one_up_or_the_rejected_one_down(said: list[tuple[Said, Group]]) -> None:
    each, group = said[0]
    for method in set(Method) - {Method.SFT}:
        logps = each.logps.clone().requires_grad_()
        moving = Said(logps, logps - (each.logps - each.log_ratios), each.tokens)
        group_loss(moving, group, Objective(method, Hyperparameters(beta=BETA, label_smoothing=0.1))).backward()
        assert logps.grad is not None
        chosen, rejected = (-logps.grad).tolist()
        assert chosen > rejected, method
