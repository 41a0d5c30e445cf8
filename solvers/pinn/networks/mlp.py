"""The plain network: linear layers and an activation between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import nn

from ..jets import ACTIVATIONS, Activation, Affine, Jet, layers
from .base import Architecture, Box, Network, WrongSettings
from .dense import SLOPES, Dense, Slope
from .embeddings import Embedding, Encoder


@final
@dataclass(frozen=True)
class MLP(Architecture):
    """A perceptron: x -> W_n s(... s(W_1 x + b_1) ...) + b_n. Glorot normal weights, zero biases.

    Args:
        width: neurons of a hidden layer; 32 to 256.
        depth: hidden layers; 3 to 6.
        activation: tanh, sin, cos, silu, softplus, gaussian, or relu for first derivatives alone.
        embedding: of the coordinates, one or several after each other.
        normalise: map the box to [-1, 1] first.
        separate: a network of its own for every output.
        slope: train a slope of the activation per "layer" or "neuron", or "factorised" weights.

    >>> box = torch.zeros(2), torch.ones(2)
    >>> network = MLP(width=8, depth=2).build(2, 1, box, torch.Generator().manual_seed(0))
    >>> network(torch.rand(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """

    width: int = 64
    depth: int = 4
    activation: str = "tanh"
    embedding: Embedding | tuple[Embedding, ...] | None = None
    normalise: bool = True
    separate: bool = False
    slope: Slope | None = None

    def __post_init__(self) -> None:
        check_sizes(self.width, self.depth, self.activation, self.slope)

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        encoder = Encoder(box, self.embedding, self.normalise, generator)
        widths = [encoder.width, *[self.width] * self.depth, 1 if self.separate else outputs]
        front = (outputs,) if self.separate else ()
        dense = [
            Dense((*front, m, n), box[0], generator, self.slope if k < self.depth else None)
            for k, (n, m) in enumerate(pairwise(widths))
        ]
        return Perceptron((inputs, outputs), encoder, dense, activation_named(self.activation))


@final
class Perceptron(Network):
    """The network of `MLP`."""

    def __init__(
        self, sizes: tuple[int, int], encoder: Encoder, dense: list[Dense], activation: Activation
    ) -> None:
        super().__init__(*sizes)
        self.encoder, self.activation = encoder, activation
        self.hidden, self.last = nn.ModuleList(dense[:-1]), dense[-1]

    def propagate(self, x: Affine) -> Jet | Affine:
        weights = [layer.used() for layer in self.hidden if isinstance(layer, Dense)]
        jet = layers(self.encoder(x), weights, self.activation, last=self.last.used())
        if isinstance(jet, Jet) and jet.rows.ndim == 4:  # (K, outputs, N, 1), a network per output
            return Jet(jet.plan, jet.rows[..., 0].mT)
        return jet


def check_sizes(width: int, depth: int, activation: str, slope: str | None = None) -> None:
    """Raise WrongSettings for sizes below 1, an unknown activation or an unknown slope."""
    if width < 1 or depth < 1:
        raise WrongSettings(f"width and depth are at least 1, got {width} and {depth}")
    activation_named(activation)
    if slope is not None and slope not in SLOPES:
        raise WrongSettings(f"slope is None or one of {', '.join(SLOPES)}, got {slope!r}")


def activation_named(name: str) -> Activation:
    """Return an activation.

    Raises:
        WrongSettings: there is none of this name.
    """
    if name not in ACTIVATIONS:
        raise WrongSettings(f"there is no activation {name!r}: there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
