"""Linear elasticity on random shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...meshes.mesh import Mesh
from ...operators.pde.features import FourierFeatures
from ...solvers.fem import Elasticity, FemSolution
from ...solvers.fem.elasticity import Plane, PlaneMaterial, von_mises
from ..layout import Role, Variable
from ..unstructured.mesh_storage import MeshLayout
from .mesh_recipes import ShapeRecipe, centroids

Array = NDArray[Any]


class Load(StrEnum):
    """What pulls at an elastic body."""

    TRACTION = "traction"  # a force per length on a part of the outer boundary
    BODY_FORCE = "body force"  # a force per area


@final
@dataclass(frozen=True)
class ElasticityOnShapes(ShapeRecipe):
    """-div sigma = b, sigma n = t, small strains, on random shapes, a random part of the boundary clamped.

    sigma = 2 mu eps(u) + lam div(u) I. The clamped part is the outer boundary within an angle of 20 to 40
    degrees on both sides of a random direction; a traction acts opposite, within 15 to 30 degrees. Forces are
    uniform, of random direction and of `size` times 0.5 to 1.5. The rest of the boundary is free.

    Args:
        load: traction or body force.
        size: of the load, over Young's modulus: displacements are about this times the size of the body.
        poisson: Poisson's ratio, 0 to 0.5.
        plane: strain or stress.
        contrast: of Young's modulus, contrast^(g / 4) with a smooth random field g; 1: uniform.
        length: over which Young's modulus varies.
    """

    load: Load = Load.TRACTION
    size: float = 0.01
    poisson: float = 0.3
    plane: Plane = Plane.STRAIN
    contrast: float = 1.0
    length: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "load", Load(self.load))
        object.__setattr__(self, "plane", Plane(self.plane))
        PlaneMaterial(1.0, self.poisson, self.plane)  # raises
        FourierFeatures(self.length)
        if not (self.contrast >= 1 and self.size > 0):
            raise ValueError(f"needs contrast >= 1 and size > 0, got {self.contrast} and {self.size}")

    @property
    def force(self) -> str:
        """Name of the field that holds the load."""
        return self.load.value.replace(" ", "_")

    @property
    def mesh_layout(self) -> MeshLayout:
        """Form of the samples."""
        where = "on the part loaded, else 0" if self.load is Load.TRACTION else "per area"
        return MeshLayout(
            self.name,
            (
                Variable(self.force, 1, Role.INPUT, meaning=f"force {where}, over the mean Young's modulus"),
                Variable("displacement", 1, meaning="u"),
            ),
            (
                Variable("young", role=Role.INPUT, meaning="Young's modulus"),
                Variable("von_mises", meaning="von Mises stress"),
            ),
            {**self.shape_tags, "clamped": 1, "loaded": 1},
            parameters={
                "poisson": self.poisson,
                "contrast": self.contrast,
                "size": self.size,
                "length": self.length,
            },
            dtype=self.dtype,
        )

    def draw_fields(self, mesh: Mesh, generator: np.random.Generator) -> tuple[Mesh, dict[str, Array]]:
        """Draw the parts, the load and Young's modulus."""
        direction, turn = generator.uniform(0, 2 * np.pi, 2)
        clamped, loaded = np.radians(generator.uniform([20.0, 15.0], [40.0, 30.0]))
        force = self.size * generator.uniform(0.5, 1.5) * np.array([np.cos(turn), np.sin(turn)])
        g = FourierFeatures(self.length).draw(generator, 2)(centroids(mesh))
        mesh = mesh.with_tags(
            {"clamped": _sector(mesh, direction, clamped), "loaded": _sector(mesh, direction + np.pi, loaded)}
        )
        field = np.zeros((mesh.n_points, 2))
        field[mesh.tagged_points("loaded") if self.load is Load.TRACTION else slice(None)] = force
        return mesh, {self.force: field, "young": self.contrast ** (g / 4)}

    def material(self, draw: Mapping[str, Array]) -> PlaneMaterial:
        """Return the material of a sample."""
        return PlaneMaterial(draw["young"], self.poisson, self.plane)

    def problem(self, mesh: Mesh, draw: Mapping[str, Array]) -> Elasticity:
        """Return the boundary-value problem of a sample."""
        lam, mu = self.material(draw).lame
        force = draw[self.force][mesh.tagged_points("loaded")[0]]
        tractions = {"loaded": force} if self.load is Load.TRACTION else {}
        source = 0.0 if tractions else force
        return Elasticity(mesh, source, {"clamped": 0.0}, tractions, lam=lam, mu=mu)

    def outputs(self, mesh: Mesh, draw: Mapping[str, Array], solution: FemSolution) -> dict[str, Array]:
        """Return displacement and von Mises stress."""
        stresses = self.material(draw).stresses(mesh, solution.value)
        return {"displacement": solution.value, "von_mises": von_mises(stresses)}


def _sector(mesh: Mesh, direction: float, half: float) -> tuple[int, NDArray[np.int64]]:
    """Return the facets of the outer boundary seen within an angle of a direction, at least the nearest."""
    facets = mesh.tags["outer"][1]
    middle = mesh.points[mesh.facets[facets]].mean(axis=1)
    angle = np.arctan2(middle[:, 1], middle[:, 0]) - direction
    off = np.abs((angle + np.pi) % (2 * np.pi) - np.pi)
    return 1, facets[off <= max(half, off.min())]
