"""Wave1d-C of PINNacle: a string that swings in two tones."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.fft import dst
from torch import Tensor

from ....meshes.geometry import Interval
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Dirichlet, Initial
from ..constraint import Hard
from ..networks.features import Features
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import Uniform
from ..solver import PINN, Phase, Points
from .base import FemAnswer, Floats, NamedProblem, Reference

SPEED = 2.0


def start(x: Tensor, a: int = 4) -> Tensor:
    """u(x, 0) = sin pi x + sin(a pi x) / 2."""
    return torch.sin(math.pi * x) + torch.sin(a * math.pi * x) / 2


def exact(points: Floats, a: int = 4) -> Floats:
    """u = sin pi x cos 2 pi t + sin(a pi x) cos(2 a pi t) / 2 at points (M, 2), columns x and t; (M,).

    >>> exact(np.array([[0.5, 0.0], [0.5, 0.5]]))
    array([ 1., -1.])
    """
    x, t = math.pi * points[:, 0], SPEED * math.pi * points[:, 1]
    return np.sin(x) * np.cos(t) + np.sin(a * x) * np.cos(a * t) / 2


def reference(*, a: int = 4, hard: bool = True) -> Reference:
    """Return the exact solution on 101 x 101 points of the closed square."""
    side = np.linspace(0, 1, 101)
    x, t = np.meshgrid(side, side, indexing="ij")
    points = np.column_stack([x.ravel(), t.ravel()])
    return Reference(points, exact(points, a)[:, None], ("u",), 0.0, "the sum of two standing waves")


def fem(n: int = 32, *, a: int = 4, hard: bool = True) -> FemAnswer:
    """Solve by n sine modes, at least 2 |a| of them, exact in time: to rounding."""
    begin = perf_counter()
    n = max(n, math.ceil(2 * abs(a)))
    x = np.arange(1, n + 1) / (n + 1)
    modes = dst(start(torch.from_numpy(x), a).numpy(), type=1) / (n + 1)
    seconds = perf_counter() - begin
    waves = math.pi * np.arange(1, n + 1)

    def at(points: Floats) -> Floats:
        shapes = np.sin(points[:, :1] * waves) * np.cos(SPEED * points[:, 1:] * waves)  # (M, n)
        return (shapes @ modes)[:, None]

    return FemAnswer(at, n, seconds, f"{n} sine modes, exact in time")


def make(*, a: int = 4, hard: bool = True) -> BoundaryProblem:
    """Pose u_tt = 4 u_xx on 0 < x < 1, 0 < t < 1: fixed ends, plucked in two sines, at rest at the start.

    Args:
        a: half waves of the faster tone, an integer.
        hard: build start and ends into the form of u, instead of training for them as PINNacle does.
    """

    def equation(u: Any) -> Tensor:
        return u.tt - SPEED**2 * u.xx

    def shape(x: Tensor) -> Tensor:
        return start(x, a)

    def vanishing(x: Tensor, t: Tensor) -> Tensor:
        early = (SPEED * a * math.pi * t) ** 2  # saturates within a swing of the faster tone
        return torch.sin(math.pi * x) * early / (1 + early)

    domain = Interval(0.0, 1.0)
    if hard:
        return BoundaryProblem(
            domain, equation, (), time=(0.0, 1.0), constraint={"u": Hard(shape, vanishing)}
        )
    conditions = (Dirichlet(0.0), Initial(shape), Initial(0.0, order=1))
    return BoundaryProblem(domain, equation, conditions, time=(0.0, 1.0))


def features() -> Features:
    """Return what the network sees: cosines of x and t.

    The string is at rest at the start, so that u is even in t; u / sin pi x is even about both ends.
    """
    along = ((math.pi * k, 0.0, 0.0) for k in (1, 2))
    over = ((0.0, frequency, 0.0) for frequency in (2.5, 5.0, 10.0, 20.0))
    return Features(cosines=(*along, *over))


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=30, depth=3, embedding=features(), normalise=False),
        (
            Phase(Adam(), 200, sampling=Uniform(every=1)),
            Phase(SSBroyden(), 3600, sampling=Uniform(every=400)),
        ),
        Points(domain=2000),
    )


WAVE1D_C = NamedProblem(
    says="the wave equation: a string that swings in two tones",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=32,
    published=6.47e-2,
    goal=1e-4,
    parameters={"a": 4, "hard": True},
)
