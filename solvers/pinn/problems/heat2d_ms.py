"""Heat2d-MS of PINNacle: diffusion on scales that differ between the axes."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.fft import dstn
from torch import Tensor

from ....meshes.geometry import Rectangle
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Dirichlet, Initial
from ..constraint import Hard
from ..networks.embeddings import PeriodicEmbedding
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import Uniform
from ..solver import PINN, Phase, Points
from .base import FemAnswer, Floats, NamedProblem, Reference

ALONG_X = 1 / (500 * math.pi) ** 2
ALONG_Y = 1 / math.pi**2
END = 5.0

_WAVES = 20  # half waves of the start along x


def start(x: Tensor, y: Tensor) -> Tensor:
    """u(x, y, 0) = sin 20 pi x sin pi y."""
    return torch.sin(_WAVES * math.pi * x) * torch.sin(math.pi * y)


def exact(points: Floats) -> Floats:
    """u = sin 20 pi x sin pi y exp(-((20 / 500)^2 + 1) t) at points (M, 3), columns x, y, t; (M,).

    >>> float(exact(np.array([[0.025, 0.5, 0.0]]))[0])
    1.0
    """
    x, y, t = points.T
    return np.sin(_WAVES * math.pi * x) * np.sin(math.pi * y) * np.exp(-((_WAVES / 500) ** 2 + 1) * t)


def reference(*, hard: bool = True) -> Reference:
    """Return the exact solution at 20,000 points, uniform in space and time."""
    points = np.random.default_rng(0).random((20_000, 3)) * [1.0, 1.0, END]
    return Reference(points, exact(points)[:, None], ("u",), 0.0, "a mode that decays")


def fem(n: int = 32, *, hard: bool = True) -> FemAnswer:
    """Solve by n x n sine modes, exact in time: to rounding once n > 20."""
    begin = perf_counter()
    side = torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)
    modes = dstn(start(side[:, None], side).numpy(), type=1) / (n + 1) ** 2
    seconds = perf_counter() - begin
    waves = math.pi * np.arange(1, n + 1)

    def at(points: Floats) -> Floats:
        x, y, t = points[:, :1], points[:, 1:2], points[:, 2:]
        along_x = np.sin(x * waves) * np.exp(-ALONG_X * waves**2 * t)  # (M, n)
        along_y = np.sin(y * waves) * np.exp(-ALONG_Y * waves**2 * t)
        return np.einsum("mi,ij,mj->m", along_x, modes, along_y, optimize=True)[:, None]

    return FemAnswer(at, n * n, seconds, f"{n} x {n} sine modes, exact in time")


def make(*, hard: bool = True) -> BoundaryProblem:
    """Pose u_t = u_xx / (500 pi)^2 + u_yy / pi^2 on the unit square, 0 < t < 5, u = 0 on the boundary.

    Args:
        hard: build the start, and u = 0 for y = 0 and 1, into the form of u, instead of training for them as
            PINNacle does. The ends of x stay a condition, so that networks periodic in x can be used.
    """

    def equation(u: Any) -> Tensor:
        return u.t - ALONG_X * u.xx - ALONG_Y * u.yy

    def vanishing(y: Tensor, t: Tensor) -> Tensor:
        return 4 * t * y * (1 - y)

    domain = Rectangle((0.0, 0.0), (1.0, 1.0))
    if hard:
        ends, form = Dirichlet(0.0, on=("xmin", "xmax")), {"u": Hard(start, vanishing)}
        return BoundaryProblem(domain, equation, (ends,), time=(0.0, END), constraint=form)
    return BoundaryProblem(domain, equation, (Dirichlet(0.0), Initial(start)), time=(0.0, END))


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=24, depth=3, embedding=PeriodicEmbedding({0: 2 / _WAVES})),
        (
            Phase(Adam(), 300, sampling=Uniform(every=1)),
            Phase(SSBroyden(), 1500, sampling=Uniform(every=250)),
        ),
        Points(domain=2000),
    )


HEAT2D_MS = NamedProblem(
    says="the heat equation on scales that differ between the axes",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=32,
    published=6.21e-2,
    goal=1e-4,
    parameters={"hard": True},
)
