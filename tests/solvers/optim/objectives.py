"""Objectives that the tests of several optimisers share."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from solvus.solvers.optim.base import Optimiser
from solvus.solvers.optim.objective import Objective

F64 = torch.float64


class Fit(Objective):
    """A tanh network with one hidden layer, fitted to sin(3 x)."""

    def __init__(self, width: int = 6, n: int = 30, seed: int = 0) -> None:
        self.shapes = [(width,), (width,), (width,)]
        self.x = torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    def residuals(self, theta: Tensor) -> Tensor:
        a, b, c = theta.view(3, -1)
        x = self.x.to(theta.dtype)
        return (torch.tanh(x[:, None] * a + b) @ c - torch.sin(3 * x)) / len(x) ** 0.5

    def losses(self, theta: Tensor) -> Tensor:
        return self.residuals(theta).square().sum()[None]


class Rosenbrock(Objective):
    """Rosenbrock's function; `seen` counts its evaluations."""

    def __init__(self, n: int = 10) -> None:
        self.shapes = [(n,)]
        self.seen = 0

    def residuals(self, theta: Tensor) -> Tensor:
        return torch.cat([10 * (theta[1:] - theta[:-1] ** 2), 1 - theta[:-1]])

    def losses(self, theta: Tensor) -> Tensor:
        self.seen += 1
        a, b = self.residuals(theta).chunk(2)
        return torch.stack([a.square().sum(), b.square().sum()])


def weights(seed: int = 1, n: int = 18) -> Tensor:
    """Return random parameters."""
    return torch.randn(n, dtype=F64, generator=torch.Generator().manual_seed(seed))


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(optimiser: Optimiser, steps: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Run twice the steps, and again from the middle with a state saved and read.

    Asserts equal parameters; returns the states at the end of both runs, and the saved one.
    """
    objective, theta = Fit(), weights()
    state = optimiser.start(theta)
    for _ in range(steps):
        theta = optimiser.step(objective, theta, state).theta
    middle, again, kept = theta.clone(), saved(state), saved(state)
    for _ in range(steps):
        theta = optimiser.step(objective, theta, state).theta
    for _ in range(steps):
        middle = optimiser.step(objective, middle, again).theta
    assert torch.equal(theta, middle)
    return state, again, kept
