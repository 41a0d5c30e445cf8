"""Presets for heat conduction, advection, the Burgers and the Korteweg-de Vries equation."""

from __future__ import annotations

from math import pi, sqrt

from ...meshes.grid import Boundary, Grid
from ...operators.pde.advection import Advection
from ...operators.pde.burgers import Burgers
from ...operators.pde.heat import Heat
from ...operators.pde.korteweg_de_vries import KortewegDeVries
from .trajectories import Trajectories, dividing_step

_PERIODIC = ((Boundary.PERIODIC, Boundary.PERIODIC),)


def heat(
    resolution: int = 64,
    *,
    time: float = 1.0,
    frames: int = 20,
    dt: float = 5e-4,
    low: float = 0.1,
    high: float = 10.0,
    forcing: float = 32.0,
) -> Trajectories:
    """Heat equation with a diffusivity that changes in time and a circling source, by Crank-Nicolson.

    Args:
        resolution: cells along each axis, one more than unknowns.
        time: of the last frame.
        frames: after the initial one, at equal intervals.
        dt: longest step; the nearest one below it that divides an interval is taken.
        low, high, forcing: see `Heat`.

    >>> heat(32).layout.shape("u")
    (21, 31, 31)
    """
    interval = time / frames
    step, n = dividing_step(interval, dt), resolution - 1
    return Trajectories("heat", Heat(low, high, forcing), Grid((n, n)), step, interval, frames)


def advection(
    resolution: int = 1024,
    *,
    velocity: float = 0.4,
    dimensions: int = 1,
    time: float = 2.0,
    frames: int = 40,
    alpha: float = 3.0,
    tau: float = 6.0,
) -> Trajectories:
    """Linear advection of smooth random states on the periodic unit box, exact.

    Args:
        resolution: points along each axis.
        velocity: the same along every axis.
        dimensions: 1, 2 or 3.
        time: of the last frame.
        frames: after the initial one, at equal intervals.
        alpha, tau: of the initial states, see `Advection`.

    >>> advection(64, dimensions=2).layout.shape("u")
    (41, 64, 64)
    """
    grid = Grid((resolution,) * dimensions, boundary=_PERIODIC)
    interval = time / frames
    equation = Advection((velocity,) * dimensions, alpha, tau)
    return Trajectories("advection", equation, grid, interval, interval, frames)


def burgers(
    resolution: int = 8192,
    *,
    viscosity: float = 0.1,
    length: float = 2 * pi,
    time: float = 1.0,
    frames: int = 1,
    alpha: float = 2.0,
    tau: float = 5.0,
    sigma: float = 25.0,
) -> Trajectories:
    """Viscous Burgers equation, u(., 0) to u(., 1), random initial states, periodic, by ETDRK4.

    Solved on a grid of 1024 points or more and of spacing at most viscosity / 2.5, of which `resolution`
    points are stored. One seed gives the same initial states on all grids, up to their finest details.

    Args:
        resolution: stored points.
        viscosity: at least 1e-3.
        length: of the interval, see `Burgers`.
        time: of the last frame.
        frames: after the initial one, at equal intervals.
        alpha, tau, sigma: of the initial states, see `Burgers`.

    >>> burgers(256).grid.shape, burgers(256).layout.shape("u")
    ((1024,), (2, 256))
    """
    needed = max(1024.0, 2.5 * length / viscosity)
    stride = 1
    while stride * resolution < needed:
        stride *= 2
    grid = Grid((stride * resolution,), upper=(length,), boundary=_PERIODIC)
    interval = time / frames
    return Trajectories(
        "burgers",
        Burgers(viscosity, alpha, tau, sigma),
        grid,
        dt=dividing_step(interval, sqrt(viscosity) / 64),
        interval=interval,
        frames=frames,
        max_residual=1e-4,
        stride=stride,
    )


def kdv(
    resolution: int = 256,
    *,
    length: float = 64.0,
    time: float = 20.0,
    frames: int = 20,
    solitons: int = 3,
    slowest: float = 0.3,
    fastest: float = 0.9,
) -> Trajectories:
    """Korteweg-de Vries equation, u_t + 6 u u_x + u_xxx = 0: random solitons meet, periodic, by ETDRK4.

    Solved on a grid of spacing at most 1 / (4 fastest), of which `resolution` points are stored.

    Args:
        resolution: stored points.
        length: of the interval.
        time: of the last frame.
        frames: after the initial one, at equal intervals.
        solitons, slowest, fastest: of the initial states, see `KortewegDeVries`.

    >>> kdv(128).grid.shape, kdv(128).layout.shape("u")
    ((256,), (21, 128))
    """
    stride = 1
    while stride * resolution < 4 * fastest * length:
        stride *= 2
    interval = time / frames
    return Trajectories(
        "kdv",
        KortewegDeVries(solitons=solitons, slowest=slowest, fastest=fastest),
        Grid((stride * resolution,), upper=(length,), boundary=_PERIODIC),
        dt=dividing_step(interval, 4e-3 / fastest**3),
        interval=interval,
        frames=frames,
        max_residual=1e-4,
        stride=stride,
    )
