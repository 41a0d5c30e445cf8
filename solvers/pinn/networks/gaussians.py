"""Physics-informed Gaussians: bumps that move and change their width, and a small network behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from ..jets import Affine, Jet, Key, activate, layers
from ..jets.activations import EXP, TANH
from ..jets.jet import combined
from .base import Architecture, Box, Network, WrongSettings, normal
from .dense import Dense
from .embeddings import Encoder


@final
@dataclass(frozen=True)
class Gaussians(Architecture):
    """Features phi_k(x) = sum_g w_kg exp(-|A_kg (x - m_kg)|^2 / 2), then a perceptron with one hidden layer.

    Weights w, centres m and widths (A = 1 / sigma, or a full matrix) are trained. Time and memory per point
    grow with features times count.

    Args:
        count: Gaussians per feature; 100 to 4000.
        features: that come out; 4.
        spread: sigma at the start, in a box of [-1, 1]; 0.1, less for more Gaussians.
        widths: "isotropic", a sigma per Gaussian, or "full", a matrix.
        width: of the hidden layer; 16.
        normalise: map the box to [-1, 1] first.

    Source: Kang et al. (2025), "PIG: Physics-Informed Gaussians as Adaptive Parametric Mesh Representations".

    >>> box = torch.zeros(2), torch.ones(2)
    >>> network = Gaussians(count=10).build(2, 1, box, torch.Generator().manual_seed(0))
    >>> network(torch.rand(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """

    count: int = 200
    features: int = 4
    spread: float = 0.1
    widths: Literal["isotropic", "full"] = "isotropic"
    width: int = 16
    normalise: bool = True

    def __post_init__(self) -> None:
        if min(self.count, self.features, self.width) < 1 or not 0 < self.spread < float("inf"):
            raise WrongSettings(f"Gaussians needs sizes of at least 1 and a positive spread, got {self}")
        if self.widths not in ("isotropic", "full"):
            raise WrongSettings(f'widths are "isotropic" or "full", got {self.widths!r}')

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        encoder = Encoder(box, None, self.normalise, generator)
        shape = (self.features * self.count, inputs)
        drawn = torch.rand(shape, generator=generator, dtype=box[0].dtype, device=generator.device)
        lower, upper = ((corner - encoder.centre) * encoder.stretch for corner in box)
        centres = lower + (upper - lower) * drawn.to(lower.device)
        inverse = lower.new_full((shape[0],), 1 / self.spread)
        if self.widths == "full":
            inverse = inverse[:, None, None] * torch.eye(inputs, dtype=lower.dtype, device=lower.device)
        weights = normal((self.features, self.count), lower, generator) / self.count**0.5
        dense = [
            Dense((self.width, self.features), lower, generator),
            Dense((outputs, self.width), lower, generator),
        ]
        return Bumps((inputs, outputs), encoder, (centres, inverse, weights), dense)


@final
class Bumps(Network):
    """The network of `Gaussians`."""

    def __init__(
        self,
        sizes: tuple[int, int],
        encoder: Encoder,
        bumps: tuple[Tensor, Tensor, Tensor],
        dense: list[Dense],
    ) -> None:
        super().__init__(*sizes)
        self.encoder = encoder
        centres, inverse, weights = bumps
        self.centres = nn.Parameter(centres)  # (G, D), G = features * count
        self.inverse = nn.Parameter(inverse)  # 1 / sigma (G,), or A (G, D, D)
        self.weights = nn.Parameter(weights)  # (features, count)
        self.hidden, self.last = dense

    def propagate(self, x: Affine) -> Jet | Affine:
        y = self.encoder(x)
        assert isinstance(y, Affine)
        bumps = activate(self.exponent(y), EXP)
        rows = bumps.rows.unflatten(-1, self.weights.shape)  # (K, N, features, count)
        jet = Jet(x.plan, (rows * self.weights).sum(-1))
        return layers(jet, [self.hidden.used()], TANH, last=self.last.used())

    def exponent(self, x: Affine) -> Jet:
        """Return the jet of q = -|A (x - m)|^2 / 2, (N, G): quadratic, nothing is left beyond order two."""
        slopes = x.slopes.unsqueeze(1)  # (D, 1, D): the coordinates' derivatives
        if self.inverse.ndim == 1:
            y = self.inverse[:, None] * (x.value.unsqueeze(1) - self.centres)  # (N, G, D)
            slopes = self.inverse[:, None] * slopes  # (D, G, D)
        else:
            y = torch.einsum("gij,ngj->ngi", self.inverse, x.value.unsqueeze(1) - self.centres)
            slopes = torch.einsum("gij,dgj->dgi", self.inverse, slopes.expand(-1, len(self.inverse), -1))
        parts: dict[Key, Tensor] = {(): -0.5 * y.square().sum(-1)}
        zero = torch.zeros_like(parts[()])
        for key in x.plan.rows:
            if len(key) == 1:
                parts[key] = -(y * slopes[key[0]]).sum(-1)
            elif len(key) == 2:
                parts[key] = zero - (slopes[key[0]] * slopes[key[1]]).sum(-1)
        if not x.plan.laplacian:
            return combined(x.plan, parts)
        return combined(x.plan, parts, zero - slopes[list(x.plan.laplacian)].square().sum((0, -1)))
