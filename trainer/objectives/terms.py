"""What is added to a preference loss, to keep a model from losing what nobody judged."""

from __future__ import annotations

from torch import Tensor


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


def centring_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The squared sum of the two rewards of each pair, shape (pairs,).

    A preference fixes differences of rewards alone; this keeps them around 0 without touching differences. Source:
    Eisenstein et al. 2023, arXiv:2312.09244.
    """
    return (chosen + rejected) ** 2
