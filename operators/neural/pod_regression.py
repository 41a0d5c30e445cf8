"""POD regression: the linear baseline that every network has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Self, final

import torch
from torch import Tensor

from .base import WrongResolution, WrongSettings
from .on_grid import FixedOnGrid

RANKS = (2, 4, 8, 16, 32, 64, 128)
RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)


@final
@dataclass(frozen=True)
class PODRegressionConfig:
    """Settings of `PODRegression`.

    Args:
        in_channels, out_channels: fields of input and output.
        size: points of the grid along each axis.
        rank_in, rank_out: principal components of the inputs and of the outputs.
        ridge: of the regression, as a share of the largest variance of an input component.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    rank_in: int
    rank_out: int
    ridge: float = 1e-6


@final
class PODRegression(FixedOnGrid):
    """Map fields to fields by ridge regression from input to output principal components.

    y = mean_y + scale_y V_y W^T V_x^T (x - mean_x) / scale_x. It has nothing to train: `from_data` computes
    its buffers from training samples and takes ranks and ridge from the error on validation samples. On the
    components of the training inputs the ridge problem is diagonal, W = diag(1 / (s^2 + ridge s_1^2)) A^T B.

    Good for: smooth, nearly linear maps, few samples, and as the figure that a network must beat.

    >>> x = torch.randn(40, 1, 30, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    >>> y = x.cumsum(-1) / 30
    >>> model = PODRegression.from_data((x[:30], y[:30]), (x[30:35], y[30:35]))
    >>> bool((model(x[35:]) - y[35:]).norm() < 0.02 * y[35:].norm())
    True
    """

    Config = PODRegressionConfig
    mean_in: Tensor
    mean_out: Tensor
    encoder: Tensor
    weights: Tensor
    decoder: Tensor

    def __init__(self, config: PODRegressionConfig) -> None:
        super().__init__(config)
        n_in, n_out = (c * prod(config.size) for c in (config.in_channels, config.out_channels))
        for name, shape in (
            ("mean_in", (n_in,)),
            ("mean_out", (n_out,)),
            ("encoder", (n_in, config.rank_in)),
            ("weights", (config.rank_in, config.rank_out)),
            ("decoder", (config.rank_out, n_out)),
        ):
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def from_data(
        cls,
        train: tuple[Tensor, Tensor],  # (K, C_in, *space), (K, C_out, *space)
        valid: tuple[Tensor, Tensor],
        *,
        ranks: Sequence[int] = RANKS,
        ridges: Sequence[float] = RIDGES,
    ) -> Self:
        """Return the model with the least mean relative L2 error on the validation samples.

        All pairs of ranks up to the number that the training samples give, and all ridges, are compared.
        Channels are scaled to unit variance first, so that units do not count.

        Raises:
            WrongResolution: for inputs and outputs on different grids.
            WrongSettings: without a rank or a ridge to choose from.
        """
        (x, y), (x_valid, y_valid) = train, valid
        if x.shape[2:] != y.shape[2:] or x_valid.shape[1:] != x.shape[1:] or y_valid.shape[1:] != y.shape[1:]:
            raise WrongResolution(
                f"inputs and outputs lie on one grid, the same for training and validation, got "
                f"{[tuple(t.shape) for t in (x, y, x_valid, y_valid)]}"
            )
        inputs, outputs = Components.of(x), Components.of(y)
        ranks_in = usable(ranks, inputs.rank)
        ranks_out = usable(ranks, outputs.rank)
        A, B = inputs.project(x), outputs.project(y)
        A_valid, B_valid = inputs.project(x_valid), outputs.project(y_valid)
        size = (y_valid.flatten(1).double() / outputs.scale).norm(dim=1).square().clamp(min=1e-300)
        rest = (outputs.centre(y_valid).norm(dim=1).square() - B_valid.square().sum(1)).clamp(min=0)
        total = B_valid.square().sum(1, keepdim=True) - B_valid.square().cumsum(1)  # left out by a lower rank
        best: tuple[float, int, int, float] | None = None
        for ridge in ridges:
            W = ridge_weights(A, B, ridge)
            for r in ranks_in:
                missed = (A_valid[:, :r] @ W[:r] - B_valid).square().cumsum(1)
                for q in ranks_out:
                    error = ((missed[:, q - 1] + total[:, q - 1] + rest) / size).sqrt().mean().item()
                    if best is None or error < best[0]:
                        best = (error, r, q, ridge)
        if best is None:
            raise WrongSettings(f"no rank or no ridge to choose from, got ranks {ranks}, ridges {ridges}")
        _, r, q, ridge = best
        model = cls(PODRegressionConfig(x.shape[1], y.shape[1], tuple(x.shape[2:]), r, q, ridge)).to(y)
        model.mean_in.copy_(inputs.mean)
        model.mean_out.copy_(outputs.mean)
        model.encoder.copy_(inputs.vectors[:, :r] / inputs.scale[:, None])
        model.weights.copy_(ridge_weights(A, B, ridge)[:r, :q])
        model.decoder.copy_(outputs.vectors[:, :q].mT * outputs.scale)
        return model

    def forward(self, x: Tensor) -> Tensor:
        """Map fields (B, in_channels, *size) to fields (B, out_channels, *size)."""
        self.check(x)
        coefficients = (x.flatten(1) - self.mean_in) @ self.encoder @ self.weights
        return (coefficients @ self.decoder + self.mean_out).unflatten(
            -1, (self.config.out_channels, *self.config.size)
        )


@final
@dataclass(frozen=True)
class Components:
    """Principal components of fields whose channels are scaled to unit variance; rows are samples.

    Args:
        mean, scale: (C n,).
        vectors: (C n, rank), orthonormal, only those that the samples do determine.
    """

    mean: Tensor
    scale: Tensor
    vectors: Tensor

    @classmethod
    def of(
        cls,
        fields: Tensor,  # (K, C, *space)
    ) -> Self:
        """Return the components of training fields, in double precision."""
        values = fields.detach().flatten(2).double()
        mean = values.mean(0, keepdim=True)
        spread = (values - mean).square().mean((0, 2), keepdim=True).sqrt()
        spread = torch.where(spread > 0, spread, 1.0)
        _, s, Vt = torch.linalg.svd(((values - mean) / spread).flatten(1), full_matrices=False)
        sure = s > 1e-12 * s[0].clamp(min=1e-300)
        return cls(mean.flatten(), spread.expand_as(mean).flatten(), Vt[sure].mT)

    @property
    def rank(self) -> int:
        """How many there are."""
        return self.vectors.shape[1]

    def centre(self, fields: Tensor) -> Tensor:
        """Return scaled differences from the mean, (K, C n)."""
        return (fields.detach().flatten(1).double() - self.mean) / self.scale

    def project(self, fields: Tensor) -> Tensor:
        """Return the components of fields, (K, rank)."""
        return self.centre(fields) @ self.vectors


def ridge_weights(A: Tensor, B: Tensor, ridge: float) -> Tensor:
    """Return W that minimises |A W - B|^2 + ridge s_1^2 |W|^2 for A with orthogonal columns."""
    squares = A.square().sum(0)
    return (A.mT @ B) / (squares + ridge * squares.max())[:, None]


def usable(ranks: Sequence[int], most: int) -> list[int]:
    """Return the ranks that exist, and the largest possible instead of those that are larger.

    >>> usable((2, 8, 32, 64), 20)
    [2, 8, 20]
    """
    return sorted({min(r, most) for r in ranks if r >= 1 and most >= 1})
