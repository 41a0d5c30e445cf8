"""Algebraic coarsening: the matrices and transfers of a hierarchy, set up by PyAMG on the CPU."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import scipy.sparse as sp

from ...operators.linear.errors import NotSupported, ShapeMismatch

_MAX_LEVELS = 30
_MAX_BOTTOM = 5000  # unknowns of the dense matrix at the bottom, 200 MB in float64


@contextmanager
def quiet_and_repeatable() -> Iterator[None]:
    """Let PyAMG draw the same start vectors every time, leave NumPy's global generator as it was."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)


class Coarsening(ABC):
    """How coarse levels are made; `hierarchy` returns them finest first."""

    @abstractmethod
    def hierarchy(
        self, matrix: sp.csr_array, *, max_coarse: int, symmetric: bool
    ) -> list[tuple[sp.csr_array, sp.csr_array | None, sp.csr_array | None]]:
        """Return (A, P, R) per level, P and R None at the bottom."""


def _levels(solver: Any) -> list[tuple[sp.csr_array, sp.csr_array | None, sp.csr_array | None]]:
    """Read the levels of a PyAMG solver, less the empty one that a want of strong couplings leaves."""
    kept = [solver.levels[0]]
    for level in solver.levels[1:]:
        if level.A.shape[0] == 0 or level.A.nnz == 0:
            break
        kept.append(level)
    found: list[tuple[sp.csr_array, sp.csr_array | None, sp.csr_array | None]] = []
    for level in kept:
        A = sp.csr_array(level.A)
        A.sort_indices()
        bottom = level is kept[-1]
        found.append((A, None, None) if bottom else (A, sp.csr_array(level.P), sp.csr_array(level.R)))
    size = found[-1][0].shape[0]
    if size > _MAX_BOTTOM:
        raise NotSupported(
            f"algebraic coarsening stalled at {size} of {found[0][0].shape[0]} unknowns, too many for the "
            "dense matrix at the bottom: lower the strength threshold theta, or take another preconditioner"
        )
    return found


@final
@dataclass(frozen=True)
class RugeStuben(Coarsening):
    """Classical coarsening: coarse unknowns are a subset of the fine ones.

    The choice for M-matrices (scalar diffusion, graph Laplacians), also with strong jumps and anisotropy.

    Args:
        theta: j influences i strongly when -a_ij >= theta * max_k -a_ik.
        second_pass: a second pass over the splitting: more coarse unknowns, better interpolation.

    Source: Ruge and Stuben, Algebraic multigrid, in Multigrid Methods (1987).
    """

    theta: float = 0.25
    second_pass: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.theta < 1:
            raise ValueError(f"the strength threshold theta lies in [0, 1), got {self.theta}")

    def hierarchy(
        self, matrix: sp.csr_array, *, max_coarse: int, symmetric: bool
    ) -> list[tuple[sp.csr_array, sp.csr_array | None, sp.csr_array | None]]:
        """Return the levels."""
        import pyamg

        solver = pyamg.ruge_stuben_solver(
            matrix,
            strength=("classical", {"theta": self.theta}),
            CF=("RS", {"second_pass": self.second_pass}),
            presmoother=None,
            postsmoother=None,
            max_coarse=max_coarse,
            max_levels=_MAX_LEVELS,
        )
        return _levels(solver)


