"""A network that is a known function: residuals of exact solutions must vanish."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from solvus.solvers.pinn import BoundaryProblem, Run
from solvus.solvers.pinn.jets import Affine, Jet, nested
from solvus.solvers.pinn.model import Model
from solvus.solvers.pinn.networks import Network


class Exact(Network):
    """The function f: points (N, D) -> (N, W), in place of a network; its parameter changes nothing."""

    def __init__(self, f: Callable[[Tensor], Tensor], inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.f, self.none = f, torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def propagate(self, x: Affine) -> Jet:
        with torch.enable_grad():
            return nested(self.f, x.value, x.plan)


def model_of(problem: BoundaryProblem, f: Callable[[Tensor], Tensor]) -> tuple[Model, Tensor]:
    """Return a problem with an exact function in it, and its parameters."""
    model = Model(problem, Exact(f, len(problem.coordinates), len(problem.outputs)))
    return model, model.start()


def residuals_of(problem: BoundaryProblem, f: Callable[[Tensor], Tensor], n: int = 40) -> dict[str, float]:
    """Return the largest residual of every label for a function f."""
    import numpy as np

    model, theta = model_of(problem, f)
    generator, found = np.random.default_rng(0), {}
    for term in problem.terms:
        cloud = model.cloud(term, term.block.where.draw(n, generator), theta)
        rows = model.residuals(theta, term, cloud)
        found |= {label: float(r.detach().abs().max()) for label, r in zip(term.labels, rows, strict=True)}
    return found


def loss_of(run: Run) -> float:
    """Return the loss of a run on its points."""
    return float(cast(Tensor, run.loss.value(run.theta)))
