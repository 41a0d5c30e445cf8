"""Flow and pattern formation on periodic boxes: presets."""

from __future__ import annotations

from math import ceil, inf

from ...meshes.grid import Boundary, Grid
from ...operators.pde.fisher_kpp import FisherKPP
from ...operators.pde.gray_scott import GrayScott
from ...operators.pde.kuramoto_sivashinsky import KuramotoSivashinsky
from ...operators.pde.navier_stokes import NavierStokes
from .trajectories import Trajectories, dividing_step

_PERIODIC = ((Boundary.PERIODIC, Boundary.PERIODIC),)
# From a viscosity on: points per side that are needed, dt times points per side, time of the published set.
_FLOWS = ((1e-3, 64, 2.56, 50.0), (1e-4, 128, 1.28, 30.0), (-inf, 256, 1.28, 20.0))


def navier_stokes(
    resolution: int = 64,
    *,
    viscosity: float = 1e-3,
    time: float | None = None,
    interval: float = 1.0,
    dt: float | None = None,
    refine: int | None = None,
    forcing: float = 0.1,
    sigma: float = 7.0**1.5,
) -> Trajectories:
    """Vorticity of a forced flow on the periodic unit square, by ETDRK4.

    Solved on a grid of refine * resolution points per side, every refine-th of which is stored. With the
    default grids and steps the error of the published settings stays below 3e-3 (1e-6 for nu = 1e-3).

    Args:
        resolution: stored points per side.
        viscosity: nu.
        time: of the last frame; None: as published, 50 for nu >= 1e-3, 30 for nu >= 1e-4, else 20.
        interval: between frames.
        dt: length of a step; None: 2.56 / n on a grid of n^2 for nu >= 1e-3, below 1.28 / n, for the flow
            becomes faster.
        refine: None: to 64^2 for nu >= 1e-3, 128^2 for nu >= 1e-4, else 256^2.
        forcing: amplitude; see `NavierStokes`.
        sigma: amplitude of the initial vorticity; see `NavierStokes` for what was published.

    >>> navier_stokes(viscosity=1e-4).grid.shape, navier_stokes(viscosity=1e-4).layout.shape("vorticity")
    ((128, 128), (31, 64, 64))
    """
    if resolution < 1 or (refine is not None and refine < 1):
        raise ValueError(f"resolution and refine count points, so at least 1, got {resolution} and {refine}")
    needed, courant, published = next(row for smallest, *row in _FLOWS if viscosity >= smallest)
    factor = max(1, ceil(needed / resolution)) if refine is None else refine
    n = factor * resolution
    frames = _frames(published if time is None else time, interval)
    return Trajectories(
        "navier-stokes",
        NavierStokes(viscosity, forcing, sigma=sigma),
        Grid((n, n), boundary=_PERIODIC),
        dt=dividing_step(interval, courant / n) if dt is None else dt,
        interval=interval,
        frames=frames,
        stride=factor,
    )


def kuramoto_sivashinsky(
    resolution: int = 128,
    *,
    length: float = 64.0,
    time: float = 100.0,
    interval: float = 1.0,
    dt: float = 0.05,
) -> Trajectories:
    """Kuramoto-Sivashinsky chaos on a periodic interval, by ETDRK4.

    Args:
        resolution: points; at least two per unit length.
        length: of the interval; 22 is the onset of chaos.
        time: of the last frame; the first 50 or so lead from the smooth initial state to the attractor.
        interval: between frames.
        dt: length of a step.
    """
    grid = Grid((resolution,), upper=(length,), boundary=_PERIODIC)
    frames = _frames(time, interval)
    return Trajectories("kuramoto-sivashinsky", KuramotoSivashinsky(), grid, dt, interval, frames)


def fisher_kpp(
    resolution: int = 256,
    *,
    dimensions: int = 1,
    diffusion: float = 5e-3,
    rate: float = 5.0,
    time: float = 1.0,
    interval: float = 0.01,
    dt: float | None = None,
) -> Trajectories:
    """Fisher-KPP fronts on a periodic box of side 1 in one or two dimensions, by ETDRK4.

    PDEBench's reaction-diffusion set has resolution=1024, diffusion 0.5 to 5, rate 1 to 10.

    Args:
        resolution: points per side.
        dimensions: 1 or 2.
        diffusion: D.
        rate: r.
        time: of the last frame.
        interval: between frames.
        dt: length of a step; None: at most 0.05 / r.
    """
    frames = _frames(time, interval)
    return Trajectories(
        "fisher-kpp",
        FisherKPP(diffusion, rate),
        Grid((resolution,) * dimensions, boundary=_PERIODIC),
        dt=dividing_step(interval, 0.05 / max(rate, 1.0)) if dt is None else dt,
        interval=interval,
        frames=frames,
    )


def gray_scott(
    resolution: int = 128,
    *,
    feed: float = 0.029,
    kill: float = 0.057,
    bumps: int = 20,
    time: float = 5000.0,
    interval: float = 50.0,
    dt: float = 1.0,
) -> Trajectories:
    """Gray-Scott patterns of two species on a periodic square of side 2, by ETDRK4.

    Args:
        resolution: points per side.
        feed: F; see `GrayScott` for pairs (F, k) and their patterns.
        kill: k.
        bumps: in an initial state.
        time: of the last frame.
        interval: between frames.
        dt: length of a step.
    """
    equation = GrayScott(feed, kill, bumps=bumps)
    grid = Grid((resolution, resolution), upper=(2.0, 2.0), boundary=_PERIODIC)
    return Trajectories("gray-scott", equation, grid, dt, interval, _frames(time, interval))


def _frames(time: float, interval: float) -> int:
    """Intervals in a time."""
    if not interval > 0:
        raise ValueError(f"the interval between frames must be positive, got {interval}")
    frames = round(time / interval)
    if frames < 1 or abs(frames * interval - time) > 1e-9 * time:
        raise ValueError(f"the time {time} is no multiple of the interval {interval} between frames")
    return frames