@final
@dataclass(frozen=True, eq=False)
class SmoothedAggregation(Coarsening):
    """Coarsening by aggregates of unknowns, with interpolation smoothed by one Jacobi step.

    The choice for systems of equations such as elasticity, with their near-null space given, and for
    symmetric positive definite matrices with positive off-diagonal entries.

    Args:
        candidates: (n, k), vectors that A almost maps to zero away from the boundary: for elasticity
            `rigid_body_modes`; None: constants.
        block_size: unknowns per node, numbered node by node (the displacement components).
        strength: "symmetric", |a_ij| > theta sqrt(a_ii a_jj); or "evolution", dearer and better for
            anisotropy and high order.
        theta: threshold of the symmetric strength; 0 takes every coupling as strong, 0.08 suits strong jumps
            in 2-D. Too high a threshold leaves nothing to aggregate.

    Source: Vanek, Mandel, Brezina, Computing 56 (1996) 179; evolution strength: Olson, Schroder, Tuminaro,
    SIAM J. Sci. Comput. 32 (2010) 2699.
    """

    candidates: np.ndarray | None = None
    block_size: int = 1
    strength: Literal["symmetric", "evolution"] = "symmetric"
    theta: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.theta < 1:
            raise ValueError(f"the strength threshold theta lies in [0, 1), got {self.theta}")
        if self.block_size < 1:
            raise ValueError(f"block_size counts the unknowns per node, at least 1, got {self.block_size}")
        if self.strength not in ("symmetric", "evolution"):
            raise ValueError(f"strength is 'symmetric' or 'evolution', got {self.strength!r}")

    def hierarchy(
        self, matrix: sp.csr_array, *, max_coarse: int, symmetric: bool
    ) -> list[tuple[sp.csr_array, sp.csr_array | None, sp.csr_array | None]]:
        """Return the levels."""
        import pyamg

        n, block = matrix.shape[0], self.block_size
        if n % block:
            raise ShapeMismatch(f"block_size {block} does not divide the {n} unknowns")
        given = None if self.candidates is None else np.asarray(self.candidates, dtype=matrix.dtype)
        if given is not None and (given.ndim != 2 or given.shape[0] != n or not np.isfinite(given).all()):
            raise ShapeMismatch(
                f"the near-null space has shape {given.shape}; it needs {n} rows (unknowns), one column per "
                "vector, all finite"
            )
        per_node = max(block, 1 if given is None else given.shape[1])  # PyAMG counts nodes
        strength = ("symmetric", {"theta": self.theta}) if self.strength == "symmetric" else "evolution"
        solver = pyamg.smoothed_aggregation_solver(
            matrix if block == 1 else matrix.tobsr((block, block)),
            B=given,
            symmetry="symmetric" if symmetric else "nonsymmetric",
            strength=strength,
            presmoother=None,
            postsmoother=None,
            max_coarse=max(1, max_coarse // per_node),
            max_levels=_MAX_LEVELS,
        )
        return _levels(solver)


def choose_coarsening(matrix: sp.csr_array) -> Coarsening:
    """Return Ruge-Stuben for matrices close to an M-matrix, else smoothed aggregation.

    Close means: a positive diagonal, and positive off-diagonal entries that sum to less than a tenth of the
    negative ones.
    """
    off = matrix - sp.diags_array(matrix.diagonal())
    positive = off.data[off.data > 0].sum()
    negative = -off.data[off.data < 0].sum()
    if (matrix.diagonal() > 0).all() and positive <= 0.1 * negative:
        return RugeStuben()
    return SmoothedAggregation()


def rigid_body_modes(points: np.ndarray) -> np.ndarray:
    """Return the rigid body modes of an elastic body, the near-null space for `SmoothedAggregation`.

    Args:
        points: (N, d), node coordinates, d = 2 or 3; displacements are numbered node by node.

    Returns:
        (N d, 3) in the plane, (N d, 6) in space: translations, then rotations about the centre.

    >>> rigid_body_modes(np.zeros((4, 2))).shape
    (8, 3)
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise ShapeMismatch(f"points have shape {points.shape}; needed: (N, 2) or (N, 3) node coordinates")
    count, d = points.shape
    centred = points - points.mean(axis=0)
    pairs = [(0, 1)] if d == 2 else [(0, 1), (1, 2), (2, 0)]
    modes = np.zeros((count, d, d + len(pairs)))
    for axis in range(d):
        modes[:, axis, axis] = 1
    for column, (p, q) in enumerate(pairs, start=d):
        modes[:, p, column] = -centred[:, q]
        modes[:, q, column] = centred[:, p]
    return modes.reshape(count * d, -1)
