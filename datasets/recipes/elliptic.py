"""Presets for steady problems: Poisson, Darcy flow, the Helmholtz equation in a medium."""

from __future__ import annotations

from ...meshes.grid import Boundary, Centring, Grid
from ...operators.pde.coefficients import LogNormal, Trigonometric, TwoPhase
from ...operators.pde.darcy import Darcy
from ...operators.pde.poisson import Poisson
from ...operators.pde.random_fields import GaussianField
from ...operators.pde.wave import HelmholtzMedium, Quadrature, TanhSpeed
from ...solvers.base import Solver
from ...solvers.direct import Pardiso, SuperLU
from ...solvers.fast import FastTransform
from ...solvers.krylov import CG
from ...solvers.multigrid import multigrid
from .steady import Steady

FAST = CG(multigrid(islands=None))  # no search for islands: a fifth faster, as safe while jumps are moderate
ROBUST = CG(multigrid(cycle="W"))
LARGE_CONTRAST = 1e3
DIRECT: dict[str, Solver] = {"superlu": SuperLU(), "pardiso": Pardiso()}


def poisson(
    resolution: int = 128, *, structures: float = 4.0, dimensions: int = 2, stride: int = 1
) -> Steady:
    """Poisson equation, -Laplace u = f, smooth random sources, u = 0 on the boundary of the unit square.

    Args:
        resolution: cells along each axis; values sit at their centres.
        structures: about so many structures of f along a side.
        dimensions: 1, 2 or 3.
        stride: store every stride-th point.

    >>> poisson(32).layout.shape("u")
    (32, 32)
    """
    return Steady(
        "poisson", Poisson(structures), _cells(resolution, dimensions), FastTransform(), stride=stride
    )


def darcy(
    resolution: int = 421,
    *,
    high: float = 12.0,
    low: float = 3.0,
    alpha: float = 2.0,
    tau: float = 3.0,
    stride: int = 1,
) -> Steady:
    """Darcy flow, -div(a grad u) = 1, a two-phase permeability (12 and 3), u = 0 on the boundary.

    At contrasts of 1e6 and 421 cells the residual stagnates at 6e-8 in float64, and samples fail for that.

    Args:
        resolution: cells along each axis; values sit at their centres.
        high, low: values of a where the Gaussian field is >= 0, and where it is negative.
        alpha, tau: of the field, see `GaussianField`.
        stride: store every stride-th point; 421 gives 211, 141 and 85 by 2, 3 and 5.

    >>> darcy(421, stride=5).layout.shape("u")
    (85, 85)
    """
    return _darcy("darcy", resolution, TwoPhase(_neumann(alpha, tau), high, low), stride)


def darcy_rough(
    resolution: int = 512,
    *,
    high: float = 12.0,
    low: float = 2.0,
    alpha: float = 2.0,
    tau: float = 5.0,
    stride: int = 2,
) -> Steady:
    """Darcy flow with a finer two-phase permeability (12 and 2, tau 5), u = 0 on the boundary.

    Settings as of `darcy`. The published set stores 256 of 512 points along each axis.

    >>> darcy_rough().layout.shape("coefficient")
    (256, 256)
    """
    return _darcy("darcy-rough", resolution, TwoPhase(_neumann(alpha, tau), high, low), stride)


def darcy_lognormal(
    resolution: int = 256,
    *,
    sigma: float = 10.0,
    scale: float = 1.0,
    alpha: float = 2.0,
    tau: float = 3.0,
    stride: int = 1,
) -> Steady:
    """Darcy flow with a log-normal permeability, a = scale exp(g), u = 0 on the boundary.

    Args:
        resolution: cells along each axis; values sit at their centres.
        sigma: amplitude of g; with alpha 2 and tau 3 the standard deviation of log a is 0.0973 sigma.
        scale: median of a.
        alpha, tau: of g, see `GaussianField`.
        stride: store every stride-th point.

    >>> darcy_lognormal(64).layout.shape("u")
    (64, 64)
    """
    field = GaussianField(alpha, tau, sigma, Boundary.NEUMANN)
    return _darcy("darcy-lognormal", resolution, LogNormal(field, scale), stride)


def darcy_multiscale(
    resolution: int = 1024, *, scales: int = 6, swing: float = 0.5, stride: int = 4
) -> Steady:
    """Darcy flow with a permeability that oscillates on six scales, u = 0 on the boundary.

    Args:
        resolution: cells along each axis; values sit at their centres.
        scales, swing: number and relative size of the oscillations, see `Trigonometric`.
        stride: store every stride-th point.

    >>> darcy_multiscale().layout.shape("u")
    (256, 256)
    """
    return _darcy("darcy-multiscale", resolution, Trigonometric(scales, swing), stride)


def helmholtz(
    resolution: int = 101,
    *,
    omega: float = 1000.0,
    alpha: float = 2.0,
    tau: float = 3.0,
    terms: int = 100,
    quadrature: str = "balanced",
    solver: str = "superlu",
    stride: int = 1,
) -> Steady:
    """Helmholtz equation, -Laplace u - (omega / c)^2 u = 0, random speed c near 20, driven through one side.

    Args:
        resolution: nodes along each axis, those on the boundary included; 401 with stride 4 stores 101.
        omega: angular frequency.
        alpha, tau, terms: of the Gaussian field a in c = 20 + tanh(a), see `GaussianField`; sigma is 1.
        quadrature: "balanced", or "gauss" as in published data, see `Quadrature`.
        solver: "superlu", or "pardiso", which takes half the time on large grids and needs `solvus[direct]`.
        stride: store every stride-th point.

    >>> helmholtz().layout.shape("speed")
    (101, 101)
    """
    if solver not in DIRECT:
        raise ValueError(f"the solver is one of {', '.join(DIRECT)}, got {solver!r}")
    speed = TanhSpeed(GaussianField(alpha, tau, 1.0, Boundary.NEUMANN, terms))
    equation = HelmholtzMedium(omega, speed, quadrature=Quadrature(quadrature))
    grid = Grid((resolution, resolution), boundary=((Boundary.NEUMANN, Boundary.NEUMANN),))
    return Steady("helmholtz", equation, grid, DIRECT[solver], stride=stride)


def _cells(resolution: int, dimensions: int = 2) -> Grid:
    """The unit box with values at cell centres, u = 0 on its boundary."""
    return Grid((resolution,) * dimensions, centring=Centring.CELL)


def _neumann(alpha: float, tau: float) -> GaussianField:
    return GaussianField(alpha, tau, boundary=Boundary.NEUMANN)


def _darcy(
    name: str, resolution: int, coefficient: TwoPhase | LogNormal | Trigonometric, stride: int
) -> Steady:
    jumps = isinstance(coefficient, TwoPhase)
    contrast = max(coefficient.high / coefficient.low, coefficient.low / coefficient.high) if jumps else 1.0
    large = contrast > LARGE_CONTRAST
    equation, grid = Darcy(coefficient), _cells(resolution)
    # at 421 cells and a contrast of 1e4 rounding alone leaves 7e-10
    return Steady(name, equation, grid, ROBUST if large else FAST, 1e-9 if large else 1e-10, stride=stride)
