"""The modified perceptron: every layer is mixed with two encodings of the input."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import nn

from ..jets import Activation, Affine, Jet, add, layers, linear, product, subtract
from .base import Architecture, Box, Network
from .dense import Dense, Slope
from .embeddings import Embedding, Encoder
from .mlp import activation_named, check_sizes


@final
@dataclass(frozen=True)
class ModifiedMLP(Architecture):
    """A perceptron with gates: U = s(A x), V = s(B x), h <- f U + (1 - f) V with f = s(W h + b).

    Args:
        width: neurons of a hidden layer; 64 to 256.
        depth: hidden layers; 3 to 5.
        activation: tanh, sin, cos, silu, softplus, gaussian, or relu for first derivatives alone.
        embedding: of the coordinates; Fourier features are the largest lever for high frequencies.
        normalise: map the box to [-1, 1] first.
        slope: as of `MLP`.

    Source: Wang, Teng, Perdikaris (2021).

    >>> box = torch.zeros(2), torch.ones(2)
    >>> network = ModifiedMLP(width=8, depth=2).build(2, 1, box, torch.Generator().manual_seed(0))
    >>> network(torch.rand(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """

    width: int = 64
    depth: int = 4
    activation: str = "tanh"
    embedding: Embedding | tuple[Embedding, ...] | None = None
    normalise: bool = True
    slope: Slope | None = None

    def __post_init__(self) -> None:
        check_sizes(self.width, self.depth, self.activation, self.slope)

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        encoder = Encoder(box, self.embedding, self.normalise, generator)
        gates = [Dense((self.width, encoder.width), box[0], generator, self.slope) for _ in range(2)]
        widths = [encoder.width, *[self.width] * self.depth]
        hidden = [Dense((m, n), box[0], generator, self.slope) for n, m in pairwise(widths)]
        last = Dense((outputs, self.width), box[0], generator)
        return Gated((inputs, outputs), encoder, gates, [*hidden, last], activation_named(self.activation))


@final
class Gated(Network):
    """The network of `ModifiedMLP`."""

    def __init__(
        self,
        sizes: tuple[int, int],
        encoder: Encoder,
        gates: list[Dense],
        dense: list[Dense],
        activation: Activation,
    ) -> None:
        super().__init__(*sizes)
        self.encoder, self.activation = encoder, activation
        self.gates, self.hidden, self.last = nn.ModuleList(gates), nn.ModuleList(dense[:-1]), dense[-1]

    def propagate(self, x: Affine) -> Jet | Affine:
        h = self.encoder(x)
        u, v = (layers(h, [gate.used()], self.activation) for gate in self.gates if isinstance(gate, Dense))
        difference = subtract(u, v)
        for layer in self.hidden:
            assert isinstance(layer, Dense)
            h = add(v, product(layers(h, [layer.used()], self.activation), difference))
        return linear(h, *self.last.used())
