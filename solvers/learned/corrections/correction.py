"""A network as a map from residuals to corrections, for methods that take any preconditioner."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import LinearOperator
from ....operators.linear.errors import MixedDevices, NotSupported, ShapeMismatch
from ...krylov.vectors import dot, norm
from ...preconditioners.base import Preconditioner
from ...preconditioners.inverse import Inverse
from .network import CorrectionNetwork
from .stencil import stencil_channels

_DAMPING = 0.8


def learned_correction(network: CorrectionNetwork | str | Path, *, sweeps: int = 2) -> Preconditioner:
    """Take corrections from a network: for `FlexibleCG`, `FGMRES`, `ConjugateDirections` and `Hybrid`.

        z = ||r|| net(r / ||r||, stencil of A),  z <- z (z.r) / (z.A z),  z <- z + 0.8 D^-1 (r - A z)

    the last one `sweeps` times: damped Jacobi after the network, so that a step M(r) lowers the energy of the
    error at least as much as a line search along the network's direction does. Without sweeps z is the
    network's, and `FlexibleCG` may stall where that is bad. The network works in its own type, float32,
    whatever that of A; its features are computed once. Means over floating parts are removed. Where it
    returns NaN or infinity for a sample, that sample gets D^-1 r in its place. M is not linear and not
    symmetric: plain `CG` and `MINRES` refuse it.

    Args:
        network: on the device of A; or the folder that one was saved in.
        sweeps: of damped Jacobi after the network; 0 for the network alone, as `Hybrid` wants it.

    Raises:
        ValueError: sweeps < 0.
        NotSupported: on use, for an operator that is not a `Diffusion` of the network's dimension without
            periodic axes; by methods that need a symmetric preconditioner.
        WrongResolution: on use, for a grid that is too coarse for the network.
        MixedDevices: on use, for a network on another device than A.

    Source: Rudikov et al., Neural operators meet conjugate gradients: the FCG-NO method, ICML 2024,
    arXiv 2402.05598.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers import FlexibleCG, LinearSystem, solve
    >>> system = LinearSystem(Diffusion(Grid((40, 33))), torch.ones(1320, dtype=torch.float64))
    >>> solve(system, FlexibleCG(learned_correction(CorrectionNetwork()))).status.name
    'CONVERGED'
    """
    if sweeps < 0:
        raise ValueError(f"sweeps after the network are not negative, got {sweeps}: 0 to 4 are useful")
    part = network if isinstance(network, CorrectionNetwork) else CorrectionNetwork.load(network)
    return partial(NetworkCorrection, network=part, sweeps=sweeps)


@final
class NetworkCorrection(Inverse):
    """The map that `learned_correction` builds: homogeneous, neither linear nor symmetric in general."""

    def __init__(self, A: LinearOperator, *, network: CorrectionNetwork, sweeps: int = 2) -> None:
        stencil = stencil_channels(A)
        dim = stencil.ndim - 2
        if network.config.dim != dim:
            raise NotSupported(
                f"the network is for {network.config.dim} axes, the grid has {dim}: train one for it, or use "
                "CG(multigrid())"
            )
        weights = next(network.parameters())
        if weights.device != A.device:
            raise MixedDevices(
                f"the network is on {weights.device}, the operator on {A.device}: move it with "
                f"network.to({str(A.device)!r})"
            )
        self.box = tuple(stencil.shape[2:])
        network.operator.check_resolution(self.box)
        super().__init__(A)
        self.A, self.network, self.sweeps = A, network, sweeps
        self.inverse = stencil[:, 0].reshape(*self.batch_shape, -1).reciprocal()  # (..., n), of the diagonal
        scale = stencil[:, :1].amax(tuple(range(1, stencil.ndim)), keepdim=True)  # float32 may be too narrow
        self.scale = scale.reshape(*self.batch_shape, 1)
        self.stencil = (stencil / scale).to(weights.dtype)
        with torch.no_grad():
            self.features = network.features(self.stencil)

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write M(x) into out."""
        size = norm(x)
        unit = torch.where(size > 0, x / size, 0.0)
        fields = unit.reshape(-1, 1, *self.box).to(self.stencil.dtype)
        count = len(fields) // len(self.stencil)  # right-hand sides per operator, the batch of A innermost
        stencil, features = (t.repeat(count, *[1] * (t.ndim - 1)) for t in (self.stencil, self.features))
        with torch.no_grad():
            given = self.network.correct(fields, stencil, features)
        if given.numel() != x.numel():
            raise ShapeMismatch(
                f"the network gave {tuple(given.shape)} for a residual of {tuple(fields.shape)}: one "
                "value per unknown"
            )
        z = given.reshape(x.shape).to(x.dtype) / self.scale
        sound = torch.isfinite(norm(z))
        z = torch.where(sound, z, self.inverse * unit)
        if self.sweeps:
            curvature = dot(z, self.A.matvec(z))
            z = z * torch.where(curvature > 0, dot(z, unit) / curvature, 0.0)
        for _ in range(self.sweeps):
            z = torch.addcmul(z, self.inverse, unit - self.A.matvec(z), value=_DAMPING)
        torch.mul(z, size, out=out)

    def transpose(self) -> LinearOperator:
        """Refuse: the map is not linear."""
        raise NotSupported(
            "the corrections of a network have no transpose and no gradient: differentiate through `solve`, "
            "which uses the adjoint system"
        )
