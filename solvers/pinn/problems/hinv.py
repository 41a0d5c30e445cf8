"""HInv of PINNacle: the conductivity of a plate from noisy observations of its temperature in time."""

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
from .collocation import barycentric, interpolation, radau
from .identification import Model, identify
from .unknown_field import Spaces, rough

_STAGES = 3  # of the collocation in time
_TEST = 20_000
_SEED = 1
_COUNT = 2500  # observations
_RATE = 10.0  # the equation is divided by it, see `make`
_ROUGH = (10.0, 0.001)  # weights as cross-validation finds them, of u on the boundary and of a


def conductivity(x: Tensor, y: Tensor) -> Tensor:
    """a = 2 + sin pi x sin pi y, the one to be found."""
    return 2 + torch.sin(math.pi * x) * torch.sin(math.pi * y)


def temperature(x: Tensor, y: Tensor, t: Tensor | float) -> Tensor:
    """u = exp(-t) sin pi x sin pi y."""
    return torch.exp(torch.as_tensor(-t)) * torch.sin(math.pi * x) * torch.sin(math.pi * y)


def source(x: Tensor, y: Tensor, t: Tensor | float) -> Tensor:
    """f = u_t - div(a grad u)."""
    p = math.pi
    sx, sy, cx, cy = torch.sin(p * x), torch.sin(p * y), torch.cos(p * x), torch.cos(p * y)
    s = sx * sy
    inner = (4 * p * p - 1) * s + p * p * (2 * s * s - (cx * sy) ** 2 - (sx * cy) ** 2)
    return torch.exp(torch.as_tensor(-t)) * inner


def observations(sigma: float = 0.1, seed: int = 0, count: int = _COUNT) -> tuple[Floats, Floats]:
    """Return uniform points (count, 3) of [-1, 1]^2 x [0, 1], and u there with noise, (count,)."""
    generator = np.random.default_rng(seed)
    points = generator.uniform((-1, -1, 0), (1, 1, 1), (count, 3))
    exact = temperature(*torch.from_numpy(points).T).numpy()
    return points, exact + sigma * generator.normal(size=count)


def reference(*, sigma: float = 0.1, seed: int = 0, smoothing: float = 1.0) -> Reference:
    """Return the true temperature and conductivity at 20,000 uniform points of plate and time."""
    points = np.random.default_rng(_SEED).uniform((-1, -1, 0), (1, 1, 1), (_TEST, 3))
    x, y, t = torch.from_numpy(points).T
    values = torch.stack([temperature(x, y, t), conductivity(x, y)], dim=1).numpy()
    return Reference(points, values, ("u", "a"), 0.0, "exact: the functions behind the data")


@final
class _Plate(Model):
    """M u' + K(a) u = f at the inner nodes, u a polynomial in time, unknown at the start and on the sides."""

    def __init__(self, spaces: Spaces, points: Floats, data: Floats) -> None:
        self.spaces, self.data = spaces, data
        times, self.D = radau(_STAGES)
        self.observe = observe(spaces, times, points)
        D2 = self.D @ self.D
        along = sp.vstack(
            [sp.kron(sp.eye_array(len(times)), spaces.boundary_bending), sp.kron(D2, spaces.boundary)]
        ) / np.sqrt(len(times))
        first = sp.kron(sp.csr_array(([1.0], ([0], [0])), shape=(1, len(times))), spaces.inner_bending)
        self.rough = rough(spaces, [along, first])
        self.load = np.concatenate(
            [spaces.load(in_numpy(lambda x, y, t=t: source(x, y, t))) for t in times[1:]]
        )
        self.rate = sp.csr_array(sp.kron(self.D[1:], spaces.mass))

    def residual(self, u: Floats, a: Floats) -> tuple[Floats, sp.csr_array, sp.csr_array]:
        later = sp.eye_array(_STAGES, _STAGES + 1, k=1)
        K = sp.csr_array(self.rate + sp.kron(later, self.spaces.stiffness(a)))
        levels = u.reshape(_STAGES + 1, -1)[1:]
        G = sp.csr_array(sp.vstack([self.spaces.by_coefficient(level) for level in levels]))
        return K @ u - self.load, K, G


