"""Burgers1d-C of PINNacle: a sine that steepens into a front."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ....meshes.geometry import Interval
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Dirichlet, Initial
from ..constraint import Hard
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import RAD, Uniform
from ..solver import PINN, Phase, Points
from .base import FemAnswer, Floats, NamedProblem, Reference
from .collocation import chebyshev, interpolation

VISCOSITY = 0.01 / math.pi

_RANGE = (1e-6, 1e3)  # viscosities of the exact solution; at 1e-6 exponents have absolute errors of 1e-10
_TAIL = 40.0  # exp(-40) is beyond rounding
_CHUNK = 1 << 21  # numbers held at once
_RTOL = 1e-9


def exact(points: Floats, viscosity: float = VISCOSITY) -> Floats:
    """Return the solution at points (M, 2), columns x and t, by the formula of Cole and Hopf; (M,).

    u(x, t) = -int sin(pi y) F(y) exp(-z^2) dz / int F(y) exp(-z^2) dz with y = x - 2 sqrt(nu t) z and
    F(y) = exp(-cos(pi y) / (2 pi nu)), by the rule of trapezoids, which converges exponentially. The
    integrand is beyond rounding where z^2 > 1 / (pi nu) + 40, whatever x and t, and so is its spectrum beyond
    sqrt(4 40) + K 2 pi sqrt(nu): F has K = sqrt(2 40 kappa) + 10 harmonics or less, kappa = 1 / (2 pi nu).

    Raises:
        ValueError: the viscosity is not positive, or outside [1e-6, 1e3].

    >>> h = 1e-5
    >>> u = exact(np.array([[-h, 1.6037 / math.pi], [h, 1.6037 / math.pi]]))
    >>> round(float((u[1] - u[0]) / (2 * h)), 2)
    -152.01
    """
    _check(viscosity)
    if not _RANGE[0] <= viscosity <= _RANGE[1]:
        raise ValueError(
            f"viscosity={viscosity:g}: the exact solution is computed from {_RANGE[0]:g} to {_RANGE[1]:g}: "
            "give one between them, or train without a reference"
        )
    kappa = 1 / (2 * math.pi * viscosity)
    harmonics = math.sqrt(2 * _TAIL * kappa) + 10
    end = math.sqrt(2 * kappa + _TAIL)
    step = 2 * math.pi / (math.sqrt(4 * _TAIL) + 2 * math.pi * math.sqrt(viscosity) * harmonics)
    half = math.ceil(end / step)
    z = np.arange(-half, half + 1, dtype=np.float64) * step
    rows = max(1, _CHUNK // len(z))
    return np.concatenate(
        [_mean(points[i : i + rows], viscosity, z) for i in range(0, max(1, len(points)), rows)]
    )


def _mean(points: Floats, viscosity: float, z: Floats) -> Floats:
    """Return -sin(pi y) in the mean over z (N,) of even steps, weighed by F(y) exp(-z^2); (M,)."""
    x, t = points[:, :1], points[:, 1:]
    y = math.pi * (x - 2 * np.sqrt(viscosity * t) * z)  # (M, N)
    exponent = -np.cos(y) / (2 * math.pi * viscosity) - z * z
    F = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return -(np.sin(y) * F).sum(axis=1) / F.sum(axis=1)


def _check(viscosity: float) -> None:
    if not 0 < viscosity < math.inf:
        raise ValueError(
            f"viscosity={viscosity:g}: it must be positive and finite, as {VISCOSITY:.4g} of PINNacle"
        )


def reference(*, viscosity: float = VISCOSITY, hard: bool = True) -> Reference:
    """Return the exact solution on 201 x 101 points of the closed rectangle.

    The file of the benchmark, burgers1d.dat, is 1.33e-2 from it: errors published against that file cannot be
    compared with errors below a few per cent.

    Raises:
        ValueError: the viscosity is not positive, or outside [1e-6, 1e3].
    """
    x, t = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(0, 1, 101), indexing="ij")
    points = np.column_stack([x.ravel(), t.ravel()])
    return Reference(points, exact(points, viscosity)[:, None], ("u",), 0.0, "Cole and Hopf, exact")


def fem(n: int = 96, *, viscosity: float = VISCOSITY, hard: bool = True) -> FemAnswer:
    """Solve by Chebyshev collocation on n nodes of [0, 1] and Radau's method.

    The solution is odd in x, and the nodes cluster at its front, x = 0. In time: the implicit method of
    order 5 with relative tolerance 1e-9. A smaller viscosity has a narrower front, and needs a larger n.
    """
    _check(viscosity)
    begin = perf_counter()
    x, w, D = chebyshev(n)
    first, second = D[1:-1, 1:-1], (D @ D)[1:-1, 1:-1]  # u = 0 at both ends

    def slope(_: float, u: Floats) -> Floats:
        return viscosity * (second @ u) - u * (first @ u)

    def jacobian(_: float, u: Floats) -> Floats:
        return viscosity * second - u[:, None] * first - np.diag(first @ u)

    start = -np.sin(math.pi * x[1:-1])
    run = solve_ivp(
        slope, (0, 1), start, "Radau", jac=jacobian, rtol=_RTOL, atol=_RTOL / 100, dense_output=True
    )
    seconds = perf_counter() - begin

    def at(points: Floats) -> Floats:
        times, which = np.unique(points[:, 1], return_inverse=True)
        u = np.zeros((n, len(times)))
        u[1:-1] = run.sol(times)
        rows = interpolation(x, w, np.abs(points[:, 0]))  # (M, n)
        return (np.sign(points[:, 0]) * np.einsum("mn,nm->m", rows, u[:, which]))[:, None]

    method = f"Chebyshev collocation on {n} nodes of half the interval, Radau IIA with {len(run.t) - 1} steps"
    return FemAnswer(at, (n - 2) * (len(run.t) - 1), seconds, method)


def make(*, viscosity: float = VISCOSITY, hard: bool = True) -> BoundaryProblem:
    """Pose u_t + u u_x = viscosity u_xx on -1 < x < 1, 0 < t < 1, u = -sin pi x at the start, 0 at the ends.

    Args:
        viscosity: positive.
        hard: build the start and the ends into the form of u, instead of training for them as PINNacle does.

    Raises:
        ValueError: the viscosity is not positive.
    """
    _check(viscosity)

    def equation(u: Any) -> Tensor:
        return u.t + u * u.x - viscosity * u.xx

    def start(x: Tensor) -> Tensor:
        return -torch.sin(math.pi * x)

    def vanishing(x: Tensor, t: Tensor) -> Tensor:
        return t * (1 - x * x)

    domain = Interval(-1.0, 1.0)
    if hard:
        form = {"u": Hard(start, vanishing)}
        return BoundaryProblem(domain, equation, (), time=(0.0, 1.0), constraint=form)
    return BoundaryProblem(domain, equation, (Dirichlet(0.0), Initial(start)), time=(0.0, 1.0))


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=32, depth=4),
        (
            Phase(Adam(), 500, sampling=Uniform(every=1)),
            Phase(SSBroyden(), 3500, sampling=RAD(every=500, pool=10_000)),
        ),
        Points(domain=2048),
    )


BURGERS1D_C = NamedProblem(
    says="Burgers' equation: a sine that steepens into a front",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=96,
    published=1.34e-2,
    goal=1e-4,
    parameters={"viscosity": VISCOSITY, "hard": True},
)
