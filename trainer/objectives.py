"""What training minimises, as functions of tensors alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Direct Preference Optimization loss of each pair, shape (batch,).

    The four arguments are log p(completion | prompt) in nats, summed over the completion's
    tokens, shape (batch,). `beta` is the pull towards the reference model; dimensionless,
    usually 0.1 to 0.5. Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
    """
    margins = reward_margins(
        policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=beta
    )
    return -F.logsigmoid(margins)


def reward_margins(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
) -> Tensor:
    """How much more implicit reward the chosen completion has than the rejected one, shape (batch,).

    Arguments as in `dpo_loss`. The implicit reward is beta times the log-ratio to the reference
    (arXiv:2305.18290, section 5.1).
    """
    policy_margins = policy_chosen_logps - policy_rejected_logps
    reference_margins = reference_chosen_logps - reference_rejected_logps
    return beta * (policy_margins - reference_margins)


def likelihood_loss(chosen_logps: Tensor, chosen_tokens: Tensor) -> Tensor:
    """Negative log-likelihood of each chosen completion in nats per token, shape (batch,).

    Added to a preference loss it keeps the chosen completion probable while the margin grows
    (Pang et al. 2024, arXiv:2404.19733, eq. 2).
    """
    return -chosen_logps / chosen_tokens


def drift_kl(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """KL(reference || policy) at each token in nats, shape (tokens,).

    Both arguments are log-probabilities over the vocabulary, shape (tokens, vocabulary). This direction
    asks the policy to keep covering what the reference would say; it is zero where they agree.
    """
    return (reference_logps.exp() * (reference_logps - policy_logps)).sum(dim=-1)
