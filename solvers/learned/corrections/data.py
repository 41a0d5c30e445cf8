"""Residuals to train corrections on: what conjugate gradients leave on fresh coefficients, with solutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ....meshes.grid import Grid
from ....operators.linear.diffusion import Diffusion
from ....operators.pde.fields import log_normal, source_field
from ...base import Stop, solve
from ...krylov.cg import CG
from ...krylov.flexible_cg import FlexibleCG
from ...multigrid.geometric import multigrid
from ...preconditioners.base import Preconditioner, identity
from ...system import LinearSystem
from .stencil import stencil_channels

Draw = Callable[[Grid, np.random.Generator], np.ndarray]
GROUP = 16  # systems that are solved at once


def poisson_or_log_normal(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Draw a coefficient: 1 three times in ten, else log-normal, deviation to 2, 2 to 20 structures a side.

    >>> poisson_or_log_normal(Grid((15, 15)), np.random.default_rng(0)).shape
    (16, 16)
    """
    sigma = 0.0 if rng.random() < 0.3 else float(rng.uniform(0, 2))
    return log_normal(grid, sigma, rng, structures=float(np.exp(rng.uniform(np.log(2), np.log(20)))))


@final
class CorrectionData(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
    """Serve residuals with their errors as ((r, stencil), target), for `fit` and the losses of this package.

    For every system a coefficient is drawn, and a right-hand side: white noise for one, a smooth field for
    the next. Flexible CG runs on it; its residuals after `steps` steps are samples, of unit norm, with the
    errors e = A^-1 r, from one solution by conjugate gradients with our multigrid. A is divided by its
    largest diagonal entry. All comes from the seed: the same data every time, others for another seed.
    Nothing is stored until `tensors` is called for the first time.

    Args:
        grid: all systems lie on it; no periodic axes, not singular.
        systems: coefficients.
        seed: of the coefficients and right-hand sides; another one for validation.
        steps: of flexible CG after which its residual is taken; 0 is the right-hand side.
        draw: coefficient of a grid, one value per cell.
        preconditioner: of the flexible CG; the network that is trained, for the residuals that it will see.

    Raises:
        ValueError: no systems or no steps, or steps that are negative.
        SolveError: a solution does not reach 1e-10.

    Source of the recipe: Rudikov et al., ICML 2024, arXiv 2402.05598.

    >>> (r, stencil), target = CorrectionData(Grid((15, 15)), 2, steps=(0, 5))[3]
    >>> r.shape, stencil.shape, target.shape
    (torch.Size([1, 15, 15]), torch.Size([3, 15, 15]), torch.Size([5, 15, 15]))
    """

    def __init__(
        self,
        grid: Grid,
        systems: int,
        seed: int = 0,
        *,
        steps: tuple[int, ...] = (0, 1, 3, 6, 12, 25, 50),
        draw: Draw = poisson_or_log_normal,
        preconditioner: Preconditioner = identity,
    ) -> None:
        if systems < 1 or not steps or min(steps) < 0:
            raise ValueError(
                f"training takes at least one system, and steps from 0 on, got {systems} systems and {steps}"
            )
        self.grid, self.systems, self.seed, self.steps = grid, systems, seed, tuple(sorted(set(steps)))
        self.draw, self.preconditioner = draw, preconditioner
        self._made: tuple[tuple[Tensor, Tensor], Tensor] | None = None

    def __len__(self) -> int:
        """Samples: systems times steps."""
        return self.systems * len(self.steps)

    def __getitem__(self, i: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (r, stencil), target = self.tensors()
        return (r[i], stencil[i]), target[i]

    def tensors(self) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return all inputs (r, stencil) and targets, float32, made when called for the first time."""
        if self._made is None:
            groups = [min(GROUP, self.systems - first) for first in range(0, self.systems, GROUP)]
            target = torch.cat([self._group(k, count) for k, count in enumerate(groups)])
            self._made = (target[:, :1], target[:, 2:]), target
        return self._made

    def _group(self, number: int, count: int) -> Tensor:
        """Return the targets of some systems, (steps * count, 3 + dim, *shape)."""
        rng = np.random.default_rng((self.seed, number))
        coefficient = np.stack([self.draw(self.grid, rng) for _ in range(count)])
        A = Diffusion(self.grid, torch.from_numpy(coefficient))
        smooth = source_field(self.grid, count, rng).reshape(count, -1)
        white = torch.from_numpy(rng.standard_normal((count, self.grid.size)))
        b = torch.where(torch.arange(count)[:, None] % 2 == 0, white, smooth)
        problem = LinearSystem(
            A, b if self.grid.mask is None else b * torch.as_tensor(self.grid.mask.ravel())
        )
        solution = solve(problem, CG(multigrid()), stop=Stop(1e-10)).value
        found: list[Tensor] = []
        stencil = stencil_channels(A).expand(count, -1, *self.grid.shape)
        scale = stencil[:, 0].reshape(count, -1).amax(1).reshape(-1, *[1] * (stencil.ndim - 1))

        def look(step: int, x: Tensor, _: Tensor) -> None:
            if step not in self.steps:
                return
            error = solution - x
            r = A.matvec(error)
            size = r.norm(dim=-1, keepdim=True)
            r, error = ((v / size).reshape(count, 1, *self.grid.shape) for v in (r, error))
            found.append(torch.cat([r, error * scale, stencil / scale], 1).float())

        stop = Stop(rtol=1e-7, max_steps=max(self.steps))
        solve(problem, FlexibleCG(self.preconditioner), stop=stop, callback=look, throw=False)
        found += found[-1:] * (len(self.steps) - len(found))  # it was faster than expected
        return torch.cat(found)
