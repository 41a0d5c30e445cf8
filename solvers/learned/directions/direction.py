"""A network as a map from residuals to directions, between vectors of unknowns and boxes of cells."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import SPD, LinearOperator
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import MixedDevices, NotSupported, ShapeMismatch
from ....operators.linear.queries import diagonal
from ...krylov.vectors import dot, norm
from ...preconditioners.base import Preconditioner
from ...preconditioners.inverse import Inverse
from .network import FLUID, DirectionNetwork, cell_image


def learned_directions(network: DirectionNetwork) -> Preconditioner:
    """Take directions from a network, for `ConjugateDirections` and `FlexibleCG`; symmetric ones for `CG`.

        f(r) = ||r|| P G^T net(G P r / ||r||)

    G puts a vector on the box and leaves out cells outside of the mask, P projects off the null space (means
    over floating parts). The network works in its own type, float32, whatever that of A; f keeps the scale of
    r. What depends on the cells alone is computed once. A network that is symmetric positive definite
    (`SymmetricMultilevelNetwork`) makes f so: it is tagged SPD, and outside of the mask it divides by the
    diagonal of A, so that CG solves for those unknowns as well.

    Args:
        network: any `DirectionNetwork`, on the device of A.

    Raises:
        NotSupported: on use, for an operator that is not a `Diffusion` on a box in three dimensions with
            Dirichlet or Neumann faces; by methods that need a symmetric preconditioner, for other networks.
        MixedDevices: on use, for a network on another device than A.
        ShapeMismatch: on use, for a network that does not give one value per cell.

    >>> from solvus.meshes import Grid
    >>> from solvus.solvers import FlexibleCG, LinearSystem, solve
    >>> from solvus.solvers.learned.directions import MultilevelNetwork
    >>> A = Diffusion(Grid((16, 16, 16), centring="cell", boundary="neumann"))
    >>> b = A @ torch.linspace(0, 1, 16**3, dtype=torch.float64)
    >>> solve(LinearSystem(A, b), FlexibleCG(learned_directions(MultilevelNetwork()))).status.name
    'CONVERGED'
    """
    return partial(NetworkDirections, network=network)


@final
class NetworkDirections(Inverse):
    """The map that `learned_directions` builds: linear and SPD if the network is."""

    def __init__(self, A: LinearOperator, *, network: DirectionNetwork) -> None:
        if not isinstance(A, Diffusion):
            raise NotSupported(
                f"a direction network works on the cells of a Diffusion on a Grid, this is "
                f"{type(A).__name__}: use FlexibleCG(amg()) or CG(ic0()) for matrices"
            )
        weights = next(network.parameters())
        if weights.device != A.device:
            raise MixedDevices(
                f"the network is on {weights.device}, the operator on {A.device}: move it with "
                f"network.to({str(A.device)!r})"
            )
        super().__init__(A, SPD if network.symmetric else frozenset())
        image = cell_image(A.grid).to(weights)
        self.network, self.kind, self.box = network, weights.dtype, A.grid.shape
        self.fluid = image[0, FLUID, 1:-1, 1:-1, 1:-1].reshape(-1)  # (n,)
        self.outside = None  # ~ 1 / a_ii of unknowns outside of the mask, where f is to be definite
        with torch.no_grad():
            self.prepared = network.prepared(image)
        if network.symmetric and not bool(self.fluid.all()):
            beyond, d = 1 - self.fluid.to(A.dtype), diagonal(A).detach()
            scale = self._mean_eigenvalue((1 - beyond) * d)
            self.outside = beyond * scale / d

    def _mean_eigenvalue(self, weights: Tensor) -> Tensor:
        """Return an estimate of the mean eigenvalue of f diag(weights), from one random vector, (..., 1)."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(*self.batch_shape, self.shape[1], generator=generator).to(weights)
        x = torch.where(weights > 0, x, 0.0)
        y = x * weights.sqrt()
        return dot(y, self.matvec(y)) / dot(x, x)

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write f(x) into out."""
        size = norm(x)
        unit = torch.where(size > 0, x / size, 0.0).to(self.kind) * self.fluid
        with torch.no_grad():
            q = self.network.on_box(unit.reshape(-1, 1, *self.box), self.prepared)
        if q.numel() != x.numel():
            raise ShapeMismatch(
                f"the network gives {tuple(q.shape)} for {x.numel()} cells in boxes of {self.box}: a "
                "direction has one value per cell"
            )
        out.copy_(torch.where(self.fluid > 0, q.reshape(x.shape), 0.0)).mul_(size)
        if self.outside is not None:
            out.addcmul_(self.outside, x)

    def transpose(self) -> LinearOperator:
        """Return f itself where it is symmetric; refuse for other networks."""
        if self.symmetric:
            return self
        raise NotSupported(
            "the directions of a network have no transpose and no gradient: differentiate through `solve`, "
            "which uses the adjoint system"
        )
