"""The network that writes a sparse factor: messages between the unknowns along the entries of the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..part import LearnedPart
from .factored import Pattern
from .graph import MatrixGraph, Start


@final
@dataclass(frozen=True)
class SparseInverseConfig:
    """Settings of `SparseInverseNetwork`.

    Args:
        width: channels of unknowns and edges; 16 published.
        layers: of message passing; 4 published.
        pattern: where L may have entries, see `Pattern`.
        start: what an untrained network leaves, see `Start`.
        eps: share of the identity in M, > 0; 3e-3 published.
        bound: an entry of L differs from that of the start by less than this.

    Raises:
        ValueError: settings out of range.
    """

    width: int = 16
    layers: int = 4
    pattern: str = "lower"
    start: str = "identity"
    eps: float = 3e-3
    bound: float = 8.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", str(Pattern(self.pattern)))
        object.__setattr__(self, "start", str(Start(self.start)))
        if self.start == Start.FACTORED and self.pattern == Pattern.FULL:
            raise ValueError("the factored inverse is triangular: start from 'identity', or choose 'lower'")
        if self.width < 1 or self.layers < 0:
            raise ValueError(f"needs width >= 1 and layers >= 0, got {self.width} and {self.layers}")
        if not (0 < self.eps < 1 and 0 < self.bound < float("inf")):
            raise ValueError(
                f"needs 0 < eps < 1, which makes M positive definite, and a positive bound, got {self.eps} "
                f"and {self.bound}"
            )


@final
class _Layer(nn.Module):
    """One round: unknowns look at the mean of their edges, then edges at their two ends."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edge = nn.Linear(width, width)
        self.from_row = nn.Linear(width, width, bias=False)
        self.from_col = nn.Linear(width, width, bias=False)
        self.node = nn.Linear(width, width)
        self.gathered = nn.Linear(width, width, bias=False)

    def forward(
        self,
        h: Tensor,  # (n, width)
        e: Tensor,  # (E, width)
        graph: MatrixGraph,
        share: Tensor,  # (n, 1), 1 / degree
    ) -> tuple[Tensor, Tensor]:
        """Return the next state of unknowns and edges."""
        mean = torch.zeros_like(h).index_add(0, graph.rows, e) * share
        h = h + (self.node(h) + self.gathered(mean)).relu()
        ends = self.from_row(h).index_select(0, graph.rows) + self.from_col(h).index_select(0, graph.cols)
        return h, e + (self.edge(e) + ends).relu()


@final
class SparseInverseNetwork(LearnedPart):
    """A small graph network, the same for all matrices, evaluated once per matrix.

    The head starts at zero: an untrained network gives L = Id, which is Jacobi's method, or the factored
    inverse.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers.learned.sparse_inverse.graph import matrix_graph
    >>> network = SparseInverseNetwork()
    >>> network.parameter_count, network(matrix_graph(Diffusion(Grid((3, 3))), "lower")).sum().item()
    (5578, 9.0)
    """

    Config = SparseInverseConfig
    config: SparseInverseConfig

    def __init__(self, config: SparseInverseConfig | None = None) -> None:
        super().__init__(config or SparseInverseConfig())
        width = self.config.width
        features = MatrixGraph.EDGE_FEATURES + (self.config.start == Start.FACTORED)
        self.lift_node = nn.Linear(MatrixGraph.NODE_FEATURES, width)
        self.lift_edge = nn.Linear(features, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(self.config.layers))
        self.head = nn.Linear(width + features, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, graph: MatrixGraph) -> Tensor:
        """Return the entries of L at `graph.kept`, for the scaled matrix."""
        kind = self.head.weight
        share = torch.bincount(graph.rows, minlength=graph.n).clamp(min=1)[:, None].to(kind).reciprocal()
        features = graph.edge.to(kind)
        h, e = self.lift_node(graph.node.to(kind)), self.lift_edge(features)
        for layer in self.layers:
            h, e = layer(h, e, graph, share)
        raw = self.head(torch.cat([e, features], dim=1).index_select(0, graph.kept)).squeeze(1)
        bound = self.config.bound
        return graph.start.to(kind) + bound * (raw / bound).tanh()
