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

Widths = Literal["diagonal", "isotropic", "full"]
"""What the width of a Gaussian is: a sigma per coordinate, one sigma, or a matrix."""

WIDTHS: tuple[Widths, ...] = ("diagonal", "isotropic", "full")


@final
@dataclass(frozen=True)
class Gaussians(Architecture):
    """Features phi_k(x) = sum_g w_kg exp(-|A_kg (x - m_kg)|^2 / 2), then a perceptron with one hidden layer.

    Weights w, centres m and widths are trained: A = diag(1 / sigma) with sigma itself the parameter, or a
    full matrix A. sigma enters squared only, so its sign has no meaning; what is applied is
    sqrt(sigma^2 + e) with e the machine epsilon, so that nothing is divided by zero where sigma passes it.
    Time and memory per point grow with features times count.

    Args:
        count: Gaussians per feature; 100 to 4000.
        features: that come out; 4.
        spread: sigma at the start, in a box of [-1, 1]; 0.1, less for more Gaussians.
        widths: "diagonal", a sigma per Gaussian and coordinate, so that bumps can stretch along the axes;
            "isotropic", one sigma per Gaussian; "full", a matrix A per Gaussian, for bumps that turn.
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
    widths: Widths = "diagonal"
    width: int = 16
    normalise: bool = True

    def __post_init__(self) -> None:
        if min(self.count, self.features, self.width) < 1 or not 0 < self.spread < float("inf"):
            raise WrongSettings(f"Gaussians needs sizes of at least 1 and a positive spread, got {self}")
        if self.widths not in WIDTHS:
            raise WrongSettings(f"widths are one of {', '.join(WIDTHS)}, got {self.widths!r}")

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        encoder = Encoder(box, None, self.normalise, generator)
        shape = (self.features * self.count, inputs)
        drawn = torch.rand(shape, generator=generator, dtype=box[0].dtype, device=generator.device)
        lower, upper = ((corner - encoder.centre) * encoder.stretch for corner in box)
        centres = lower + (upper - lower) * drawn.to(lower.device)
        if self.widths == "full":
            eye = torch.eye(inputs, dtype=lower.dtype, device=lower.device)
            widths = (eye / self.spread).repeat(shape[0], 1, 1)
        else:
            widths = lower.new_full((shape[0], 1 if self.widths == "isotropic" else inputs), self.spread)
        weights = normal((self.features, self.count), lower, generator) / self.count**0.5
        dense = [
            Dense((self.width, self.features), lower, generator),
            Dense((outputs, self.width), lower, generator),
        ]
        return Bumps((inputs, outputs), encoder, (centres, widths, weights), dense)


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
        centres, widths, weights = bumps
        self.centres = nn.Parameter(centres)  # (G, D), G = features * count
        self.sigma = nn.Parameter(widths) if widths.ndim == 2 else None  # (G, D) or (G, 1)
        self.inverse = nn.Parameter(widths) if widths.ndim == 3 else None  # A (G, D, D)
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
        away = x.value.unsqueeze(1) - self.centres  # (N, G, D)
        if self.sigma is not None:
            inverse = (self.sigma.square() + torch.finfo(self.sigma.dtype).eps).rsqrt()
            y, slopes = inverse * away, inverse * slopes  # (N, G, D) and (D, G, D)
        else:
            assert self.inverse is not None
            y = torch.einsum("gij,ngj->ngi", self.inverse, away)
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
