"""What the network of the learned V-cycle sees of a level: its stencil, free of scale, block by block."""

from __future__ import annotations

from itertools import product
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from ...multigrid.layout import Offset, half_offsets

TINY = 1e-7  # relative couplings below it look alike
EXTRA = 3  # features besides the couplings


def feature_count(dim: int) -> int:
    """Return the number of features of an unknown: every coupling, its logarithm, and three more."""
    return 2 * (3**dim - 1) + EXTRA


def shifted(x: Tensor, offset: Offset) -> Tensor:
    """Return x_(i + offset), zero outside; the last len(offset) axes are the grid."""
    pad: list[int] = []
    for o in reversed(offset):
        pad += [max(-o, 0), max(o, 0)]
    padded = functional.pad(x, pad)
    window = [slice(max(o, 0), max(o, 0) + n) for o, n in zip(offset, x.shape[-len(offset) :], strict=True)]
    return padded[(..., *window)]


def level_features(
    centre: Tensor,  # (B, *shape), diagonal
    sides: dict[Offset, Tensor],  # {offset: (B, *shape)}, couplings of i with i + offset, half of them
) -> Tensor:
    """Return (B, C, *shape): a_ij / sqrt(a_ii a_jj), their logarithms, row sum, relative diagonal, isolation.

    Nothing changes when A is multiplied by a number. C is `feature_count(dim)`.

    >>> c = torch.full((1, 3, 3), 4.0)
    >>> level_features(c, {(0, 1): -torch.ones(1, 3, 3), (1, 0): -torch.ones(1, 3, 3)}).shape
    torch.Size([1, 19, 3, 3])
    """
    dim = centre.ndim - 1
    root = centre.rsqrt()
    linear, logarithms = [], []
    for offset in half_offsets(dim):
        if offset not in sides:
            linear += [torch.zeros_like(centre)] * 2
            logarithms += [torch.zeros_like(centre)] * 2
            continue
        back = tuple(-o for o in offset)
        relative = sides[offset] * root * shifted(root, offset)
        magnitude = (relative.abs() + TINY).log10() / 7 + 1
        linear += [relative, shifted(relative, back)]
        logarithms += [magnitude, shifted(magnitude, back)]
    total, size = centre.clone(), torch.zeros_like(centre)
    for offset, w in sides.items():
        both = (w, shifted(w, tuple(-o for o in offset)))
        total = total + both[0] + both[1]
        size = size + both[0].abs() + both[1].abs()
    diagonal = centre.log()
    around = _local_mean(diagonal)
    extra = [(total / centre).clamp(-1, 1), (diagonal - around).clamp(-20, 20) / 5, (size == 0).to(centre)]
    return torch.stack([*linear, *logarithms, *extra], dim=1)


def _local_mean(x: Tensor) -> Tensor:
    """Mean over the 3^dim neighbourhood inside the grid."""
    dim = x.ndim - 1
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[dim - 1]
    mean = lambda t: pool(t.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)  # noqa: E731
    return mean(x) / mean(torch.ones_like(x[:1]))


def to_blocks(x: Tensor, first: Offset) -> Tensor:
    """Gather (B, C, *shape) into blocks of one coarse unknown each: (B, C * 2^dim, *blocks).

    Within a block the unknown before the coarse one along an axis comes first. `first`: index of the first
    coarse unknown per axis, 0 or 1; places outside the grid hold zeros.
    """
    dim, pad = len(first), []
    for f, n in zip(reversed(first), reversed(x.shape[2:]), strict=True):
        pad += [1 - f, (n + 1 - f) % 2]
    x = functional.pad(x, pad)
    parts = [x[(..., *(slice(p, None, 2) for p in parity))] for parity in product((0, 1), repeat=dim)]
    return torch.cat(parts, dim=1)


def from_blocks(blocks: Tensor, first: Offset, shape: Offset) -> Tensor:
    """Spread (B, 2^dim, *blocks) over the unknowns, (B, *shape): the inverse of `to_blocks`."""
    dim = len(first)
    out = blocks.new_empty((blocks.shape[0], *(2 * n for n in blocks.shape[2:])))
    for k, parity in enumerate(product((0, 1), repeat=dim)):
        out[(..., *(slice(p, None, 2) for p in parity))] = blocks[:, k]
    window = [slice(1 - f, 1 - f + n) for f, n in zip(first, shape, strict=True)]
    return out[(..., *window)]


def of_class(blocks: Tensor, axes: tuple[int, ...], first: Offset, shape: Offset) -> Tensor:
    """View the blocks (..., *blocks) of the unknowns that lie beside the coarse ones along `axes`."""
    window = []
    for axis, (f, n) in enumerate(zip(first, shape, strict=True)):
        begin = 1 - f if axis in axes else f
        lead = 1 - f if axis in axes else 0
        window.append(slice(lead, lead + len(range(begin, n, 2))))
    return blocks[(..., *window)]


def block_shape(first: Offset, shape: Offset) -> Offset:
    """Return the number of blocks per axis."""
    return tuple((n + 1 - f + 1) // 2 for f, n in zip(first, shape, strict=True))


def channels(dim: int) -> int:
    """Return the channels of `to_blocks(level_features(...))`."""
    return feature_count(dim) * prod((2,) * dim)
