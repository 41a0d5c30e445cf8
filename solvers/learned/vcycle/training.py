"""Training of the learned V-cycle without solutions: on the error that a cycle leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ....meshes.grid import Grid
from ....operators.linear.diffusion import Diffusion
from ....operators.pde.fields import log_normal, two_phase
from ...base import Stop, solve
from ...krylov.cg import CG
from ...multigrid.geometric import Smoothing
from ...multigrid.islands import Islands
from ...multigrid.layout import Offset
from ...system import LinearSystem
from ..trainer import SystemTrainer
from .hierarchy import Box, BoxLevel, apply_cycle, boxed, first_coarse, padded, set_up
from .network import VCycleNetwork
from .preconditioner import learned_vcycle


@final
@dataclass(frozen=True)
class Training:
    """Settings of the training.

    Args:
        steps: of the optimiser; seconds: stop after that long (None: never).
        sizes: unknowns per axis of the systems, drawn anew for every group.
        batch: systems per group, all of one size; groups: how many are kept.
        visits: a group is replaced by a fresh one after so many steps.
        vectors: errors that are kept per system; burn_in: classical cycles that they go through at first.
        cg_steps: steps of conjugate gradients in the second term of the loss; 0 for none.
        rate: of Adam, falling to zero along a cosine (in steps, or in seconds where they are given).
        dim: axes.
        seed: of the coefficients and the errors.
        evaluate_every: steps between evaluations; a checkpoint is written at each.
    """

    steps: int = 2000
    seconds: float | None = None
    sizes: tuple[int, ...] = (63, 95, 127)
    batch: int = 8
    groups: int = 8
    visits: int = 30
    vectors: int = 6
    burn_in: int = 8
    cg_steps: int = 0
    rate: float = 2e-3
    dim: int = 2
    seed: int = 0
    evaluate_every: int = 200


def draw_coefficient(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Draw a two-phase (contrast 1 to 1e6) or log-normal (sigma 1 to 3) field, 5 to 30 structures a side.

    >>> draw_coefficient(Grid((15, 15)), np.random.default_rng(0)).shape
    (16, 16)
    """
    longest = max(grid.cells)
    structures = float(np.exp(rng.uniform(np.log(5), np.log(max(6.0, min(30.0, longest / 4))))))
    if rng.random() < 0.5:
        return log_normal(grid, float(rng.uniform(1, 3)), rng, structures=structures)
    return two_phase(grid, float(10 ** rng.uniform(0, 6)), rng, structures=structures)


@final
class Group:
    """Systems of one size: their operators on the first level that the network sets, and errors kept there.

    The classical levels above do not change: what the network can do is measured by the cycle below them.

    Args:
        A: a batch of operators.
        start: first level that the network sets.
        vectors: errors per system.
        generator: of the errors.
    """

    def __init__(self, A: Diffusion, start: int, vectors: int, generator: torch.Generator) -> None:
        self.first: Offset = first_coarse(A)
        self.start, self.visits = start, 0
        box = boxed(padded(A))
        self.box: Box = set_up(box, self.first, None, depth=start)[-1].box
        shape = (box.centre.shape[0], vectors, *self.box.shape)
        self.errors = torch.randn(shape, dtype=box.centre.dtype, generator=generator)

    @classmethod
    def draw(
        cls, n: int, settings: Training, start: int, rng: np.random.Generator, generator: torch.Generator
    ) -> Group:
        """Draw a fresh group of systems with n unknowns per axis."""
        grid = Grid((n,) * settings.dim)
        k = np.stack([draw_coefficient(grid, rng) for _ in range(settings.batch)])
        return cls(Diffusion(grid, k), start, settings.vectors, generator)

    def levels(self, network: VCycleNetwork | None) -> list[BoxLevel]:
        """Return the levels from there on, of the cycle with this network."""
        return set_up(self.box, self.first, network, islands=Islands(), level=self.start)


def energy_product(box: Box, x: Tensor, y: Tensor) -> Tensor:
    """Return x_j . A y_k, (B, K, K)."""
    return x.flatten(2) @ box.apply(y).flatten(2).mT


def contraction(group: Group, levels: list[BoxLevel], sweeps: list[float]) -> Tensor:
    """Return the mean of log ||E e||_A / ||e||_A over the kept errors, and keep E e, made A-orthonormal.

    E = I - M A. Repeated on the same systems this is subspace iteration for the errors that cycles reduce
    least.
    """
    box, e = group.box, group.errors
    with torch.no_grad():
        e = _orthonormal(box, e)
    left = e - apply_cycle(levels, group.first, box.apply(e), sweeps)
    square = energy_product(box, left, left).diagonal(dim1=1, dim2=2)
    group.errors = left.detach()
    return 0.5 * square.clamp(min=1e-12).log().mean()


