"""What finite-element backends return: assembled systems and solutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ...operators.linear.base import SPD, SYMMETRIC
from ...operators.linear.csr import sparse
from ...operators.linear.errors import IncompatibleSystem, ShapeMismatch
from ...operators.linear.nullspace import Constants
from ..system import LinearSystem
from .lattice import basis
from .problems import FemProblem
from .quadrature import simplex_rule
from .simplex import Floats, Ints, nodes

_COMPATIBLE = 1e-2  # interpolated data cancel to discretisation accuracy only
_CHUNK = 1 << 20  # numbers held at once while integrating


@final
@dataclass(frozen=True, eq=False)
class Assembled:
    """The linear system of a problem, in the numbering of the mesh: node by node, d unknowns each.

    Rows and columns of Dirichlet unknowns are those of the identity, b holds their values.

    Attributes:
        matrix: SciPy CSR (n, n). b: (n,).
        permutation: (n,), our number of the backend's unknowns.
        fixed: unknowns with Dirichlet values.
        seconds: what assembling took inside the backend.
    """

    problem: FemProblem
    matrix: sp.csr_array
    b: Floats
    permutation: Ints
    fixed: Ints
    seconds: float

    @property
    def free(self) -> Ints:
        """Unknowns without Dirichlet values, ascending."""
        return np.setdiff1d(np.arange(len(self.b)), self.fixed, assume_unique=True)

    def system(self) -> LinearSystem:
        """Return the system of the free unknowns, in float64; `extend` completes its solution."""
        free, problem = self.free, self.problem
        matrix, b = self.matrix[free][:, free], torch.from_numpy(self.b[free])
        matrix.sort_indices()
        if singular(problem):
            kernel = Constants()
            return LinearSystem(sparse(matrix, tags=SPD, nullspace=kernel), kernel.project(b))
        return LinearSystem(sparse(matrix, tags=SPD if problem.definite else SYMMETRIC), b)

    def extend(self, x: Any) -> Floats:
        """Put the free unknowns (n_free,) and the Dirichlet values together: (n,)."""
        values = np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x, dtype=np.float64)
        free = self.free
        if values.shape != free.shape:
            raise ShapeMismatch(f"extend needs one value per free unknown {free.shape}, got {values.shape}")
        out = self.b.copy()
        out[free] = values
        return out


def singular(problem: FemProblem) -> bool:
    """Whether constants solve the homogeneous problem."""
    return not problem.essential and "k2" not in problem.coefficients()


def imbalance(b: Floats) -> float:
    """Return |sum b| / sum |b|: how far sources and fluxes are from cancelling."""
    return float(abs(b.sum()) / max(np.abs(b).sum(), np.finfo(float).tiny))


def check_compatible(problem: FemProblem, share: float) -> None:
    """Refuse a problem without Dirichlet part whose source and fluxes do not cancel.

    Raises:
        IncompatibleSystem: their sum exceeds a hundredth of what is summed.
    """
    if singular(problem) and share > _COMPATIBLE:
        raise IncompatibleSystem(
            f"without a Dirichlet part the source and the fluxes must cancel, their sum is {share:.1e} of "
            "what is summed, so no solution exists: fix a part, or correct the source or the fluxes"
        )


@final
@dataclass(frozen=True, eq=False)
class FemSolution:
    """A finite-element function that solves a problem.

    Attributes:
        value: at the nodes `problem.points`, (nodes,), for elasticity (nodes, d).
        stats: seconds and what the solver tells: assemble_s, setup_s, solve_s, overhead_s (exchange with a
            worker), iterations, residual.
    """

    problem: FemProblem
    value: Floats
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def points(self) -> Floats:
        """Coordinates of the nodes, (nodes, d)."""
        return self.problem.points

    def at(self, points: NDArray[Any]) -> Floats:
        """Evaluate at points (n, d) of the domain: (n,), for elasticity (n, d).

        Raises:
            ShapeMismatch: points of another dimension.
            ValueError: points outside the mesh.
        """
        mesh, degree = self.problem.mesh, self.problem.degree
        x = np.asarray(points, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != mesh.dim:
            raise ShapeMismatch(f"points must be (n, {mesh.dim}), got {x.shape}")
        cells, bary = _locate(mesh, x)
        local = self.value[nodes(mesh, degree)[0][cells]]
        return np.einsum("qi,qi...->q...", basis(mesh.dim, degree, bary), local)

    def l2_error(self, exact: Callable[[Floats], Any], *, relative: bool = False) -> float:
        """Return ||u_h - u||, over the domain; `exact` takes points (n, d). Divided by ||u|| if relative.

        The rule is exact for polynomials of degree 2p + 4.
        """
        mesh, degree = self.problem.mesh, self.problem.degree
        bary, weights = simplex_rule(mesh.dim, 2 * degree + 4)
        table, numbers = basis(mesh.dim, degree, bary), nodes(mesh, degree)[0]
        error = norm = 0.0
        step = max(1, _CHUNK // len(weights))
        for start in range(0, len(mesh.cells), step):
            part = slice(start, start + step)
            x = bary @ mesh.points[mesh.cells[part]]  # (c, q, d)
            u = self.problem.values(exact, x, "exact")
            uh = np.einsum("qi,ci...->cq...", table, self.value[numbers[part]])
            w = mesh.volumes[part, None] * weights
            error += float((w * _squares(uh - u)).sum())
            norm += float((w * _squares(u)).sum())
        return float(np.sqrt(error / norm if relative else error))

    def mean(self) -> float:
        """Return the mean of a scalar solution over the domain."""
        mesh, degree = self.problem.mesh, self.problem.degree
        bary, weights = simplex_rule(mesh.dim, degree)
        shares = weights @ basis(mesh.dim, degree, bary)
        cells = self.value[nodes(mesh, degree)[0]] @ shares
        return float(mesh.volumes @ cells / mesh.volumes.sum())


def _squares(e: Floats) -> Floats:
    return e * e if e.ndim == 2 else (e * e).sum(axis=-1)


def _locate(mesh: Any, x: Floats) -> tuple[Ints, Floats]:
    """Find the cell of every point and the barycentric coordinates in it."""
    corners = mesh.points[mesh.cells]  # (M, d + 1, d)
    inverse = np.linalg.inv(corners[:, 1:] - corners[:, :1])
    tree = KDTree(corners.mean(axis=1))
    cells = np.zeros(len(x), dtype=np.int64)
    bary = np.full((len(x), mesh.dim + 1), -np.inf)
    missing = np.arange(len(x))
    tried = 0
    for count in (8, 64, len(mesh.cells)):
        count = min(count, len(mesh.cells))
        near = tree.query(x[missing], k=np.arange(tried + 1, count + 1))[1] if count > tried else []
        for column in np.transpose(near):
            rest = np.einsum("qd,qde->qe", x[missing] - corners[column, 0], inverse[column])
            trial = np.concatenate([1 - rest.sum(axis=1, keepdims=True), rest], axis=1)
            better = trial.min(axis=1) > bary[missing].min(axis=1)
            cells[missing[better]], bary[missing[better]] = column[better], trial[better]
        missing = np.flatnonzero(bary.min(axis=1) < -1e-9)
        tried = count
        if not len(missing):
            return cells, bary
    raise ValueError(
        f"{len(missing)} points lie outside the mesh, the first is {x[missing[0]].tolist()}: evaluate inside"
    )
