"""How much goes through a model at once, and what happens where that was too much."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.factories.serving import byte_tokenizer, random_model, save, tiny_config
from tests.trainer.test_loop import dpo, pair, policy_scorer, reference_for
from trainer import memory
from trainer.logps import Scores, fitting_scorer
from trainer.memory import (
    Limits,
    bytes_in_cache,
    bytes_left,
    bytes_per_logit,
    bytes_per_token,
    fitting_limits,
    fixed_bytes,
    ran_out_of_memory,
)
from trainer.models import load_model
from trainer.packing import Tree
from trainer.step import groups_in_parts, training_step


def test_a_token_takes_as_much_as_is_kept_of_it_and_twice_that_in_float64() -> None:
    single = bytes_per_token(policy_scorer())
    double = bytes_per_token(fitting_scorer(random_model(seed=4)[0].double()))
    # Two layers of width 32: at least inputs, queries, keys, values, results and both halves of the feed-forward.
    assert single > 2 * (6 * 32 + 2 * 64) * 4
    assert double == pytest.approx(2 * single, rel=0.1)


def test_limits_follow_from_what_is_left_and_are_never_more_than_is_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = policy_scorer()
    assert fitting_limits(scorer) == Limits()
    of_training = 3 * sum(parameter.nbytes for parameter in scorer.model.parameters())  # gradients and two moments
    largest = max(parameter.nbytes for parameter in scorer.model.parameters())
    left = 4 * 5000 * bytes_per_token(scorer)
    monkeypatch.setattr(memory, "bytes_left", lambda device: memory.HEAP_BYTES + of_training + 2 * largest + left)
    assert fitting_limits(scorer).tokens == 5000
    assert fitting_limits(scorer, drifts=True).tokens == 3750, "a quarter is the reference's"
    assert fitting_limits(scorer, drifts=True).reference_bytes == left // 4
    scorer.model.requires_grad_(False)
    monkeypatch.setattr(memory, "bytes_left", lambda device: memory.HEAP_BYTES + left)
    assert fitting_limits(scorer).tokens == Limits().tokens, "a frozen model keeps nothing"
    monkeypatch.setattr(memory, "bytes_left", lambda device: 0)
    assert fitting_limits(scorer) == Limits(
        tokens=256, logits=1_000_000, reference_bytes=0, drawn_tokens=256, drawn_logits=1_000_000
    )


def test_weights_that_lie_in_their_file_take_memory_once_they_are_trained(tmp_path: Path) -> None:
    model, _ = pair_of_model = random_model()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    read_anew = load_model(save(tmp_path / "float32", pair_of_model))[0]
    assert fixed_bytes(read_anew) == fixed_bytes(model) + weights
    read_anew.requires_grad_(False)
    assert fixed_bytes(read_anew) == 0
    rounded = save(tmp_path / "bfloat16", (random_model()[0].bfloat16(), byte_tokenizer()))
    assert fixed_bytes(load_model(rounded)[0]) == fixed_bytes(model), "made wider when it was loaded"


def test_what_is_kept_is_counted_by_the_number() -> None:
    scorer = policy_scorer()
    assert bytes_per_logit(scorer, drifts=False) == 4, "become their own gradient in place"
    assert bytes_per_logit(scorer, drifts=True) == 8, "and the reference's"
    capped = fitting_scorer(random_model(architecture="gemma2")[0])
    assert capped.own_head
    assert bytes_per_logit(capped, drifts=True) > 16
    few_words = fitting_scorer(AutoModelForCausalLM.from_config(tiny_config("llama", vocabulary=9, context=128)))
    assert bytes_per_logit(few_words, drifts=True) < 40, "with what is kept of a token, divided by nine"
    # Keys and values of two layers, whose four heads of queries share two of keys, each eight wide.
    assert bytes_in_cache(scorer.model) == 2 * 2 * 2 * 8 * 4


def test_training_and_drawing_stay_within_the_memory_that_is_left() -> None:
    def peak(how: str, allowed: int) -> int:
        command = [sys.executable, "-m", "tests.trainer.memory_program", how, str(allowed)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    allowed = 300 * 2**20
    assert peak("fitting", allowed) < allowed
    assert peak("as much as is of use", allowed) > 1.5 * allowed


def test_a_control_group_leaves_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bytes_left(torch.device("cpu")) > 10_000_000
    (tmp_path / "memory.max").write_text("9000000\n")
    (tmp_path / "memory.current").write_text("5000000\n")
    (tmp_path / "memory.stat").write_text("anon 4000000\ninactive_file 1000000\n")
    monkeypatch.setattr(memory, "_groups", lambda: iter([tmp_path]))
    assert bytes_left(torch.device("cpu")) == 5_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert bytes_left(torch.device("cpu")) > 10_000_000


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_where_memory_runs_out_the_step_is_done_in_smaller_parts_with_the_same_gradient(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_LEAST_TOKENS", 8)
    groups = [pair(number) for number in range(6)]
    reference = reference_for(groups)
    gradients = []
    for most in (10**6, 40):
        scorer = policy_scorer()
        scorer.model.double()
        score = scorer.score

        def limited(trees: Sequence[Tree], *given: Any, most: int = most, score: Any = score) -> Scores:
            if sum(tree.read_tokens for tree in trees) > most:
                raise error
            return score(trees, *given)  # type: ignore[no-any-return]

        monkeypatch.setattr(scorer, "score", limited)
        optimizer = torch.optim.SGD(scorer.model.parameters())
        training_step(scorer, optimizer, groups, reference, dpo(max_grad_norm=1e9), rate=0.0, mean_weight=1.0)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in scorer.model.parameters()]))
    assert len(groups_in_parts(scorer, groups)) > 1
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-7, atol=1e-10)


def test_other_errors_and_a_single_comparison_that_is_too_large_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"))
    assert not ran_out_of_memory(RuntimeError("shapes differ"))
    groups = [pair(1)]
    reference = reference_for(groups)
    scorer = policy_scorer()

    def never(*given: Any) -> Scores:
        raise MemoryError

    monkeypatch.setattr(scorer, "score", never)
    optimizer = torch.optim.SGD(scorer.model.parameters())
    with pytest.raises(MemoryError):
        training_step(scorer, optimizer, groups, reference, dpo(), rate=0.0, mean_weight=1.0)
    assert not scorer.limits.can_be_halved
