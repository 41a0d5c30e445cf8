"""Plane elasticity: Lame's constants, strains and stresses of displacements of degree 1, von Mises stress."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

import numpy as np

from ...meshes.mesh import Mesh
from ...operators.linear.errors import ShapeMismatch
from .problems import lame
from .simplex import Floats


class Plane(StrEnum):
    """What is zero across the plane."""

    STRAIN = "strain"  # a slice of a long body
    STRESS = "stress"  # a thin plate


@final
@dataclass(frozen=True, eq=False)
class PlaneMaterial:
    """An isotropic elastic material in the plane.

    Args:
        young: Young's modulus, a number or one per cell (M,).
        poisson: Poisson's ratio, 0 < poisson < 0.5.
        plane: strain or stress.

    Raises:
        ValueError: constants out of range.

    >>> steel = PlaneMaterial(210e9, 0.3, "stress")
    >>> [f"{float(value):.4g}" for value in steel.lame]
    ['6.923e+10', '8.077e+10']
    """

    young: float | Floats
    poisson: float = 0.3
    plane: Plane = Plane.STRAIN

    def __post_init__(self) -> None:
        object.__setattr__(self, "plane", Plane(self.plane))
        lame(float(np.min(self.young)), self.poisson)  # raises

    @property
    def lame(self) -> tuple[Floats, Floats]:
        """Lame's constants (lam, mu) of the equation in the plane, as `Elasticity` takes them.

        lam = E nu / ((1 + nu)(1 - 2 nu)) for plane strain, E nu / (1 - nu^2) for plane stress;
        mu = E / (2 (1 + nu)).
        """
        young, nu = np.asarray(self.young, dtype=np.float64), self.poisson
        narrow = 1 - nu if self.plane is Plane.STRESS else 1 - 2 * nu
        return young * nu / ((1 + nu) * narrow), young / (2 * (1 + nu))

    def stresses(
        self,
        mesh: Mesh,
        displacement: Floats,  # (N, 2), at the points of the mesh
    ) -> Floats:
        """Return 2 mu eps + lam tr(eps) I in every triangle, and the stress across the plane, (M, 3, 3)."""
        eps = strains(mesh, displacement)
        lam, mu = self.lame
        pressure = lam * np.trace(eps, axis1=1, axis2=2)
        out = np.zeros((len(eps), 3, 3))
        out[:, :2, :2] = 2 * np.broadcast_to(mu, len(eps))[:, None, None] * eps
        for axis in range(2 if self.plane is Plane.STRESS else 3):
            out[:, axis, axis] += pressure
        return out


def strains(mesh: Mesh, displacement: Floats) -> Floats:
    """Return (grad u + grad u^T) / 2 in every simplex of displacements (N, d) of degree 1, (M, d, d).

    Raises:
        ShapeMismatch: other than one vector per point.

    >>> from ...meshes.shapes import box
    >>> mesh = box((1, 1))
    >>> strains(mesh, mesh.points * [1.0, 2.0])[0].tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    if displacement.shape != mesh.points.shape:
        raise ShapeMismatch(
            f"a displacement has one vector per point, {mesh.points.shape}, got {displacement.shape}"
        )
    x, u = mesh.points[mesh.simplices], displacement[mesh.simplices]  # (M, d + 1, d)
    gradient = np.linalg.solve(x[:, 1:] - x[:, :1], u[:, 1:] - u[:, :1])  # [axis, component]
    return (gradient + np.swapaxes(gradient, 1, 2)) / 2


def von_mises(
    stress: Floats,  # (M, 3, 3)
) -> Floats:
    """Return sqrt(3/2 s : s) of the deviators s of stresses, (M,); zero for pressure alone.

    >>> von_mises(np.diag([3.0, 0.0, 0.0])[None]).tolist()
    [3.0]
    """
    deviator = stress - np.trace(stress, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    return np.sqrt(1.5 * (deviator * deviator).sum(axis=(1, 2)))
