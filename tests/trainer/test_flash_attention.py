"""All trees of a pack at once, two calls of a kernel per layer: what they find and its gradients."""

import pytest
import torch
from torch import Tensor

from tests.trainer.test_logps import some_trees
from trainer.attention import attend_plainly
from trainer.flash_attention import FlashKernel, Kernel, attend_in_segments
from trainer.packing import Pack, Tree, packed
from trainer.segments import Segments
from trainer.tree_attention import _OverTrees, plain_gradients


class PlainKernel:
    """What FlashAttention does, segment by segment with plain operations, on any device and in any precision."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, scaling: float
    ) -> tuple[Tensor, Tensor]:
        found = torch.full_like(query, torch.nan)
        mass = query.new_full(query.shape[1::-1], torch.nan)
        for queries, keys in parts(segments):
            one, other = attend_plainly(
                for_heads(query[queries], query), for_heads(key[keys], query), for_heads(value[keys], query),
                scaling=scaling, causal=segments.causal,
            )  # fmt: skip
            found[queries], mass[:, queries] = one.transpose(0, 1), other
        return found, mass

    def gradients(
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, found: Tensor, mass: Tensor,
        segments: Segments, *, scaling: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        assert gradient.is_contiguous()
        assert mass.is_contiguous()
        sums = tuple(torch.full_like(tensor, torch.nan) for tensor in (query, key, value))
        for queries, keys in parts(segments):
            parted = plain_gradients(
                for_heads(gradient[queries], query), for_heads(query[queries], query), for_heads(key[keys], query),
                for_heads(value[keys], query), for_heads(found[queries], query), mass[:, queries],
                causal=segments.causal, scaling=scaling,
            )  # fmt: skip
            for total, own, place in zip(sums, parted, (queries, keys, keys), strict=True):
                total[place] = own.transpose(0, 1).unflatten(1, (total.shape[1], -1)).sum(2)
        return sums


def parts(segments: Segments) -> list[tuple[slice, slice]]:
    """Queries and keys of each segment."""
    bounds = [torch.stack([side[:-1], side[1:]], dim=1).tolist() for side in (segments.queries, segments.keys)]
    pairs = [(slice(*queries), slice(*keys)) for queries, keys in zip(*bounds, strict=True)]
    assert max((each.stop - each.start for each, _ in pairs), default=0) == segments.most_queries
    assert max((each.stop - each.start for _, each in pairs), default=0) == segments.most_keys
    return pairs


def for_heads(tensor: Tensor, query: Tensor) -> Tensor:
    """Shape (heads of queries, tokens, head size)."""
    return tensor.repeat_interleave(query.shape[1] // tensor.shape[1], 1).transpose(0, 1)


def some_attention(pack: Pack, *, heads: int, key_heads: int, size: int) -> list[Tensor]:
    """Queries, keys and values of one layer."""
    generator = torch.Generator().manual_seed(1)
    tokens = pack.input_ids.shape[1]
    shapes = [(1, each, tokens, size) for each in (heads, key_heads, key_heads)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def found_and_gradients(found: Tensor, given: list[Tensor]) -> list[Tensor]:
    """What was found, and the gradients of what was given under a loss of random weights."""
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return [found.detach(), *torch.autograd.grad((found * weights.to(found)).sum(), given)]


@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize(
    "trees",
    [
        some_trees(5),
        [Tree((5, 6, 7), ((8,), (9,)))],
        [Tree((5, 6), ((8,),)), Tree((5,), ((7, 8, 9), (6,), (5, 6)))],
    ],
)
def test_all_trees_at_once_find_what_they_find_one_by_one(trees: list[Tree], key_heads: int) -> None:
    pack = packed(trees)
    given = some_attention(pack, heads=4, key_heads=key_heads, size=8)
    one_by_one = found_and_gradients(_OverTrees.apply(*given, 0.3, pack.trunks), given)
    kernel: Kernel = PlainKernel()
    at_once = found_and_gradients(attend_in_segments(*given, 0.3, pack.layout, kernel), given)
    for found, expected in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_kernel_is_for_16_bit_numbers_on_a_gpu() -> None:
    query = torch.zeros(1, 2, 3, 8, dtype=torch.bfloat16)
    assert not FlashKernel.takes(query, query)


def test_torch_takes_what_the_kernel_hands_it_and_returns_such_shapes() -> None:
    segments = packed([Tree((5, 6, 7), ((8, 9), (9,)))]).layout.own
    on_meta = Segments(segments.queries.to("meta"), segments.keys.to("meta"), 3, 3, causal=True)
    query, key = (torch.empty(4, heads, 8, dtype=torch.bfloat16, device="meta") for heads in (6, 2))
    found, mass = FlashKernel().attend(query, key, key, on_meta, scaling=0.3)
    assert (found.shape, mass.shape, mass.dtype) == (query.shape, (6, 4), torch.float32)
    gradients = FlashKernel().gradients(found, query, key, key, found, mass, on_meta, scaling=0.3)
    assert [gradient.shape for gradient in gradients] == [query.shape, key.shape, key.shape]
