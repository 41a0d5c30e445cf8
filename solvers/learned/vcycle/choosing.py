"""Training of the chooser: count the steps of every setting on drawn systems, minimise the expected cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....meshes.grid import Centring, Grid
from ....operators.linear.diffusion import Diffusion
from ....operators.pde.fields import log_normal, two_phase
from ...base import Stop, solve
from ...krylov.cg import CG
from ...multigrid.islands import Islands
from ...system import LinearSystem
from .choice import CANDIDATES, CycleSettings, cost
from .chooser import CycleChooser, features
from .cycle import LearnedCycle
from .packed import Packed


@final
@dataclass(frozen=True)
class Systems:
    """Family that systems for the chooser are drawn from.

    Two-phase coefficients (contrast 3 to 1e7) and log-normal ones (sigma 0.5 to 3.5), 4 to 40 structures a
    side but at least four cells each; a third of them on cells around random discs, whose walls let nothing
    through.

    Args:
        sizes: unknowns per axis; dim: axes.
        seed: of everything that is drawn.
    """

    sizes: tuple[int, ...] = (95, 127, 191, 255)
    dim: int = 2
    seed: int = 7_000_000

    def draw(self, number: int) -> LinearSystem:
        """Return system `number` of the family."""
        rng = np.random.default_rng((self.seed, self.dim, number))
        n = int(rng.choice(self.sizes))
        structures = float(np.exp(rng.uniform(np.log(4), np.log(min(40.0, n / 4)))))
        masked = rng.random() < 1 / 3
        shape = (n,) * self.dim
        mask = ~_discs(shape, rng) if masked else None
        grid = Grid(shape, centring=Centring.CELL, mask=mask) if masked else Grid(shape)
        if rng.random() < 0.5:
            k = log_normal(grid, float(rng.uniform(0.5, 3.5)), rng, structures=structures)
        else:
            k = two_phase(grid, float(10 ** rng.uniform(0.5, 7)), rng, structures=structures)
        b = rng.standard_normal(grid.size)
        if mask is not None:
            b *= mask.reshape(-1)
        A, right = Diffusion(grid, k), torch.as_tensor(b)
        return LinearSystem(A, right if A.nullspace is None else A.nullspace.project(right))  # closed pockets


def _discs(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the cells inside of 1 to 12 random discs."""
    axes = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij", sparse=True)
    inside = np.zeros(shape, dtype=bool)
    for _ in range(int(rng.integers(1, 13))):
        centre, radius = rng.random(len(shape)), rng.uniform(0.02, 0.15)
        square: Any = sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True))
        inside |= square < radius**2
    return inside


def costs(
    system: LinearSystem, candidates: tuple[CycleSettings, ...] = CANDIDATES, *, rtol: float = 1e-8
) -> tuple[Tensor, Tensor, list[int]]:
    """Return features (F,), the logarithm of every candidate's cost, (K,), and its steps of CG.

    Cost is steps times the model of `choice.cost`: no clock, the same on every machine. A solve that fails
    costs as much as 200 steps.
    """
    A = system.A
    assert isinstance(A, Diffusion)
    packed = Packed(A, 300, Islands(), np.float32)
    seen, table, steps = features(packed), [], []
    for settings in candidates:
        M = LearnedCycle(A, None, settings=settings, packed=packed)
        result = solve(system, CG(lambda _, M=M: M), stop=Stop(rtol=rtol, max_steps=200), throw=False)
        steps.append(int(result.steps) if result.status.name == "CONVERGED" else 200)
        table.append(np.log(steps[-1] * cost(packed.table, M.program, M.weights.shape[1], A.shape[0])))
    return seen, torch.tensor(table, dtype=torch.float32), steps


def fit(
    network: CycleChooser,
    seen: Tensor,  # (N, F)
    table: Tensor,  # (N, K), logarithms of costs
    *,
    epochs: int = 1500,
    rate: float = 5e-3,
    decay: float = 1e-3,
    temperature: float = 0.03,
) -> float:
    """Train on all systems at once; return the geometric mean of cost over that of the classical cycle.

    The loss is the squared error of the predicted logarithms, and the expected logarithm of the cost when a
    setting is drawn with probability ~ exp(-score / temperature).
    """
    with torch.no_grad():
        network.mean.copy_(seen.mean(0))
        network.spread.copy_(seen.std(0).clamp(min=1e-3))
    gain = table - table[:, :1]
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        scores = network(seen)
        expected = (torch.softmax(-scores / temperature, dim=1) * gain).sum(1).mean()
        loss = (scores - gain).square().mean() + expected
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return chosen_cost(network, seen, table)


def chosen_cost(network: CycleChooser, seen: Tensor, table: Tensor) -> float:
    """Return the geometric mean of the cost of what the network chooses over that of the classical cycle."""
    with torch.no_grad():
        pick = network(seen).argmin(1, keepdim=True)
    return float((table.gather(1, pick)[:, 0] - table[:, 0]).mean().exp())
