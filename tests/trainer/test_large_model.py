"""A model of a real one's shape: 362 million parameters, as in SmolLM2-360M, with random weights."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.contract.run import Hyperparameters, Method
from trainer.groups import Group
from trainer.logps import fitting_scorer
from trainer.preferences import Objective
from trainer.rankings import Verdict
from trainer.reference import prepare_reference
from trainer.step import training_step


def large_model() -> LlamaForCausalLM:
    """32 layers, 15 heads of which 5 have keys, 49,152 tokens."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=960,
        intermediate_size=2560,
        num_hidden_layers=32,
        num_attention_heads=15,
        num_key_value_heads=5,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.alone
@pytest.mark.slow
def test_a_model_of_360_million_parameters_trains_for_a_few_steps() -> None:
    model = large_model()
    assert 360e6 < model.num_parameters() < 365e6
    prompt, completions = tuple(range(100, 140)), (tuple(range(200, 212)), tuple(range(300, 306)), tuple(range(40, 50)))
    group = Group("p", prompt, ("a", "b", "c"), completions, (Verdict((1, 3, 2), (0, 0, 0), 1.0),))
    scorer = fitting_scorer(model)
    assert (scorer.in_trees, scorer.own_head) == (True, False)
    reference = prepare_reference(
        scorer, group.tree.sequences, table={}, with_distributions_of=[], on_progress=lambda share: None
    )[0]
    with torch.no_grad():
        for sequence, found in zip(group.tree.sequences, reference.logps(group.tree.sequences).tolist(), strict=True):
            ids = torch.tensor([[*sequence.prompt, *sequence.completion]])
            scores = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            expected = scores.gather(-1, ids[0, len(prompt) :, None]).double().sum().item()
            assert found == pytest.approx(expected, rel=1e-6)
    objective = Objective(Method.DPO, Hyperparameters(drift_weight=0, likelihood_weight=0))
    optimizer = torch.optim.SGD(model.parameters())
    losses = [
        training_step(scorer, optimizer, [group], reference, objective, rate=1e-3, mean_weight=1.0)["loss"]
        for _ in range(3)
    ]
    assert losses[0] == pytest.approx(torch.tensor(6.0).log().item(), rel=1e-5), "nothing is known: one of six orders"
    assert losses[2] < losses[1] < losses[0]
