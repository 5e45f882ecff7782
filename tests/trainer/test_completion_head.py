"""The head on completion tokens alone, against what autograd makes of the plain formulas."""

from functools import partial

import pytest
import torch
from torch import Tensor

from trainer import completion_head
from trainer.completion_head import Distributions, completion_logps
from trainer.objectives.terms import drift_kl


def some_inputs(*, bias: bool) -> dict[str, Tensor | None]:
    """Eleven tokens of width 6 over a vocabulary of 23, in float64."""
    draw = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=draw).requires_grad_()

    return {"hidden": normal(11, 6), "weight": normal(23, 6), "bias": normal(23) if bias else None}


def plainly(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """The same by the formulas."""
    logps = torch.nn.functional.linear(hidden, weight, bias).log_softmax(-1)
    return logps.gather(-1, targets[:, None]).squeeze(-1), drift_kl(logps, reference)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("drifting", [True, False])
def test_values_and_gradients_are_those_of_the_formulas(
    *, bias: bool, kept: bool, drifting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_head, "PIECE_LOGITS", {"cpu": 23 * 4})
    monkeypatch.setattr(completion_head, "PASSING_LOGITS", {"cpu": 23 * 3})
    inputs = some_inputs(bias=bias)
    targets = torch.randint(0, 23, (11,), generator=torch.Generator().manual_seed(4))
    reference = torch.randn(11, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).log_softmax(-1)
    weights = torch.rand(2, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    wanted = [each for each in inputs.values() if each is not None]
    gradients = []
    values = []
    for compute in (plainly, partial(completion_logps, most_kept=1000 if kept else 0)):
        given = reference if compute is plainly else Distributions(reference) if drifting else None
        logps, drift = compute(*inputs.values(), targets, given)
        loss = (weights[0] * logps).sum() + ((weights[1] * drift).sum() if drifting else 0)
        gradients.append(torch.autograd.grad(loss, wanted))
        values.append((logps.detach(), drift.detach() if drifting else torch.zeros(())))
    for one, other in zip([*values[0], *gradients[0]], [*values[1], *gradients[1]], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    inputs = some_inputs(bias=False)
    with torch.no_grad():
        logps, drift = completion_logps(*inputs.values(), torch.arange(11), None)
    assert not logps.requires_grad
    assert drift.tolist() == [0.0] * 11
