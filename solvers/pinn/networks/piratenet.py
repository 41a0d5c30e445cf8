"""PirateNet: residual blocks that start as the identity, so that depth does no harm at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..errors import WrongShape
from ..jets import Activation, Affine, Jet, add, coordinates, layers, linear, product, scale, subtract
from ..jets.jet import written_out
from .base import VALUE, Architecture, Box, Network
from .dense import Dense, Slope
from .embeddings import Embedding, Encoder, Fourier
from .mlp import activation_named, check_sizes

FEATURES = Fourier(32)
RCOND = 1e-5  # of the largest singular value: directions below are not used to fit the last layer


@final
@dataclass(frozen=True)
class PirateNet(Architecture):
    """Blocks x <- a h + (1 - a) x, a = 0 at the start, h three gated layers on x.

    f = s(W_1 x), z = f U + (1 - f) V; g = s(W_2 z), z' = g U + (1 - g) V; h = s(W_3 z'), with gates U and V
    as of `ModifiedMLP`. At the start the output is linear in the embedding, and `fit_last` can set it to
    given data by least squares. Training does so where values at the start of time are prescribed: the
    network starts as these values at all times, see `start_from_initial_values`.

    Args:
        width: neurons; the embedding is brought to this width by a linear layer unless it has it.
        blocks: of three layers each; 1 to 4.
        activation: tanh, sin, cos, silu, softplus, gaussian, or relu for first derivatives alone.
        embedding: of the coordinates; the source uses random Fourier features.
        normalise: map the box to [-1, 1] first.
        slope: as of `MLP`; "factorised", as in the source, for all layers, the first and the last too. None
            for plain weights.

    Source: Wang, Li, Chen, Perdikaris (2024).

    >>> box = torch.zeros(2), torch.ones(2)
    >>> settings = PirateNet(width=16, blocks=1, embedding=Fourier(8))
    >>> network = settings.build(2, 1, box, torch.Generator().manual_seed(0))
    >>> network(torch.rand(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """

    width: int = 64
    blocks: int = 3
    activation: str = "tanh"
    embedding: Embedding | tuple[Embedding, ...] | None = FEATURES
    normalise: bool = True
    slope: Slope | None = "factorised"

    def __post_init__(self) -> None:
        check_sizes(self.width, self.blocks, self.activation, self.slope)

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        def dense(outputs: int, inputs: int, slope: Slope | None = self.slope) -> Dense:
            return Dense((outputs, inputs), box[0], generator, slope)

        encoder = Encoder(box, self.embedding, self.normalise, generator)
        ends = self.slope if self.slope == "factorised" else None  # layers without an activation
        enter = dense(self.width, encoder.width, ends) if encoder.width != self.width else None
        gates = [dense(self.width, self.width) for _ in range(2)]
        hidden = [dense(self.width, self.width) for _ in range(3 * self.blocks)]
        chain = [*gates, *hidden, dense(outputs, self.width, ends)]
        return Residual((inputs, outputs), encoder, enter, chain, activation_named(self.activation))


@final
class Residual(Network):
    """The network of `PirateNet`."""

    def __init__(
        self,
        sizes: tuple[int, int],
        encoder: Encoder,
        enter: Dense | None,
        dense: list[Dense],
        activation: Activation,
    ) -> None:
        super().__init__(*sizes)
        self.encoder, self.enter, self.activation = encoder, enter, activation
        self.gates, self.hidden, self.last = nn.ModuleList(dense[:2]), nn.ModuleList(dense[2:-1]), dense[-1]
        self.share = nn.Parameter(dense[0].weight.new_zeros(len(dense) // 3 - 1))

    def features(self, x: Affine) -> Jet | Affine:
        """Return what the last layer is applied to."""
        h = self.encoder(x)
        if self.enter is not None:
            h = linear(h, *self.enter.used())
        u, v = (layers(h, [gate.used()], self.activation) for gate in self.gates if isinstance(gate, Dense))
        difference = subtract(u, v)
        inner = [layer.used() for layer in self.hidden if isinstance(layer, Dense)]
        for k, share in enumerate(self.share.unbind()):
            f = layers(h, [inner[3 * k]], self.activation)
            g = layers(add(v, product(f, difference)), [inner[3 * k + 1]], self.activation)
            new = layers(add(v, product(g, difference)), [inner[3 * k + 2]], self.activation)
            h = add(scale(subtract(new, h), share), h)
        return h

    def propagate(self, x: Affine) -> Jet | Affine:
        return linear(self.features(x), *self.last.used())

    @torch.no_grad()
    def fit_last(self, points: Tensor, values: Tensor, columns: Sequence[int] | None = None) -> None:
        """Set the last layer by least squares, such that outputs at points (M, D) are values (M, C).

        Singular values below 1e-5 of the largest are left out: smooth features are almost dependent, and
        huge weights that cancel each other would be no start for a training.

        Args:
            points: more than the width of the network.
            values: one column per output.
            columns: numbers of the outputs; None for all. The others stay as they are.

        Raises:
            WrongShape: the values are not one row of outputs per point.
        """
        chosen = list(range(self.outputs)) if columns is None else list(columns)
        if values.shape != (len(points), len(chosen)):
            raise WrongShape(
                f"fit_last takes values ({len(points)}, {len(chosen)}) at these points, got "
                f"{tuple(values.shape)}"
            )
        features = written_out(self.features(coordinates(points, VALUE))).value
        middle, mean = features.mean(0), values.mean(0)
        matrix, wanted = (features - middle).cpu(), (values - mean).cpu()
        found = torch.linalg.lstsq(matrix, wanted, rcond=RCOND, driver="gelsd").solution.to(features)
        weight, bias = (part.clone() for part in self.last.used())
        weight[chosen], bias[chosen] = found.T, mean - middle @ found
        self.last.use(weight, bias)
