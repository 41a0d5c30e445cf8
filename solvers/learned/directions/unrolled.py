"""A few steps of conjugate gradients with a network inside, to train through."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from ....operators.linear.errors import NotSupported
from .losses import graph_laplacian
from .network import FLUID, DirectionNetwork


@final
class UnrolledCG(nn.Module):
    """Return what so many steps of preconditioned CG make of A x = r from zero, for `EnergyLeft`.

    One step gives the direction of the network itself, up to its length. More of them show the network the
    residuals that its own directions leave: a few bad eigenvalues of M A, which a mean over one step hides,
    are what those consist of.

    Args:
        network: symmetric positive definite.
        steps: of CG; 5. A training step costs about as many times as much.

    Raises:
        ValueError: steps < 1.
        NotSupported: a network that is not symmetric.

    >>> from solvus.meshes import Grid
    >>> from solvus.solvers.learned.directions import EnergyLeft, KnownErrors, SymmetricMultilevelNetwork
    >>> (r, image), target = KnownErrors([Grid((8, 8, 8), centring="cell", boundary="neumann")], 1)[0]
    >>> left = [
    ...     EnergyLeft()(UnrolledCG(SymmetricMultilevelNetwork(), k)(r[None], image[None]), target[None])
    ...     for k in (1, 3)
    ... ]
    >>> bool(left[1] < 0.1 * left[0])
    True
    """

    def __init__(self, network: DirectionNetwork, steps: int = 5) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"at least 1 step of CG is unrolled, got {steps}")
        if not network.symmetric:
            raise NotSupported(
                f"{type(network).__name__} is not symmetric, CG does not take it: train it on single steps"
            )
        self.network, self.steps = network, steps

    def forward(self, r: Tensor, image: Tensor) -> Tensor:
        """Return the iterate (B, 1, X, Y, Z) for right-hand sides and images of their cells."""
        fluid = image[:, FLUID : FLUID + 1, 1:-1, 1:-1, 1:-1]
        prepared = self.network.prepared(image)
        x = torch.zeros_like(r)
        z = self.network.on_box(r, prepared) * fluid
        p, rz = z, _dot(r, z)
        for step in range(self.steps):
            q = graph_laplacian(image, p)
            length = _ratio(rz, _dot(p, q))
            x, r = x + length * p, r - length * q
            if step < self.steps - 1:
                z = self.network.on_box(r, prepared) * fluid
                rz, rz_old = _dot(r, z), rz
                p = z + _ratio(rz, rz_old) * p
        return x


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum((1, 2, 3, 4), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    sound = b > torch.finfo(b.dtype).tiny
    return torch.where(sound, a / torch.where(sound, b, 1.0), 0.0)
