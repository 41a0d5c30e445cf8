"""The Korteweg-de Vries equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meshes.grid import Grid
from .base import FieldSpec, Place
from .evolution import ExactTrajectory, Semilinear, SpectralEvolution
from .spectral import Fourier, check_periodic


@final
@dataclass(frozen=True)
class KortewegDeVries(SpectralEvolution):
    """u_t + steepening u u_x + dispersion u_xxx = 0 on a periodic interval.

    Fourier method with the 2/3 rule: the mass (integral of u) is kept to rounding, the energy (of u^2) up to
    the error of the time stepper. A soliton of wave number k has the height 12 k^2 dispersion / steepening,
    the width 1 / k and the speed 4 k^2 dispersion.

    Args:
        steepening: not zero.
        dispersion: positive.
        solitons: humps of a random initial state.
        slowest, fastest: range of their wave numbers k; `fastest` needs a spacing of about 1 / (4 k), and
            `slowest` a box of at least 20 / k.

    Source: Zabusky and Kruskal (1965); several solitons: Hirota (1971).

    >>> grid = Grid((128,), upper=(64.0,), boundary="periodic")
    >>> u = KortewegDeVries().exact(grid, [0.0]).values["u"]
    >>> round(float(u.sum() * grid.spacing[0]), 6)  # 4 k per soliton
    3.75
    """

    steepening: float = 6.0
    dispersion: float = 1.0
    solitons: int = 3
    slowest: float = 0.3
    fastest: float = 0.9

    state: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "elevation of the wave"),)

    def __post_init__(self) -> None:
        if self.steepening == 0 or not self.dispersion > 0:
            raise ValueError(
                f"steepening must not be zero and dispersion be positive, got {self.steepening} and "
                f"{self.dispersion}: without one of them there are no solitons"
            )
        if self.solitons < 1 or not 0 < self.slowest <= self.fastest:
            raise ValueError(
                f"a random state has one or more solitons with 0 < slowest <= fastest, got {self.solitons}, "
                f"{self.slowest} and {self.fastest}"
            )

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is a periodic interval."""
        check_periodic(grid, (1,))

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n sums of solitons of random wave number, anywhere in the box, (n, *grid.shape)."""
        self.check(grid)
        x, length = grid.axes()[0] - grid.lower[0], grid.upper[0] - grid.lower[0]
        states = np.zeros((n, *grid.shape))
        for state in states:
            for number, place in generator.random((self.solitons, 2)):
                k = self.slowest + (self.fastest - self.slowest) * number
                for shift in (-length, 0.0, length):  # images make it periodic
                    state += self._height(k) / np.cosh(k * (x - place * length + shift)) ** 2
        return {"u": torch.from_numpy(states)}

    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equation for Fourier coefficients; see `SpectralEvolution`."""
        self.check(grid)
        basis = Fourier(grid, device=device)
        ik = basis.ik[0]
        flux = -0.5 * self.steepening * ik
        return Semilinear(
            -self.dispersion * ik**3, lambda v: flux * basis.square(v), basis.to_modes, basis.to_grid
        )

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory:
        """Return two solitons, the faster one behind: it overtakes near t = L^3 / (11520 dispersion).

        k = 36 / L and 24 / L, at L / 4 and L / 2 when t = 0. Images outside the box make the state periodic;
        what one soliton feels of the other's image, at least L / 2 away, is about exp(-24) of its height.
        """
        self.check(grid)
        x, length = grid.axes()[0] - grid.lower[0], grid.upper[0] - grid.lower[0]
        scale = 12 * self.dispersion / self.steepening
        rows = [scale * _two_solitons(x, length, self.dispersion * t) for t in (0.0, *times)]
        values = torch.from_numpy(np.stack(rows))
        return ExactTrajectory({"u": values[0]}, {"u": values[1:]})

    def _height(self, k: float) -> float:
        return 12 * k**2 * self.dispersion / self.steepening


def _two_solitons(x: NDArray[np.float64], length: float, t: float) -> NDArray[np.float64]:
    """Return (log F)_xx, F = 1 + exp(p) + exp(q) + ((k - l) / (k + l))^2 exp(p + q), summed over images."""
    k, l = 36 / length, 24 / length
    ahead, behind = (place + 4 * wave**2 * t for wave, place in ((k, length / 4), (l, length / 2)))
    slopes = np.array([0.0, 2 * k, 2 * l, 2 * (k + l)])[:, None]
    total = np.zeros_like(x)
    low, high = sorted((ahead, behind))
    for image in range(floor(low / length) - 1, ceil(high / length) + 1):
        y = x + image * length
        p, q = 2 * k * (y - ahead), 2 * l * (y - behind)
        exponents = np.stack([np.zeros_like(y), p, q, p + q + 2 * log((k - l) / (k + l))])
        parts = np.exp(exponents - exponents.max(0))
        parts /= parts.sum(0)
        total += (parts * slopes**2).sum(0) - (parts * slopes).sum(0) ** 2
    return total
