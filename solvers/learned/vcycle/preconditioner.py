"""A V-cycle whose transfers and smoothers a network sets, as a preconditioner that plain CG may use."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import SPD, LinearOperator
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import NotSupported
from ...multigrid.geometric import Cycle, Smoothing
from ...multigrid.hierarchy import Level, Work, dense_inverse
from ...multigrid.islands import Islands
from ...multigrid.transfer import OperatorTransfer
from ...preconditioners.base import Preconditioner
from ...preconditioners.inverse import Inverse
from .levels import NotFinite, learned_levels
from .network import VCycleNetwork

_DEFAULT_ISLANDS = Islands()


@final
class LearnedVCycle(Inverse):
    """One multigrid cycle from a zero guess, its weights set by a network at set-up.

    Coarse operators are P^T A P, smoothing is symmetric and convergent for every output of the network, the
    bottom is solved exactly: the operator is symmetric positive definite whatever the network says. A network
    that fails is not used: where its numbers are not finite, or r.M r > 0 does not hold for a random r, the
    cycle is built without it, and `fallback` says why.

    Args:
        A: a `Diffusion` on a grid without periodic axes, of any size, batch, centring, mask.
        network: what sets the weights; None for the classical cycle.
        cycle: "V" or "W".
        branching: how many levels, from the top, send a W-cycle to the next one twice.
        bottom: solve exactly by a dense inverse from this many unknowns on.
        islands: how to find the groups to deflate; None for no deflation.
        dtype: type of the cycle.
        probes: random vectors to test for r.M r > 0.

    Raises:
        NotSupported: A is no `Diffusion`, has periodic axes or another dimension than the network; F-cycle.
    """

    fallback: str | None

    def __init__(
        self,
        A: LinearOperator,
        network: VCycleNetwork | None,
        *,
        cycle: Cycle | str = Cycle.V,
        branching: int = 2,
        bottom: int = 300,
        islands: Islands | None = _DEFAULT_ISLANDS,
        dtype: torch.dtype = torch.float32,
        probes: int = 1,
    ) -> None:
        if not isinstance(A, Diffusion):
            raise NotSupported(f"a learned cycle needs a Diffusion, got {type(A).__name__}: use amg() for it")
        if network is not None and network.config.dim != A.grid.dim:
            raise NotSupported(
                f"the network is for {network.config.dim} axes, the grid has {A.grid.dim}: train one for it"
            )
        self.cycle = Cycle(cycle)
        if self.cycle is Cycle.F:
            raise NotSupported("a learned F-cycle is not symmetric: use cycle='V' or 'W'")
        super().__init__(A, SPD)
        self.grid_shape, self.branching, self.dtype_inside = A.grid.shape, branching, dtype
        self.weights = Smoothing(lower=0.25 if A.grid.dim < 3 else 1 / 6).weights()
        self.fallback = None
        build = partial(learned_levels, A, bottom=bottom, islands=islands, dtype=dtype)
        try:
            self._take(build(network), A)
            if network is not None and not self._positive(probes):
                self.fallback = "r.Mr > 0 failed for a random r"
        except NotFinite as error:
            self.fallback = str(error)
        if self.fallback is not None:
            self._take(build(None), A)

    def _take(self, levels: list[Level], A: Diffusion) -> None:
        self.levels = levels
        self.inverse = dense_inverse(
            levels[-1].stencil, self.dtype_inside, device=A.device, nullspace=A.nullspace
        )
        self._work: list[Work] = []

    def _positive(self, probes: int) -> bool:
        """Whether r.M r > 0 for some random r."""
        generator = torch.Generator().manual_seed(0)
        for _ in range(probes):
            r = torch.randn(*self.batch_shape, self.shape[1], generator=generator).to(self.device, self.dtype)
            if not bool(((r * self.matvec(r)).sum(-1) > 0).all()):
                return False
        return True

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write one cycle applied to x into out."""
        lead = tuple(x.shape[:-1])
        if not self._work or tuple(self._work[0].b.shape[:-1]) != lead:
            self._work = [Work.of(level, lead, self.inverse) for level in self.levels]
        inside = self.levels[0].stencil.layout.inside
        inside(self._work[0].b).copy_(x.view(*lead, *self.grid_shape))
        out.view(*lead, *self.grid_shape).copy_(inside(self._descend(0, self.cycle, None)))

    def _descend(self, k: int, cycle: Cycle, start: Tensor | None) -> Tensor:
        """Improve the solution on level k for its right-hand side; return the vector that holds it."""
        level, work = self.levels[k], self._work[k]
        stencil, b, transfer = level.stencil, work.b, level.transfer
        if transfer is None:
            inside = stencil.layout.inside
            flat = inside(b).reshape(*b.shape[:-1], -1)
            solved = torch.matmul(self.inverse, flat.unsqueeze(-1)).squeeze(-1)
            inside(work.x).copy_(solved.reshape(*b.shape[:-1], *stencil.layout.shape))
            return work.x
        assert isinstance(transfer, OperatorTransfer)
        x, y = (work.y, work.x) if start is work.y else (work.x, work.y)
        for sweep, weight in enumerate(self.weights):
            if sweep == 0 and start is None:
                stencil.smooth_zero(b, x, weight)
            else:
                stencil.smooth(b, x, y, weight)
                x, y = y, x
        r, deflation = stencil.residual(b, x, y), level.deflation
        coefficients = None if deflation is None else deflation.before(r)
        transfer.restrict(r, self._work[k + 1].b)
        correction = self._descend(k + 1, cycle, None)
        if self.levels[k + 1].transfer is not None and cycle is Cycle.W and k < self.branching:
            correction = self._descend(k + 1, cycle, correction)
        x.add_(transfer.prolong(correction, y))
        if deflation is not None and coefficients is not None:
            deflation.after(coefficients, y, x)
        for weight in reversed(self.weights):
            stencil.smooth(b, x, y, weight)
            x, y = y, x
        return x

    def __repr__(self) -> str:
        rows = [f"{'x'.join(map(str, level.stencil.layout.shape)):>14}" for level in self.levels]
        note = f", network not used: {self.fallback}" if self.fallback else ""
        return f"LearnedVCycle({self.cycle}-cycle, {len(rows)} levels{note})\n" + "\n".join(rows)


def learned_vcycle(
    part: VCycleNetwork | str | Path | None,
    *,
    cycle: Cycle | str = Cycle.V,
    branching: int = 2,
    bottom: int = 300,
    islands: Islands | None = _DEFAULT_ISLANDS,
    dtype: torch.dtype = torch.float32,
    probes: int = 1,
) -> Preconditioner:
    """Return the preconditioner that applies one learned cycle; see `LearnedVCycle`.

    Args:
        part: a network, or the folder that one was saved in; None for the classical cycle.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers import CG, LinearSystem, solve
    >>> A = Diffusion(Grid((31, 31)))
    >>> b = torch.ones(961, dtype=torch.float64)
    >>> solve(LinearSystem(A, b), CG(learned_vcycle(VCycleNetwork()))).status.name
    'CONVERGED'
    """
    network = VCycleNetwork.load(part) if isinstance(part, str | Path) else part
    return partial(
        LearnedVCycle,
        network=network,
        cycle=cycle,
        branching=branching,
        bottom=bottom,
        islands=islands,
        dtype=dtype,
        probes=probes,
    )
