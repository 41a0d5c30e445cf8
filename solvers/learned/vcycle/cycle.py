"""A compiled multigrid cycle whose settings a network chooses, as a preconditioner that plain CG may use."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from ....meshes.grid import Boundary
from ....operators.linear.base import SPD, LinearOperator
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import NotSupported
from ...multigrid.geometric import Cycle, GeometricMultigrid, Smoothing
from ...multigrid.islands import Islands
from ...preconditioners.base import Preconditioner
from ...preconditioners.inverse import Inverse
from .choice import CycleSettings
from .chooser import CycleChooser, features
from .packed import Packed

_DEFAULT_ISLANDS = Islands()


@final
class LearnedCycle(Inverse):
    """One multigrid cycle from a zero guess, compiled whole, with settings that a network chose for A.

    Symmetric positive definite for every choice. Without a network, and where the compiled cycle does not
    apply, it is the classical W-cycle of `multigrid`, to the last bit. A chooser that fails is not used:
    where its scores are not finite, or r.M r > 0 does not hold for a random r, the classical W-cycle takes
    over; `fallback` says why.

    Args:
        A: a `Diffusion` on a grid of any size, centring, mask.
        chooser: the network; None for the classical cycle.
        settings: to use in place of a choice.
        bottom: solve exactly by a dense inverse from this many unknowns on.
        islands: how to find the groups to deflate; None for no deflation.
        dtype: type of the cycle; None: float32, or what `multigrid` takes where it is used.
        packed: the hierarchy of A, where it is there already.

    Attributes:
        settings: those of the cycle; None where the classical one is used.
        fallback: why the compiled cycle is not used, or None.
    """

    fallback: str | None
    settings: CycleSettings | None

    def __init__(
        self,
        A: LinearOperator,
        chooser: CycleChooser | None,
        *,
        settings: CycleSettings | None = None,
        bottom: int = 300,
        islands: Islands | None = _DEFAULT_ISLANDS,
        dtype: torch.dtype | None = None,
        packed: Packed | None = None,
    ) -> None:
        if not isinstance(A, Diffusion):
            raise NotSupported(f"a learned cycle needs a Diffusion, got {type(A).__name__}: use amg() for it")
        super().__init__(A, SPD)
        self.settings, self.classical = None, None
        self.fallback = "no network was given" if chooser is None and settings is None else _unfit(A, bottom)
        if self.fallback is None:
            short = np.float64 if dtype == torch.float64 else np.float32
            self.packed = packed or Packed(A, bottom, islands, short)
            self.fallback = self._choose(chooser, settings)
        if self.fallback is not None:
            self.settings = None
            self.classical = GeometricMultigrid(A, cycle=Cycle.W, bottom=bottom, islands=islands, dtype=dtype)

    def _choose(self, chooser: CycleChooser | None, settings: CycleSettings | None) -> str | None:
        """Take the settings, or those that the network chooses; return what went wrong."""
        if settings is None and chooser is not None:
            settings = chooser.choose(features(self.packed))
        if settings is None:
            return "the network gave NaN or infinite numbers"
        self.settings = settings
        self.weights = self.packed.sweeps(
            Smoothing(lower=0.25 if len(self.packed.stencils[0].layout.shape) < 3 else 1 / 6).weights()
        )
        self.program, self.factors = settings.program(len(self.packed.stencils) - 1)
        return None if self._positive() else "r.Mr > 0 failed for a random r"

    def _positive(self) -> bool:
        """Whether r.M r > 0 for a random r."""
        r = torch.randn(self.shape[1], generator=torch.Generator().manual_seed(0)).to(self.dtype)
        return bool((r * self.matvec(r)).sum() > 0)

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write one cycle applied to x into out."""
        if self.classical is not None:
            self.classical.apply(x, out)
            return
        for given, result in zip(x.reshape(-1, x.shape[-1]), out.view(-1, x.shape[-1]), strict=True):
            self.packed.run(
                self.weights, self.program, self.factors, given.numpy(), result.numpy(), self.packed.rows
            )

    def __repr__(self) -> str:
        if self.classical is not None:
            return f"LearnedCycle(classical: {self.fallback})\n{self.classical!r}"
        rows = [f"{'x'.join(map(str, stencil.layout.shape)):>14}" for stencil in self.packed.stencils]
        return f"LearnedCycle({self.settings}, {len(rows)} levels)\n" + "\n".join(rows)


def _unfit(A: Diffusion, bottom: int) -> str | None:
    """Return why the compiled cycle does not apply to A, or None."""
    if A.batch_shape or A.device.type != "cpu":
        return "the compiled cycle treats one system on the CPU"
    if Boundary.PERIODIC in (low for low, _ in A.grid.boundary):
        return "the compiled cycle does not know periodic axes"
    if A.constant and A.grid.mask is None:
        return "constant coefficients on a full box: nothing to choose"
    return "too small for levels" if A.grid.size <= bottom or min(A.grid.shape) <= 2 else None


def learned_cycle(
    part: CycleChooser | str | Path | None,
    *,
    bottom: int = 300,
    islands: Islands | None = _DEFAULT_ISLANDS,
    dtype: torch.dtype | None = None,
) -> Preconditioner:
    """Return the preconditioner that applies one cycle with chosen settings; see `LearnedCycle`.

    Args:
        part: a chooser, or the folder that one was saved in; None for the classical W-cycle.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.pde.fields import two_phase
    >>> from solvus.solvers import CG, LinearSystem, solve
    >>> grid = Grid((63, 63))
    >>> A = Diffusion(grid, two_phase(grid, 1e4, 0))
    >>> b = torch.ones(grid.size, dtype=torch.float64)
    >>> solve(LinearSystem(A, b), CG(learned_cycle(CycleChooser()))).status.name
    'CONVERGED'
    """
    chooser = CycleChooser.load(part) if isinstance(part, str | Path) else part
    return partial(LearnedCycle, chooser=chooser, bottom=bottom, islands=islands, dtype=dtype)
