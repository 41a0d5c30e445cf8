"""Integral operators on points: a kernel over neighbourhoods, and a kernel of low rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .multilayer import Multilayer, activation_named
from .neighbours import Neighbours


@final
class KernelIntegral(nn.Module):
    """Average a learned kernel over balls: (K v)_i = sum_j s_ij k(f_i, f_j) v_j, with shares s_ij of sum 1.

    k is an MLP with a matrix (out, in) as its value; f are features of the points, for example (x, a(x)). Its
    last layer, k = W h + b, is applied after the sum: with S_i = sum_j s_ij v_j h_ij^T, (K v)_i = W : S_i + b
    sum_j s_ij v_j, so that no matrix per edge is formed. Its first layer is applied before the pairs are
    formed. Edges are taken in portions of `edges_at_once`, which training computes again on the way back.

    Source: Li et al. (2020), Neural operator: graph kernel network for PDEs; the order of the sums is ours.

    Args:
        features: of a point, for the kernel.
        in_channels, out_channels: of v and K v.
        hidden: widths of the kernel's hidden layers.
        edges_at_once: pairs of points, times samples, whose hidden values are kept in memory.

    >>> neighbours = Neighbours(torch.tensor([[0, 1], [1, 2], [2, 1]]), torch.full((3, 2), 0.5))
    >>> layer = KernelIntegral(2, 4, 5, hidden=(8, 8))
    >>> layer(torch.ones(6, 3, 4), torch.ones(6, 3, 2), neighbours).shape
    torch.Size([6, 3, 5])
    """

    def __init__(
        self,
        features: int,
        in_channels: int,
        out_channels: int,
        hidden: Sequence[int],
        *,
        activation: str = "relu",
        edges_at_once: int = 65_536,
    ) -> None:
        super().__init__()
        self.edges_at_once = edges_at_once
        self.target = nn.Linear(features, hidden[0])
        self.source = nn.Linear(features, hidden[0], bias=False)
        self.activation = activation_named(activation)
        more = len(hidden) > 1
        self.middle = Multilayer(hidden, activation, last=True) if more else nn.Identity()
        std = (hidden[-1] * in_channels) ** -0.5
        self.weight = nn.Parameter(std * torch.randn(out_channels, in_channels * hidden[-1]))
        self.bias = nn.Parameter(torch.zeros(out_channels, in_channels))

    def forward(
        self,
        v: Tensor,  # (B, N, in_channels)
        features: Tensor,  # (B or 1, N, features)
        neighbours: Neighbours,
        targets: Tensor | None = None,  # (B or 1, M, features), those of the N points where not given
    ) -> Tensor:
        """Return K v (B, M, out_channels)."""
        left, right = self.target(features if targets is None else targets), self.source(features)
        index, share = neighbours.index, neighbours.share
        rows = max(1, self.edges_at_once // (index.shape[1] * v.shape[0]))
        if rows >= len(index):
            return self._rows(v, left, right, index, share)
        keep = torch.is_grad_enabled()
        parts = []
        for a, i, s in zip(left.split(rows, 1), index.split(rows), share.split(rows), strict=True):
            if keep:
                parts.append(checkpoint(self._rows, v, a, right, i, s, use_reentrant=False))
            else:
                parts.append(self._rows(v, a, right, i, s))
        return torch.cat(parts, dim=1)

    def _rows(self, v: Tensor, left: Tensor, right: Tensor, index: Tensor, share: Tensor) -> Tensor:
        h = self.middle(self.activation(left[:, :, None] + right[:, index]))  # (B or 1, rows, J, H)
        near = v[:, index] * share[..., None]  # (B, rows, J, C)
        sums = near.mT @ h  # (B, rows, C, H)
        return sums.flatten(2) @ self.weight.mT + near.sum(2) @ self.bias.mT


def low_rank_product(phi: Tensor, psi: Tensor, v: Tensor, share: Tensor) -> Tensor:
    """Return (K v)(x) = sum_r phi_r(x) sum_j s_j psi_r(x_j).v_j: the kernel is sum_r phi_r(x) psi_r(y)^T.

    Args:
        phi: (B, M, out, q).
        psi: (B, N, in, q).
        v: (B, N, in).
        share: (N,), quadrature weights.

    >>> ones = torch.ones(1, 4, 1, 1)
    >>> v = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 4, 1)
    >>> low_rank_product(ones, ones, v, torch.full((4,), 0.25)).flatten()
    tensor([3., 3., 3., 3.])
    """
    moments = torch.einsum("bncq,bnc->bq", psi, v * share[:, None])
    return torch.einsum("bmcq,bq->bmc", phi, moments)


@final
class LowRankIntegral(nn.Module):
    """Integrate against a learned kernel of rank q, at a cost of O(N q): see `low_rank_product`.

    phi and psi are MLPs of the features of a point.

    Source: Kovachki et al. (2023), Neural operator: learning maps between function spaces, low-rank operator.

    >>> layer = LowRankIntegral(2, 4, rank=3, hidden=(8, 8))
    >>> layer(torch.ones(6, 5, 4), torch.ones(6, 5, 2), torch.full((5,), 0.2)).shape
    torch.Size([6, 5, 4])
    """

    def __init__(
        self, features: int, channels: int, rank: int, hidden: Sequence[int], *, activation: str = "relu"
    ) -> None:
        super().__init__()
        widths = (features, *hidden, channels * rank)
        self.phi, self.psi = Multilayer(widths, activation), Multilayer(widths, activation)
        self.rank = rank

    def forward(
        self,
        v: Tensor,  # (B, N, channels)
        features: Tensor,  # (B, N, features)
        share: Tensor,  # (N,)
    ) -> Tensor:
        """Return K v (B, N, channels)."""
        phi = self.phi(features).unflatten(-1, (-1, self.rank))
        psi = self.psi(features).unflatten(-1, (-1, self.rank))
        return low_rank_product(phi, psi, v, share)


@final
class IntegralLayer(nn.Module):
    """v -> W v + b + K v, with a linear map per point beside the integral K.

    >>> layer = IntegralLayer(4, LowRankIntegral(2, 4, rank=3, hidden=(8,)))
    >>> layer(torch.ones(6, 5, 4), torch.ones(6, 5, 2), torch.full((5,), 0.2)).shape
    torch.Size([6, 5, 4])
    """

    def __init__(self, channels: int, integral: KernelIntegral | LowRankIntegral) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.integral = integral

    def forward(self, v: Tensor, features: Tensor, geometry: Neighbours | Tensor) -> Tensor:
        """Return W v + b + K v (B, N, channels)."""
        return self.linear(v) + self.integral(v, features, geometry)