def observe(spaces: Spaces, times: Floats, points: Floats) -> sp.csr_array:
    """Return the matrix from u at the times, (S U,), to its values at points (M, 3), time last."""
    rows, here = interpolation(times, barycentric(times), points[:, 2]), spaces.observe(points[:, :2])
    return sp.csr_array(sp.hstack([sp.diags_array(row) @ here for row in rows.T]))


def fem(n: int = 10, *, sigma: float = 0.1, seed: int = 0, smoothing: float = 1.0) -> FemAnswer:
    """Find u and a from the same data by finite elements, n cells along a side, and Gauss-Newton.

    Cross-validation on the data chooses how much is smoothed: `smoothing`, a factor on the weights of the
    training, changes nothing here. With smoothing=0 a training without penalties is compared with a method
    that has them; without any, the data do not determine a.
    """
    begin = perf_counter()
    points, data = observations(sigma, seed)
    spaces = Spaces((-1.0, -1.0), (1.0, 1.0), n, in_numpy(conductivity))
    model = _Plate(spaces, points, data)
    size = (_STAGES + 1) * spaces.u.N
    found = identify(model, np.zeros(size), spaces.start(), (1e-1, 1e-3, 1e-3))
    seconds = perf_counter() - begin

    def at(where: Floats) -> Floats:
        u = observe(spaces, radau(_STAGES)[0], where) @ found.u
        return np.column_stack([u, spaces.coefficient_at(found.a, where[:, :2])])

    method = (
        f"P2 and P1 triangles, {_STAGES} Radau stages, Gauss-Newton with smoothing of its own by "
        f"cross-validation (weights {', '.join(f'{w:g}' for w in found.weights)}; "
        f"{found.solves} factorisations)"
    )
    return FemAnswer(at, size + len(spaces.free), seconds, method)


def make(*, sigma: float = 0.1, seed: int = 0, smoothing: float = 1.0) -> BoundaryProblem:
    """Pose u_t = div(a grad u) + f in [-1, 1]^2, 0 < t < 1: u observed with noise, a = 2 on the boundary.

    The first equation is divided by 10, whatever `smoothing`. PINNacle trains it undivided, with a squared
    residual that is 100 times as large beside that of the observations.

    The conductivity does not depend on time: that is a second equation, since networks take all coordinates.
    The data alone do not determine a, and u on the boundary, in a stable way: roughness is penalised as in
    the classical method, with weights of the size that cross-validation finds there.

    Args:
        sigma: standard deviation of the noise.
        seed: of the points and the noise.
        smoothing: factor on these weights, of the training only; 0 leaves the penalties out, as PINNacle
            does, where a large network follows the noise once it is trained well.
    """
    rough_u, rough_a = (smoothing * w / _COUNT for w in _ROUGH)

    def equation(u: Any, a: Any, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        balance = (u.t - a * u.laplacian - a.x * u.x - a.y * u.y - source(x, y, t)) / _RATE
        rows = (balance, a.t)
        return (*rows, math.sqrt(4 * rough_a) * a.laplacian) if smoothing else rows

    def bend(u: Any, nx: Tensor, ny: Tensor) -> tuple[Tensor, Tensor]:
        return ny * ny * u.xx - 2 * nx * ny * u.xy + nx * nx * u.yy, u.tt

    conditions: list[Condition] = [Data(*observations(sigma, seed), of="u")]
    if smoothing:
        conditions.append(BoundaryResidual(bend, weight=8 * rough_u))
    domain = Rectangle((-1.0, -1.0), (1.0, 1.0))
    form = {"a": Hard(lambda x: torch.full_like(x, 2.0), lambda x, y: (1 - x * x) * (1 - y * y))}
    return BoundaryProblem(domain, equation, conditions, outputs=("u", "a"), time=(0.0, 1.0), constraint=form)


def recipe() -> PINN:
    """Return the training that does best here: small networks, which cannot follow the noise."""
    return PINN(
        MLP(width=10, depth=2, separate=True),
        (
            Phase(Adam(), 200, sampling=Uniform(every=50)),
            Phase(SSBroyden(), 2000, sampling=Uniform(every=250)),
        ),
        Points(domain=1024, boundary=256),
    )


HINV = NamedProblem(
    says="the conductivity of a plate from noisy observations of its temperature in time",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=10,
    published=3.77e-2,
    goal=3.77e-2,
    parameters={"sigma": 0.1, "seed": 0, "smoothing": 1.0},
)
