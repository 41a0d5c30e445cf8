"""Steady problems on random shapes: a mesh for every sample, finite elements of degree 1."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...meshes.mesh import Mesh
from ...meshes.random_shapes import RandomShapes
from ...solvers.fem import FemBackend, FemProblem, FemSolution, ScikitFem, fenics
from ...solvers.fem.backends import SolveFailed
from ..recipe import Draw, Recipe, Solved
from ..unstructured.mesh_storage import MeshLayout, MeshStorage, mesh_arrays, mesh_from_arrays

Array = NDArray[Any]
_LU = {"ksp_type": "preonly", "pc_type": "lu"}
_SHAPES = RandomShapes()


class Backend(StrEnum):
    """Who assembles and solves."""

    SCIKIT_FEM = "scikit-fem"  # in this process, by SuperLU
    FENICS = "fenics"  # dolfinx, in this process or another, by PETSc's LU


@dataclass(frozen=True)
class ShapeRecipe(Recipe):
    """What recipes on random shapes share.

    Args:
        name: of the dataset.
        shapes: the domains.
        backend: scikit-fem or fenics; they agree to rounding.
        max_residual: largest relative residual of the linear system of a sample that counts.
        dtype: of stored fields, "float32" or "float64".

    Raises:
        NotSupported: scikit-fem is to solve and is not installed. FenicsUnavailable: the same for FEniCS.
    """

    name: str
    shapes: RandomShapes = _SHAPES
    backend: Backend = Backend.SCIKIT_FEM
    max_residual: float = 1e-9
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", Backend(self.backend))
        self.solver()  # raises

    @property
    @abstractmethod
    def mesh_layout(self) -> MeshLayout:
        """Form of the samples."""

    @abstractmethod
    def draw_fields(self, mesh: Mesh, generator: np.random.Generator) -> tuple[Mesh, dict[str, Array]]:
        """Draw the inputs on a mesh; returns it with the tags that conditions need."""

    @abstractmethod
    def problem(self, mesh: Mesh, draw: Mapping[str, Array]) -> FemProblem:
        """Return the boundary-value problem of a sample."""

    @abstractmethod
    def outputs(self, mesh: Mesh, draw: Mapping[str, Array], solution: FemSolution) -> dict[str, Array]:
        """Return the fields that are stored beside the inputs."""

    @property
    def storage(self) -> MeshStorage:
        """Where the arrays of a sample go."""
        return MeshStorage(self.mesh_layout, self.shapes.typical_points)

    @property
    def shape_tags(self) -> dict[str, int]:
        """Tags that a shape comes with, and their dimension."""
        return {"outer": 1, "hole": 1} if self.shapes.holes > 0 else {"outer": 1}

    def solver(self) -> FemBackend:
        """Return the backend; raises when it is not there."""
        if self.backend is Backend.FENICS:
            return fenics(_LU, rtol=self.max_residual)
        backend = ScikitFem(rtol=self.max_residual)
        backend.version()  # raises
        return backend

    def draw(self, generator: np.random.Generator) -> Draw:
        """Draw shape and inputs of one sample: the arrays of its mesh, and the input fields."""
        mesh = self.shapes.draw(generator)
        missing = {name: (dim, []) for name, dim in self.shape_tags.items() if name not in mesh.tags}
        mesh, fields = self.draw_fields(mesh.with_tags(missing), generator)
        drawn: dict[str, Any] = {**mesh_arrays(mesh), **fields}
        return drawn

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        """Solve samples one by one, always on the CPU."""
        backend = self.solver()
        return [self._solve_one(backend, draw) for draw in draws]

    def _solve_one(self, backend: FemBackend, draw: Mapping[str, Array]) -> Solved:
        mesh = mesh_from_arrays(draw, self.mesh_layout.tags)
        try:
            solution = backend.solve(self.problem(mesh, draw))
        except SolveFailed as error:
            return Solved({}, np.inf, 0, str(error))
        residual, steps = float(solution.stats["residual"]), int(solution.stats["iterations"])
        return Solved({**draw, **self.outputs(mesh, draw, solution)}, residual, steps)


def centroids(mesh: Mesh) -> NDArray[np.float64]:
    """Return the centroids of the cells of a simplicial mesh, (M, d)."""
    return mesh.points[mesh.simplices].mean(axis=1)
