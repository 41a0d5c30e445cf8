"""Darcy flow on random shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...meshes.mesh import Mesh
from ...operators.pde.features import FourierFeatures
from ...solvers.fem import FemSolution, VariableDiffusion
from ..layout import Role, Variable
from ..unstructured.mesh_storage import MeshLayout
from .mesh_recipes import ShapeRecipe, centroids

Array = NDArray[Any]


class CoefficientKind(StrEnum):
    """How a coefficient is made of a smooth random field g of variance 1."""

    LOG_NORMAL = "log-normal"  # contrast^(g / 4): nearly all values within a ratio of contrast
    TWO_PHASE = "two-phase"  # contrast where g > 0, else 1


class HoleCondition(StrEnum):
    """What holds on the rim of a hole."""

    NO_FLUX = "no flux"
    ZERO = "zero"


@final
@dataclass(frozen=True)
class DarcyOnShapes(ShapeRecipe):
    """-div(a grad u) = f on random shapes; u = 0 on the outer boundary.

    The coefficient a has one value per cell, that of a random function at the centroid; the
    function does not depend on the mesh.

    Args:
        coefficient: log-normal or two-phase.
        contrast: of the coefficient, at least 1.
        length: over which the coefficient varies, see `FourierFeatures`.
        source: f.
        hole: no flux through the rim of holes, or u = 0 there.
    """

    coefficient: CoefficientKind = CoefficientKind.LOG_NORMAL
    contrast: float = 10.0
    length: float = 0.4
    source: float = 1.0
    hole: HoleCondition = HoleCondition.NO_FLUX

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "coefficient", CoefficientKind(self.coefficient))
        object.__setattr__(self, "hole", HoleCondition(self.hole))
        if not self.contrast >= 1:
            raise ValueError(f"contrast is the ratio of the largest to the least value, got {self.contrast}")
        FourierFeatures(self.length)  # raises

    @property
    def mesh_layout(self) -> MeshLayout:
        """Form of the samples."""
        return MeshLayout(
            self.name,
            (Variable("u", meaning="the solution, a pressure"),),
            (Variable("coefficient", role=Role.INPUT, meaning="a > 0"),),
            self.shape_tags,
            parameters={"source": self.source, "contrast": self.contrast, "length": self.length},
            dtype=self.dtype,
        )

    def draw_fields(self, mesh: Mesh, generator: np.random.Generator) -> tuple[Mesh, dict[str, Array]]:
        """Draw the coefficient."""
        g = FourierFeatures(self.length).draw(generator, 2)(centroids(mesh))
        if self.coefficient is CoefficientKind.TWO_PHASE:
            return mesh, {"coefficient": np.where(g > 0, self.contrast, 1.0)}
        return mesh, {"coefficient": self.contrast ** (g / 4)}

    def problem(self, mesh: Mesh, draw: Mapping[str, Array]) -> VariableDiffusion:
        """Return the boundary-value problem of a sample."""
        held = {"outer": 0.0}
        if self.hole is HoleCondition.ZERO and len(mesh.tags.get("hole", (1, ()))[1]):
            held["hole"] = 0.0
        return VariableDiffusion(mesh, self.source, held, coefficient=draw["coefficient"])

    def outputs(self, mesh: Mesh, draw: Mapping[str, Array], solution: FemSolution) -> dict[str, Array]:
        """Return u."""
        return {"u": solution.value}
