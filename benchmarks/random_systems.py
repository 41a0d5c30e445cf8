"""Random linear systems by seed, and a judge of their solutions that uses SciPy and NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from solvus.meshes import Boundary, Centring, Grid
from solvus.operators.linear import SPD, Diffusion, LinearOperator, sparse, to_scipy
from solvus.operators.pde import Darcy
from solvus.operators.pde.fields import log_normal, two_phase
from solvus.solvers import LinearSystem
from solvus.solvers.learned import FieldSystem

Kind = Literal["box", "grid", "fields", "matrix"]


@dataclass(frozen=True)
class Drawn:
    """A random system.

    Args:
        problem: as the library takes it.
        matrices: one per sample, or one for all, SciPy, float64.
        rtol: tolerance that fits its type.
    """

    problem: LinearSystem
    matrices: list[sp.csr_array]
    rtol: float


def draw(kind: Kind, seed: int) -> Drawn:
    """Draw a system that a kind of part works on."""
    rng = np.random.default_rng(seed)
    dtype = torch.float64 if rng.random() < 0.6 else torch.float32
    rtol = 1e-8 if dtype is torch.float64 else 1e-4
    batch = int(rng.integers(2, 4)) if rng.random() < 0.4 else 0
    if kind == "matrix":
        A, matrices = _graph(rng, dtype)
        return Drawn(LinearSystem(A, _right_hand_side(A, rng, batch)), matrices, rtol)
    dim = 3 if kind == "box" else 2 if kind == "fields" else int(rng.integers(1, 4))
    low, high = {1: (30, 90), 2: (6, 16), 3: (3 if kind == "box" else 4, 6)}[dim]
    if dim == 1:
        dtype, rtol = torch.float64, 1e-8  # float32 does not reach 1e-4 on long lines
    shape = tuple(int(n) for n in rng.integers(low, high, dim))
    grid = _grid(shape, rng, plain=kind == "fields")
    count = batch if rng.random() < 0.5 and kind != "box" else 0
    drawn = [_coefficient(grid, rng, dtype) for _ in range(count or 1)]
    k = torch.stack(drawn) if count else drawn[0]
    matrices = [sp.csr_array(to_scipy(Diffusion(grid, one)).astype(np.float64)) for one in drawn]
    if kind == "fields":
        return Drawn(FieldSystem(Darcy(), grid, {"coefficient": k}), matrices, rtol)
    A = Diffusion(grid, k)
    b = _right_hand_side(A, rng, count or batch)
    if (
        kind == "box" and grid.mask is not None and rng.random() < 0.8
    ):  # direction networks leave out the rest
        b = b * torch.as_tensor(grid.mask.ravel())
    return Drawn(LinearSystem(A, b), matrices, rtol)


def _grid(shape: tuple[int, ...], rng: np.random.Generator, *, plain: bool) -> Grid:
    if plain:
        return Grid(shape, centring=Centring.CELL)
    kinds = (Boundary.DIRICHLET, Boundary.NEUMANN)
    faces = [kinds[int(rng.random() < 0.4)] for _ in range(2 * len(shape))]
    pairs = tuple((faces[2 * i], faces[2 * i + 1]) for i in range(len(shape)))
    mask = rng.random(shape) > 0.1 if rng.random() < 0.4 else None
    if mask is not None and not mask.any():
        mask = None
    centring = Centring.CELL if rng.random() < 0.6 else Centring.NODE
    obstacle = Boundary.NEUMANN if rng.random() < 0.5 else Boundary.DIRICHLET
    return Grid(shape, centring=centring, boundary=pairs, mask=mask, obstacle=obstacle)


def _coefficient(grid: Grid, rng: np.random.Generator, dtype: torch.dtype) -> Tensor:
    kind, seed = rng.integers(3), int(rng.integers(2**31))
    if kind == 0:
        k = np.full(grid.cells, rng.uniform(0.5, 2.0))
    elif kind == 1:
        k = log_normal(grid, 1.0, seed, structures=4.0)
    else:
        k = two_phase(
            grid, 10.0 ** rng.uniform(0, 3 if dtype is torch.float64 else 1.5), seed, structures=4.0
        )
    return torch.as_tensor(np.ascontiguousarray(k)).to(dtype)


def _graph(rng: np.random.Generator, dtype: torch.dtype) -> tuple[LinearOperator, list[sp.csr_array]]:
    """Return the Laplacian of a random graph with positive weights and a small shift."""
    n = int(rng.integers(27, 200))
    links = sp.random_array(
        (n, n), density=4 / n, rng=rng, data_sampler=lambda size: rng.uniform(0.1, 2, size)
    )
    links = sp.csr_array(links + links.T)
    links.setdiag(0.0)
    matrix = sp.csr_array(sp.diags_array(links.sum(axis=1) + 0.05) - links)
    A = sparse(matrix, tags=SPD, dtype=dtype)
    return A, [sp.csr_array(to_scipy(A).astype(np.float64))]


def _right_hand_side(A: LinearOperator, rng: np.random.Generator, batch: int) -> Tensor:
    n = A.shape[0]
    b = rng.standard_normal((batch, n) if batch else n)
    if batch and rng.random() < 0.3:
        b[0] = 0.0
    b = torch.as_tensor(b * 10.0 ** rng.uniform(-3, 3)).to(A.dtype)
    return b if A.nullspace is None else A.nullspace.project(b)


def mistake(drawn: Drawn, value: Tensor) -> str | None:
    """Return what is wrong with a solution, None for nothing: SciPy and NumPy alone, in float64."""
    n = drawn.problem.n
    x = value.detach().double().numpy().reshape(-1, n)
    b = np.broadcast_to(drawn.problem.b.double().numpy().reshape(-1, n), x.shape)
    eps = float(torch.finfo(value.dtype).eps)
    kernel = drawn.problem.A.nullspace
    known = [_direct(A, 0 if kernel is None else kernel.dimension) for A in drawn.matrices]
    for i in range(len(x)):
        which = i if len(known) > 1 else 0
        A, (direct, least) = drawn.matrices[which], known[which]
        if not np.isfinite(x[i]).all():
            return f"sample {i} is not finite"
        residual = np.linalg.norm(b[i] - A @ x[i])
        # the library recomputes it in the type of the system, in which x is rounded too
        rounding = 8 * eps * (np.linalg.norm(abs(A) @ abs(x[i])) + np.linalg.norm(b[i]))
        allowed = drawn.rtol * np.linalg.norm(b[i]) * (1 + 1e-5) + rounding
        if not residual <= allowed:
            return f"residual {residual:.2e} of sample {i}, allowed {allowed:.2e}"
        distance = np.linalg.norm(x[i] - direct(b[i]))
        bound = 1.01 * allowed / least + 100 * eps * np.linalg.norm(x[i])
        if not distance <= bound:
            return f"distance {distance:.2e} of sample {i} to the direct solution, allowed {bound:.2e}"
    return None


def _direct(A: sp.csr_array, kernel: int) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Return a direct solver by SciPy, and the least eigenvalue beyond a kernel of that dimension."""
    values, vectors = scipy.linalg.eigh(A.toarray())
    if kernel == 0:
        return spla.splu(sp.csc_array(A)).solve, float(values[0])
    assert abs(values[kernel - 1]) < 1e-5 * values[-1]  # coefficients of float32 leave row sums of 1e-7
    Q, inverse = vectors[:, kernel:], 1 / values[kernel:]
    return (lambda b: Q @ (inverse * (Q.T @ b))), float(values[kernel])
