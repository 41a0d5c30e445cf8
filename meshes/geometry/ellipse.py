"""Ellipse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cos, pi, sin
from typing import final

import numpy as np
from scipy.special import ellipe, ellipeinc

from .balls import positive
from .base import Corner, Floats, Ints, Part
from .shape import Solid, finite_corner, shown

_TABLE = 1024
_BISECTIONS = 100  # 40 to come down to the least w, 53 for its digits


@final
@dataclass(frozen=True, repr=False)
class Ellipse(Solid):
    """An ellipse; its boundary is the part `name`, "ellipse".

    Points of the boundary are uniform in arc length: elliptic integrals of the second kind, inverted by
    Newton's method. Distances are exact, by bisection (Eberly 2013, "Distance from a point to an ellipse").

    Args:
        centre: (x, y).
        axes: the two half axes.
        angle: by which the first axis is turned from x, anticlockwise, in radians.
        name: of the boundary.

    Raises:
        InvalidGeometry: a half axis is not positive, or a value is not finite.

    >>> round(Ellipse((0, 0), (2, 1)).boundary_measure(), 6)
    9.688448
    """

    centre: Corner
    axes: Corner
    angle: float = 0.0
    name: str = "ellipse"

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("centre", finite_corner(self.centre, "the centre of Ellipse", 2))
        lengths = finite_corner(self.axes, "axes of Ellipse", 2)
        put("axes", tuple(positive(v, "a half axis of Ellipse") for v in lengths))
        put("angle", finite_corner((self.angle,), "the angle of Ellipse")[0])
        reach = np.hypot(*(self._frame * self._lengths[:, None]))
        self._span((np.array(self.centre) - reach).tolist(), (np.array(self.centre) + reach).tolist())

    def __repr__(self) -> str:
        return f"Ellipse({shown(self.centre, self.axes, *([self.angle] if self.angle else []))})"

    @property
    def _lengths(self) -> Floats:
        """Long and short half axis."""
        return np.sort(self.axes)[::-1]

    @property
    def _frame(self) -> Floats:
        """Directions of the long and of the short axis, (2, 2)."""
        first, second = (cos(self.angle), sin(self.angle)), (-sin(self.angle), cos(self.angle))
        return np.array((first, second) if self.axes[0] >= self.axes[1] else (second, first))

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its boundary."""
        return (Part(self.name, self),)

    def volume(self) -> float:
        """Return pi a b."""
        return pi * self.axes[0] * self.axes[1]

    @cached_property
    def _m(self) -> float:
        """The parameter of the elliptic integrals: the square of the eccentricity."""
        long, short = self._lengths
        return float(1 - (short / long) ** 2)

    @property
    def measures(self) -> Floats:
        """4 a E(m)."""
        return np.array([4 * self._lengths[0] * ellipe(self._m)])

    def _distance(self, points: Floats) -> Floats:
        long, short = self._lengths
        y = np.abs((points - np.array(self.centre)) @ self._frame.T)  # (n, 2), first quadrant
        z = y / (long, short)
        value = (z * z).sum(axis=1) - 1
        # The nearest point is x_i = y_i / (1 + s / ratio_i); s solves F(s) = 0, F falls where x stays >= 0.
        # Near the long axis s is near -1: what is bisected is w = s + 1, which keeps its digits there.
        ratio = (long / short) ** 2
        rest = (long - short) * (long + short) / short**2  # ratio - 1
        low = z[:, 1]
        high = np.where(value < 0, 1.0, np.hypot(ratio * z[:, 0], z[:, 1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            for _ in range(_BISECTIONS):
                w = (low + high) / 2
                above = (ratio * z[:, 0] / (w + rest)) ** 2 + (z[:, 1] / w) ** 2 > 1
                low, high = np.where(above, w, low), np.where(above, high, w)
            w = (low + high) / 2
            x = np.stack([ratio * y[:, 0] / (w + rest), y[:, 1] / w], axis=1)
        # On the long axis, near the centre: the foot has two places beside the axis.
        axis = y[:, 1] <= 1e-12 * short
        bend = 1 - 1 / ratio  # beyond bend * long the nearest point is the end of the axis
        foot = np.where(y[:, 0] < bend * long, y[:, 0] / max(bend, 1e-300), long)
        beside = short * np.sqrt(np.maximum(1 - (foot / long) ** 2, 0.0))
        x = np.where(axis[:, None] & (value < 0)[:, None], np.stack([foot, beside], axis=1), x)
        x[axis & (value >= 0)] = (long, 0.0)
        return np.sign(value) * np.hypot(*(x - y).T)

    def _contains(self, points: Floats) -> np.ndarray:
        z = (points - np.array(self.centre)) @ self._frame.T / self._lengths
        return (z * z).sum(axis=1) <= 1

    def fill(self, numbers: Floats) -> Floats:
        """Stretch points of the disc."""
        angle = 2 * pi * numbers[:, 0]
        unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.array(self.centre) + np.sqrt(numbers[:, 1:]) * unit * self._lengths @ self._frame

    def wrap(self, part: Ints, numbers: Floats) -> tuple[Floats, Floats]:
        """Find the angle at which the arc from the end of the short axis has the wanted length."""
        (long, short), m = self._lengths, self._m
        table = np.linspace(0, 2 * pi, _TABLE + 1)
        arcs = ellipeinc(table, m)
        wanted = numbers[:, 0] * arcs[-1]
        angle = np.interp(wanted, arcs, table)
        cell = np.clip(np.searchsorted(arcs, wanted, side="right") - 1, 0, _TABLE - 1)
        for _ in range(6):
            angle -= (ellipeinc(angle, m) - wanted) / np.sqrt(1 - m * np.sin(angle) ** 2)
            angle = np.clip(angle, table[cell], table[cell + 1])
        c, s = np.cos(angle), np.sin(angle)
        normals = np.stack([short * s, long * c], axis=1)
        normals /= np.hypot(*normals.T)[:, None]
        points = np.array(self.centre) + np.stack([long * s, short * c], axis=1) @ self._frame
        return points, normals @ self._frame

    def part_at(self, points: Floats) -> Ints:
        """Return 0, the only part."""
        return np.zeros(len(points), dtype=np.int64)