def _orthonormal(box: Box, e: Tensor) -> Tensor:
    """Return the errors of every system made A-orthonormal."""
    e = (
        e
        / energy_product(box, e, e)
        .diagonal(dim1=1, dim2=2)
        .clamp(min=1e-300)
        .sqrt()[(..., *[None] * (e.ndim - 2))]
    )
    gram = energy_product(box, e, e)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky((gram + gram.mT) / 2 + 1e-9 * eye)
    return torch.linalg.solve_triangular(factor, e.flatten(2), upper=False).reshape(e.shape)


def reduction(
    group: Group, levels: list[BoxLevel], sweeps: list[float], steps: int, generator: torch.Generator
) -> Tensor:
    """Return the mean of log(||r_k|| / ||r_0||) / k after k steps of preconditioned CG on random systems."""
    box = group.box
    shape = (box.centre.shape[0], 1, *box.shape)
    r = torch.randn(shape, dtype=box.centre.dtype, generator=generator)
    dot = lambda x, y: (x * y).flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))  # noqa: E731
    start = dot(r, r)
    z = apply_cycle(levels, group.first, r, sweeps)
    p, rz = z, dot(r, z)
    for step in range(steps):
        q = box.apply(p)
        r = r - rz / dot(p, q) * q
        if step < steps - 1:
            z = apply_cycle(levels, group.first, r, sweeps)
            rz, old = dot(r, z), rz
            p = z + rz / old * p
    return 0.5 * (dot(r, r) / start).log().mean() / steps


def iterations(
    network: VCycleNetwork | None, operators: Sequence[Diffusion], rtol: float = 1e-8, *, max_steps: int = 300
) -> list[int]:
    """Return the CG steps to rtol with the cycle, for one random right-hand side each."""
    counts = []
    for A in operators:
        generator = torch.Generator().manual_seed(0)
        b = torch.randn(A.shape[0], dtype=A.dtype, generator=generator)
        result = solve(
            LinearSystem(A, b),
            CG(learned_vcycle(network)),
            stop=Stop(rtol=rtol, max_steps=max_steps),
            throw=False,
        )
        counts.append(int(result.steps))
    return counts


def validation(n: int = 127, dim: int = 2) -> list[Diffusion]:
    """Return operators to compare on: other seeds than the training draws."""
    grid = Grid((n,) * dim)
    seeds = [900_001, 900_002]
    fields = [log_normal(grid, 3.0, s) for s in seeds]
    fields += [two_phase(grid, c, s) for c in (1e2, 1e4, 1e6) for s in seeds]
    return [Diffusion(grid, k) for k in fields]


@final
class Trainer(SystemTrainer[VCycleNetwork, Diffusion]):
    """Train a network; the state can be written and taken up again.

    Args:
        network: changed in place.
        settings: what to do.
        folder: for `log.jsonl` and `state.pt`; None: neither is written.
        report: called with every row of the log.

    >>> from solvus.solvers.learned.vcycle.network import VCycleConfig
    >>> tiny = Training(steps=2, sizes=(31,), batch=1, groups=1, evaluate_every=10)
    >>> Trainer(VCycleNetwork(VCycleConfig(width=4, start=0)), tiny).run(validation=[]) < 0
    True
    """

    settings: Training

    def __init__(
        self,
        network: VCycleNetwork,
        settings: Training,
        *,
        folder: str | Path | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
        super().__init__(network, settings, optimiser, folder, report)
        self.sweeps = Smoothing(lower=0.25 if settings.dim < 3 else 1 / 6).weights()
        self.groups: list[Group] = []
        self.place = 0

    def _loss(self) -> Tensor:
        settings = self.settings
        self.place = min(int(self.rng.integers(settings.groups)), len(self.groups))
        if self.place == len(self.groups):
            self.groups.append(self._fresh())
        group = self.groups[self.place]
        levels = group.levels(self.network)
        loss = contraction(group, levels, self.sweeps)
        if settings.cg_steps:
            loss = loss + reduction(group, levels, self.sweeps, settings.cg_steps, self.generator)
        return loss

    def _visited(self, sound: bool) -> None:
        group = self.groups[self.place]
        group.visits += 1
        if group.visits >= self.settings.visits or not sound:
            self.groups[self.place] = self._fresh()

    def _fresh(self) -> Group:
        self.drawn += self.settings.batch
        n = int(self.rng.choice(self.settings.sizes))
        group = Group.draw(n, self.settings, self.network.config.start, self.rng, self.generator)
        with torch.no_grad():
            levels = group.levels(None) if self.settings.burn_in else []
            for _ in range(self.settings.burn_in):
                contraction(group, levels, self.sweeps)
        return group

    def _classical(self, validation: Sequence[Diffusion]) -> list[int]:
        return iterations(None, validation)

    def _compare(self, validation: Sequence[Diffusion], classical: list[int]) -> dict[str, Any]:
        learned = iterations(self.network, validation)
        ratio = sum(learned) / max(1, sum(classical))
        return {"iterations": learned, "zero_output": classical, "ratio": ratio}
