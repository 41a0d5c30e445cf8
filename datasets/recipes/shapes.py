"""Presets on random shapes: Darcy flow and linear elasticity, every sample on a mesh of its own."""

from __future__ import annotations

from ...meshes.random_shapes import OutlineKind, RandomShapes
from ...solvers.fem.elasticity import Plane
from .darcy_on_shapes import CoefficientKind, DarcyOnShapes, HoleCondition
from .elasticity_on_shapes import ElasticityOnShapes, Load
from .mesh_recipes import Backend


def darcy_shapes(
    resolution: int = 32,
    *,
    outline: str = "mixed",
    holes: float = 0.5,
    hole: str = "no flux",
    coefficient: str = "log-normal",
    contrast: float = 10.0,
    length: float = 0.4,
    backend: str = "scikit-fem",
) -> DarcyOnShapes:
    """Darcy flow, -div(a grad u) = 1, on random shapes with triangle meshes, u = 0 on the outer boundary.

    Args:
        resolution: triangles across a shape: their edges are 2 / resolution on average.
        outline: smooth, polygon or mixed.
        holes: chance of a hole.
        hole: "no flux" through its rim, or "zero" on it.
        coefficient: log-normal or two-phase.
        contrast: of the coefficient.
        length: over which it varies.
        backend: scikit-fem or fenics.

    >>> darcy_shapes(16).mesh_layout.tags
    {'outer': 1, 'hole': 1}
    """
    return DarcyOnShapes(
        "darcy-shapes",
        _shapes(resolution, outline, holes),
        Backend(backend),
        coefficient=CoefficientKind(coefficient),
        contrast=contrast,
        length=length,
        hole=HoleCondition(hole),
    )


def elasticity_shapes(
    resolution: int = 32,
    *,
    outline: str = "mixed",
    holes: float = 0.5,
    load: str = "traction",
    poisson: float = 0.3,
    plane: str = "strain",
    contrast: float = 1.0,
    backend: str = "scikit-fem",
) -> ElasticityOnShapes:
    """Linear elasticity on random shapes with triangle meshes, clamped on one side and pulled on the other.

    Args:
        resolution: triangles across a shape: their edges are 2 / resolution on average.
        outline: smooth, polygon or mixed.
        holes: chance of a hole, whose rim is free.
        load: "traction" on a part of the boundary, or "body force".
        poisson: Poisson's ratio.
        plane: strain or stress.
        contrast: of Young's modulus, which varies smoothly; 1: uniform.
        backend: scikit-fem or fenics.

    >>> elasticity_shapes(16).mesh_layout["displacement"].rank
    1
    """
    return ElasticityOnShapes(
        "elasticity-shapes",
        _shapes(resolution, outline, holes),
        Backend(backend),
        load=Load(load),
        poisson=poisson,
        plane=Plane(plane),
        contrast=contrast,
    )


def _shapes(resolution: int, outline: str, holes: float) -> RandomShapes:
    if resolution < 6:
        raise ValueError(f"resolution counts triangles across a shape, at least 6, got {resolution}")
    return RandomShapes(2 / resolution, OutlineKind(outline), holes=holes)
