"""Random finite-element matrices on unstructured meshes, drawn from a generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import scipy.sparse as sp

from ....meshes.measure import signed_volumes
from ....meshes.mesh import Mesh
from ....meshes.random_shapes import RandomShapes
from ....meshes.shapes import box
from ....operators.linear.base import SPD
from ....operators.linear.csr import CSR, sparse
from ....operators.linear.queries import to_scipy
from ...fem.problems import VariableDiffusion
from ...fem.scikit import ScikitFem

_WAVES = 48


def jittered(mesh: Mesh, amount: float, rng: np.random.Generator) -> Mesh:
    """Move the inner points of a simplicial mesh at random, by `amount` of their shortest edge and direction.

    The moves are halved until no cell shrinks below a tenth of its volume.

    >>> mesh = jittered(box((4, 4)), 0.3, np.random.default_rng(0))
    >>> bool((mesh.volumes > 0).all()), round(float(mesh.volumes.sum()), 12)
    (True, 1.0)
    """
    kind, cells = next(iter(mesh.cells.items()))
    edges = mesh.entities(1) if mesh.dim > 1 else cells
    length = np.sqrt(((mesh.points[edges[:, 0]] - mesh.points[edges[:, 1]]) ** 2).sum(axis=1))
    shortest = np.full(mesh.n_points, np.inf)
    np.minimum.at(shortest, edges.ravel(), np.repeat(length, 2))
    moves = amount * shortest[:, None] * rng.uniform(-1, 1, mesh.points.shape)
    moves[np.unique(mesh.facets[mesh.boundary_facets])] = 0.0
    before = signed_volumes(kind, mesh.points[cells])
    while (signed_volumes(kind, (mesh.points + moves)[cells]) < 0.1 * before).any():
        moves /= 2
    return replace(mesh, points=mesh.points + moves)


def smooth_field(points: np.ndarray, structures: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field of about unit variance at points (n, d), a sum of plane waves.

    Args:
        structures: how many fit into the longest side of the domain, about.
    """
    side = float(np.ptp(points, axis=0).max())
    waves = rng.standard_normal((points.shape[1], _WAVES)) * (np.pi * structures / side)
    phase = rng.uniform(0, 2 * np.pi, _WAVES)
    field: np.ndarray = np.sqrt(2 / _WAVES) * np.cos(points @ waves + phase).sum(axis=1)
    return field


def draw_coefficient(mesh: Mesh, rng: np.random.Generator) -> np.ndarray:
    """Draw one value per cell: constant, log-normal (sigma up to 2.5) or two-phase (contrast up to 1e4)."""
    centres = mesh.points[next(iter(mesh.cells.values()))].mean(axis=1)
    field = smooth_field(centres, float(np.exp(rng.uniform(0, np.log(12)))), rng)
    kind = rng.random()
    if kind < 0.2:
        return np.ones(len(centres))
    if kind < 0.6:
        return np.exp(rng.uniform(0.5, 2.5) * field)
    return np.where(field > 0, 10 ** rng.uniform(0.5, 4), 1.0)


def stiffness(mesh: Mesh, coefficient: np.ndarray, fixed: tuple[str, ...] | None = None) -> CSR:
    """Return the matrix of -div(k grad u) in linear elements, u = 0 on the parts `fixed` (None: everywhere).

    Needs scikit-fem.
    """
    dirichlet = 0.0 if fixed is None else dict.fromkeys(fixed, 0.0)
    assembled = ScikitFem().assemble(VariableDiffusion(mesh, dirichlet=dirichlet, coefficient=coefficient))
    matrix = sp.csr_array(assembled.matrix[assembled.free][:, assembled.free])
    matrix = sp.csr_array((matrix + matrix.T) / 2)  # symmetric to the last bit
    return sparse(matrix, tags=SPD)


@final
@dataclass(frozen=True)
class RandomMeshes:
    """Draw stiffness matrices on random meshes of triangles and tetrahedra.

    Triangles: `RandomShapes` without holes, inner points moved at random. Tetrahedra: boxes of random sides
    and counts, bent by a smooth map, inner points moved at random, zero values on random faces. One
    coefficient per cell, see `draw_coefficient`. Half of the matrices are renumbered at random.

    Args:
        unknowns: smallest and largest number of unknowns, about.
        solid: chance of a mesh of tetrahedra.
        seed: of the stream; `draw(k)` is the k-th matrix, whatever was drawn before.

    >>> RandomMeshes((100, 200)).draw(0).positive_definite
    True
    """

    unknowns: tuple[int, int] = (500, 4000)
    solid: float = 0.4
    seed: int = 0

    def draw(self, number: int) -> CSR:
        """Return one matrix."""
        rng = np.random.default_rng([self.seed, number])
        low, high = np.log(self.unknowns)
        count = float(np.exp(rng.uniform(low, high)))
        mesh, fixed = self._solid(count, rng) if rng.random() < self.solid else self._plane(count, rng)
        A = stiffness(mesh, draw_coefficient(mesh, rng), fixed)
        return renumbered(A, rng.permutation(A.shape[0])) if rng.random() < 0.5 else A

    def _plane(self, count: float, rng: np.random.Generator) -> tuple[Mesh, None]:
        mesh = RandomShapes(edge=float(np.sqrt(3.6 / count))).draw(rng)
        return jittered(mesh, rng.uniform(0, 0.35), rng), None

    def _solid(self, count: float, rng: np.random.Generator) -> tuple[Mesh, tuple[str, ...]]:
        sides = np.exp(rng.uniform(-0.4, 0.4, 3))
        cells = np.maximum(np.round(count ** (1 / 3) * sides / sides.prod() ** (1 / 3)), 3).astype(int) + 1
        mesh = box(cells.tolist(), upper=(np.exp(rng.uniform(-0.3, 0.3, 3)) * sides).tolist())
        fixed = tuple(name for name in sorted(mesh.tags) if rng.random() < 0.5) or ("xmin",)
        return jittered(bent(mesh, rng.uniform(0, 0.12), rng), rng.uniform(0, 0.35), rng), fixed


def bent(mesh: Mesh, amount: float, rng: np.random.Generator) -> Mesh:
    """Move all points by a smooth random map, halved until no cell shrinks below a tenth of its volume."""
    kind, cells = next(iter(mesh.cells.items()))
    side = float(np.ptp(mesh.points, axis=0).max())
    moves = [smooth_field(mesh.points, 1.0, rng) for _ in range(mesh.points.shape[1])]
    shift = amount * side * np.stack(moves, axis=1)
    before = signed_volumes(kind, mesh.points[cells])
    while (signed_volumes(kind, (mesh.points + shift)[cells]) < 0.1 * before).any():
        shift /= 2
    return replace(mesh, points=mesh.points + shift)


def renumbered(A: CSR, order: np.ndarray) -> CSR:
    """Return P A P^T, whose unknown i is the unknown order[i] of A."""
    return sparse(sp.csr_array(to_scipy(A)[order][:, order]), tags=A.tags)
