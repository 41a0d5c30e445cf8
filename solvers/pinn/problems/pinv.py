"""PInv of PINNacle: the conductivity of a plate from noisy observations of its temperature."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any, final

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ....meshes.geometry import Rectangle
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import BoundaryResidual, Condition, Data
from ..constraint import Hard
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import Uniform
from ..solver import PINN, Phase, Points
from .arrays import in_numpy
from .base import FemAnswer, Floats, NamedProblem, Reference
from .identification import Model, identify
from .unknown_field import Spaces, rough

_SIDE = 50  # observations along a side
_TEST = 2500
_SEED = 1
_ROUGH = (10.0, 0.1)  # weights as cross-validation finds them, of u on the boundary and of a


def conductivity(x: Tensor, y: Tensor) -> Tensor:
    """a = 1 / (1 + x^2 + y^2 + (x - 1)^2 + (y - 1)^2), the one to be found."""
    return 1 / (1 + x**2 + y**2 + (x - 1) ** 2 + (y - 1) ** 2)


def temperature(x: Tensor, y: Tensor) -> Tensor:
    """u = sin pi x sin pi y."""
    return torch.sin(math.pi * x) * torch.sin(math.pi * y)


def source(x: Tensor, y: Tensor) -> Tensor:
    """f with div(a grad u) + f = 0; PINNacle's code has a wrong sign in it, 2x + 1 and 2y + 1."""
    p, a = math.pi, conductivity(x, y)
    sx, sy, cx, cy = torch.sin(p * x), torch.sin(p * y), torch.cos(p * x), torch.cos(p * y)
    return 2 * p * p * a * sx * sy + 2 * p * a * a * ((2 * x - 1) * cx * sy + (2 * y - 1) * sx * cy)


def observations(sigma: float = 0.1, seed: int = 0) -> tuple[Floats, Floats]:
    """Return 50 x 50 points of the closed square, (2500, 2), and u there with noise, (2500,)."""
    side = np.linspace(0, 1, _SIDE)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    exact = temperature(*torch.from_numpy(points).T).numpy()
    return points, exact + sigma * np.random.default_rng(seed).normal(size=len(points))


def reference(*, sigma: float = 0.1, seed: int = 0, smoothing: float = 1.0) -> Reference:
    """Return the true temperature and conductivity at 2500 uniform points."""
    points = np.random.default_rng(_SEED).random((_TEST, 2))
    where = torch.from_numpy(points).T
    values = torch.stack([temperature(*where), conductivity(*where)], dim=1).numpy()
    return Reference(points, values, ("u", "a"), 0.0, "exact: the functions behind the data")


@final
class _Plate(Model):
    """K(a) u = f at the inner nodes; u on the boundary is unknown, a is known there."""

    def __init__(self, spaces: Spaces, points: Floats, data: Floats) -> None:
        self.spaces, self.data = spaces, data
        self.observe = spaces.observe(points)
        self.rough = rough(spaces, [spaces.boundary_bending])
        self.load = spaces.load(in_numpy(source))

    def residual(self, u: Floats, a: Floats) -> tuple[Floats, sp.csr_array, sp.csr_array]:
        K = self.spaces.stiffness(a)
        return K @ u - self.load, K, self.spaces.by_coefficient(u)


def fem(n: int = 16, *, sigma: float = 0.1, seed: int = 0, smoothing: float = 1.0) -> FemAnswer:
    """Find u and a from the same data by finite elements, n cells along a side, and Gauss-Newton.

    Cross-validation on the data chooses how much is smoothed: `smoothing`, a factor on the weights of the
    training, changes nothing here. With smoothing=0 a training without penalties is compared with a method
    that has them; without any, the data do not determine a.
    """
    begin = perf_counter()
    points, data = observations(sigma, seed)
    spaces = Spaces((0.0, 0.0), (1.0, 1.0), n, in_numpy(conductivity))
    model = _Plate(spaces, points, data)
    found = identify(model, np.zeros(spaces.u.N), spaces.start(), (1e-2, 1e-2))
    seconds = perf_counter() - begin

    def at(where: Floats) -> Floats:
        return np.column_stack([spaces.observe(where) @ found.u, spaces.coefficient_at(found.a, where)])

    method = (
        f"P2 and P1 triangles, Gauss-Newton with smoothing of its own by "
        f"cross-validation (weights {', '.join(f'{w:g}' for w in found.weights)}; "
        f"{found.solves} factorisations)"
    )
    return FemAnswer(at, spaces.u.N + len(spaces.free), seconds, method)


def make(*, sigma: float = 0.1, seed: int = 0, smoothing: float = 1.0) -> BoundaryProblem:
    """Pose div(a grad u) + f = 0 in the unit square, u observed with noise inside, a known on the boundary.

    The data alone do not determine a, and u on the boundary, in a stable way: roughness is penalised as in
    the classical method, with weights of the size that cross-validation finds there. The values of a on the
    boundary are built into its form.

    Args:
        sigma: standard deviation of the noise.
        seed: of the noise.
        smoothing: factor on these weights, of the training only; 0 leaves the penalties out, as PINNacle
            does, where a large network follows the noise once it is trained well.
    """
    rough_u, rough_a = (smoothing * w / _SIDE**2 for w in _ROUGH)

    def equation(u: Any, a: Any, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        balance = a * u.laplacian + a.x * u.x + a.y * u.y + source(x, y)
        return (balance, math.sqrt(rough_a) * a.laplacian) if smoothing else (balance,)

    def bend(u: Any, nx: Tensor, ny: Tensor) -> Tensor:
        return ny * ny * u.xx - 2 * nx * ny * u.xy + nx * nx * u.yy

    conditions: list[Condition] = [Data(*observations(sigma, seed), of="u")]
    if smoothing:
        conditions.append(BoundaryResidual(bend, weight=4 * rough_u))
    square = Rectangle((0.0, 0.0), (1.0, 1.0))
    form = {"a": Hard(patch, lambda x, y: x * (1 - x) * y * (1 - y))}
    return BoundaryProblem(square, equation, conditions, outputs=("u", "a"), constraint=form)


def patch(x: Tensor, y: Tensor) -> Tensor:
    """Interpolate the conductivity inside from its values on the boundary (Coons' patch)."""
    a, zero, one = conductivity, torch.zeros_like(x), torch.ones_like(x)
    sides = (1 - x) * a(zero, y) + x * a(one, y) + (1 - y) * a(x, zero) + y * a(x, one)
    low = (1 - x) * a(zero, zero) + x * a(one, zero)
    high = (1 - x) * a(zero, one) + x * a(one, one)
    return sides - (1 - y) * low - y * high


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=10, depth=2, separate=True),
        (
            Phase(Adam(), 200, sampling=Uniform(every=50)),
            Phase(SSBroyden(), 800, sampling=Uniform(every=250)),
        ),
        Points(domain=1024, boundary=256),
    )


PINV = NamedProblem(
    says="the conductivity of a plate from noisy observations of its temperature",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=16,
    published=1.53e-2,
    goal=1.53e-2,
    parameters={"sigma": 0.1, "seed": 0, "smoothing": 1.0},
)
