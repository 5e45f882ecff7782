"""Drawing the next token: pure functions of logits and of random numbers handed in.

A choice's random numbers are drawn before its first token, one per token, from its own seed. So a token
depends on its choice's seed and its position, whatever else is decoded beside it.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import torch
from torch import Tensor

SEED_BITS = 53
"""Seeds that we draw are below 2**53, so that every JSON reader keeps them whole."""
_LEAST_TEMPERATURE = 1e-6
"""Below, the most probable token is all but certain, and the division would overflow."""
_NUCLEUS_WIDTH = 256
"""How many of the most probable tokens are looked at first; sorting a large vocabulary is slow."""


def fresh_seed() -> int:
    """A seed for a request that named none."""
    return secrets.randbits(SEED_BITS)


def choice_seed(seed: int, index: int) -> int:
    """The seed of choice `index` of a request with `seed`; the first choice's is the request's own.

    A single completion can therefore be asked for again on its own, by its own seed.
    """
    if index == 0:
        return seed
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def uniforms(seed: int, count: int) -> Tensor:
    """`count` numbers in [0, 1), float64, shape (count,); a longer draw begins with the shorter one."""
    generator = np.random.Generator(np.random.Philox(key=seed % 2**64))
    return torch.from_numpy(generator.random(count))


def nucleus(logits: Tensor, *, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities at `temperature` cut to the nucleus of `top_p`, and the tokens that they belong to.

    Of `logits` (batch, vocabulary), both results have shape (batch, candidates); tokens outside the nucleus
    have probability zero or no column, and a row sums to the nucleus's mass rather than to one. The nucleus
    is the smallest set of most probable tokens that holds at least `top_p` of the mass, never empty
    (Holtzman et al. 2020, arXiv:1904.09751). `temperature` > 0, `top_p` 0 to 1.
    """
    probabilities = torch.softmax(logits.float() / max(temperature, _LEAST_TEMPERATURE), dim=-1)
    if top_p >= 1:
        return probabilities.double(), torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    best, tokens = _most_probable(probabilities, top_p)
    best = best.double()
    mass_before = best.cumsum(-1) - best
    kept = mass_before < top_p
    kept[:, 0] = True
    return best * kept, tokens


def _most_probable(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Enough tokens to hold `top_p` in every row, most probable first."""
    vocabulary = probabilities.shape[-1]
    best, tokens = probabilities.topk(min(_NUCLEUS_WIDTH, vocabulary), dim=-1)
    if bool((best.double().sum(-1) < top_p).any()):
        best, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    return best, tokens


def draw_tokens(logits: Tensor, numbers: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """The next token of each row, shape (batch,): where the cumulated probability first exceeds the row's number.

    `logits` (batch, vocabulary); `numbers` (batch,) in [0, 1). Temperature 0 takes the most probable token.
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities, tokens = nucleus(logits, temperature=temperature, top_p=top_p)
    cumulated = probabilities.cumsum(-1)
    mass = cumulated[:, -1:]
    # Kept below the mass, or rounding could point past the last token that has any probability.
    reached = torch.minimum(numbers[:, None] * mass, torch.nextafter(mass, torch.zeros_like(mass)))
    column = torch.searchsorted(cumulated, reached, right=True)
    return tokens.gather(-1, column).squeeze(-1)
