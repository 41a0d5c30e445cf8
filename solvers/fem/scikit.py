"""Finite elements by scikit-fem, in process: the backend that needs nothing but pip."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, final

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import norm

from ...operators.linear.errors import NotSupported
from ..base import Solver, Status, Stop, solve
from ..direct import SuperLU
from .backends import SolveFailed, check_condition, finish
from .discrete import Discrete, discretise
from .lattice import basis, correspondence, lattice_degree, positions
from .problems import FemProblem
from .simplex import Floats, Ints, Simplices, nodes
from .solution import Assembled, FemSolution, check_compatible, imbalance

_ELEMENTS = {
    (1, 1): "ElementLineP1",
    (1, 2): "ElementLineP2",
    (2, 1): "ElementTriP1",
    (2, 2): "ElementTriP2",
    (2, 3): "ElementTriP3",
    (3, 1): "ElementTetP1",
    (3, 2): "ElementTetP2",
}
_MAX_STEPS = 10_000
_MESHES = {1: "MeshLine", 2: "MeshTri", 3: "MeshTet"}


@final
@dataclass(frozen=True)
class ScikitFem:
    """scikit-fem assembles, a solver of ours solves.

    Args:
        solver: method for the free unknowns.
        rtol: relative tolerance of `solver`.

    Raises:
        NotSupported: scikit-fem is missing, or has no such element (P3 in one and three dimensions).
        SolveFailed: the solver did not converge, or the matrix is singular.
    """

    solver: Solver = field(default_factory=SuperLU)
    rtol: float = 1e-10

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "scikit-fem"

    def version(self) -> str:
        """Tell the version."""
        return f"scikit-fem {_skfem().__version__}"

    def assemble(self, problem: FemProblem) -> Assembled:
        """Return matrix and right-hand side."""
        data = discretise(problem)
        begin = perf_counter()
        A, b, dofs = _forms(data)
        seconds = perf_counter() - begin
        check_compatible(problem, imbalance(b))
        A, b = _fix(A, b, data)
        return Assembled(problem, A, b, dofs, data.fixed_dofs, seconds)

    def solve(self, problem: FemProblem) -> FemSolution:
        """Return the solution."""
        begin = perf_counter()
        assembled = self.assemble(problem)
        system = assembled.system()
        ready = perf_counter()
        result = solve(system, self.solver, stop=Stop(rtol=self.rtol, max_steps=_MAX_STEPS), throw=False)
        if result.status is not Status.CONVERGED:
            raise SolveFailed(
                f"{type(self.solver).__name__} ended with {result.status.name}, residual "
                f"{float(result.relative_residual):.1e} ({result.reason or result.status.advice}): "
                "loosen rtol or choose another `solver`; a Helmholtz problem may be at a resonance"
            )
        scale = float(system.scale())
        if scale > 0:
            check_condition(float(result.value.norm()) * norm(assembled.matrix, np.inf) / scale)
        stats = {name: result.stats[name] for name in ("setup_s", "solve_s")}
        stats |= {"assemble_s": assembled.seconds, "overhead_s": 0.0}
        stats |= {"evaluate_s": ready - begin - assembled.seconds}
        stats |= {"iterations": result.steps, "residual": float(result.relative_residual)}
        return finish(problem, assembled.extend(result.value), stats)


def _skfem() -> Any:
    if importlib.util.find_spec("skfem") is None:
        raise NotSupported("scikit-fem is not installed: `pip install solvus[fem]`, or use FEniCS")
    import skfem

    return skfem


def _forms(data: Discrete) -> tuple[sp.csr_array, Floats, Ints]:
    """Assemble matrix and load in our numbering; the numbering of scikit-fem's unknowns comes with them."""
    problem, mesh, m = data.problem, data.problem.mesh, data.problem.components
    space = _space(mesh, problem.degree, m, _order(data))
    dofs, fem = space.dofs, _skfem()
    get = {name: _evaluate(mesh.dim, values, space.bary) for name, values in data.fields.items()}
    form = _elastic(fem) if problem.kind == "elastic" else _scalar(fem, "k2" in get)
    source = get.pop("source")
    A = form.assemble(space.basis, **get).tocoo()
    b = _load(fem, m).assemble(space.basis, f=source)
    if data.flux is not None:
        b = b + _flux(fem, space, data)
    n = space.basis.N
    matrix = sp.coo_array((A.data, (dofs[A.row], dofs[A.col])), shape=(n, n)).tocsr()
    load = np.empty(n)
    load[dofs] = b
    return matrix, load, dofs


@final
@dataclass(frozen=True, eq=False)
class _Space:
    """scikit-fem's mesh and basis, and what ties both to our numbering."""

    mesh: Any
    element: Any
    basis: Any
    dofs: Ints  # (N,), our number of their unknowns
    bary: Floats  # (M, q, d + 1), their quadrature points in our vertex order


@functools.lru_cache(maxsize=4)
def _space(mesh: Simplices, degree: int, m: int, order: int) -> _Space:
    fem, d = _skfem(), mesh.dim
    if (d, degree) not in _ELEMENTS:
        raise NotSupported(
            f"scikit-fem has no Lagrange element of degree {degree} in {d} dimensions: use FEniCS"
        )
    element = getattr(fem, _ELEMENTS[d, degree])()
    theirs = getattr(fem, _MESHES[d])(mesh.points.T.copy(), mesh.cells.T.copy())
    full = fem.ElementVector(element, d) if m > 1 else element
    cells = fem.Basis(theirs, full, intorder=order)
    local = correspondence(mesh.cells, theirs.t.T, degree, _indices(element, degree))
    numbers = np.take_along_axis(
        nodes(mesh, degree)[0], local, axis=1
    )  # (M, n), our nodes of their local nodes
    dofs = np.empty(cells.N, dtype=np.int64)
    dofs[cells.element_dofs.T.reshape(len(numbers), -1, m)] = numbers[..., None] * m + np.arange(m)
    place = positions(mesh.cells, theirs.t.T)
    at = np.broadcast_to(_barycentric(cells.X)[None], (len(place), cells.X.shape[1], d + 1))
    ours = np.empty_like(at)
    np.put_along_axis(ours, np.broadcast_to(place[:, None], at.shape), at, axis=2)
    return _Space(theirs, full, cells, dofs, ours)


def _order(data: Discrete) -> int:
    """Return the quadrature order that integrates every term exactly."""
    d, p = data.problem.mesh.dim, data.problem.degree
    degrees = {name: lattice_degree(d, values.shape[1]) for name, values in data.fields.items()}
    lost = {"source": p, "k2": 0}  # derivatives lower the degree of the other terms by two
    order = max(q + 2 * p - lost.get(name, 2) for name, q in degrees.items())
    return order + 1 if d == 3 and order > 4 else order  # its rules on tetrahedra then fall short by one


def _indices(element: Any, degree: int) -> Ints:
    x = np.asarray(element.doflocs)
    bary = np.concatenate([1 - x.sum(axis=1, keepdims=True), x], axis=1)
    return np.rint(bary * degree).astype(np.int64)


def _barycentric(X: Floats) -> Floats:
    """Turn reference coordinates (d, q) to barycentric ones (q, d + 1)."""
    return np.concatenate([1 - X.sum(axis=0, keepdims=True), X]).T


def _evaluate(dim: int, values: Floats, bary: Floats) -> Floats:
    """Evaluate lattice values (M, n[, d]) at points (M, q, dim + 1) of the cells; ([d, ]M, q)."""
    out = np.einsum("mqn,mn...->mq...", basis(dim, lattice_degree(dim, values.shape[1]), bary), values)
    return np.ascontiguousarray(np.moveaxis(out, 2, 0)) if out.ndim == 3 else out


def _scalar(fem: Any, shifted: bool) -> Any:
    from skfem.helpers import dot, grad

    if shifted:
        return fem.BilinearForm(lambda u, v, w: w["kappa"] * dot(grad(u), grad(v)) - w["k2"] * u * v)
    return fem.BilinearForm(lambda u, v, w: w["kappa"] * dot(grad(u), grad(v)))


def _elastic(fem: Any) -> Any:
    from skfem.helpers import ddot, div, sym_grad

    return fem.BilinearForm(
        lambda u, v, w: 2 * w["mu"] * ddot(sym_grad(u), sym_grad(v)) + w["lam"] * div(u) * div(v)
    )


def _load(fem: Any, components: int) -> Any:
    from skfem.helpers import dot

    if components > 1:
        return fem.LinearForm(lambda v, w: dot(w["f"], v))
    return fem.LinearForm(lambda v, w: w["f"] * v)


def _flux(fem: Any, space: _Space, data: Discrete) -> Floats:
    """Assemble the Neumann load, in scikit-fem's numbering."""
    flux, mesh, theirs = data.flux, data.problem.mesh, space.mesh
    assert flux is not None
    rows = np.stack(
        [np.delete(cell, o) for cell, o in zip(mesh.cells[flux.cells], flux.opposite, strict=True)]
    )
    number = mesh.locate_facets(np.sort(rows, axis=1))
    outer = theirs.boundary_facets()
    known = mesh.locate_facets(np.sort(theirs.facets[:, outer].T, axis=1))
    facets = np.empty(len(mesh.boundary), dtype=np.int64)
    facets[known] = outer
    order = np.argsort(facets[number])  # scikit-fem keeps the facets as given
    p = data.problem.degree
    side = fem.FacetBasis(theirs, space.element, facets=facets[number][order], intorder=2 * p + 1)
    corners = mesh.points[mesh.cells[flux.cells[order]]]
    x = np.moveaxis(np.asarray(side.global_coordinates()), 0, -1)  # (F, q, d)
    rest = np.linalg.solve(
        np.swapaxes(corners[:, 1:] - corners[:, :1], 1, 2), np.swapaxes(x - corners[:, :1], 1, 2)
    )
    rest = np.swapaxes(rest, 1, 2)
    bary: Floats = np.concatenate([1 - rest.sum(axis=2, keepdims=True), rest], axis=2, dtype=np.float64)
    g = _evaluate(mesh.dim, flux.values[order], bary)
    return _load(fem, data.problem.components).assemble(side, f=g)


def _fix(A: sp.csr_array, b: Floats, data: Discrete) -> tuple[sp.csr_array, Floats]:
    """Eliminate Dirichlet unknowns symmetrically: their rows become the identity's."""
    fixed = data.fixed_dofs
    g = np.zeros(len(b))
    g[fixed] = data.fixed_values.ravel()
    free = np.ones(len(b))
    free[fixed] = 0.0
    b = (b - A @ g) * free + g
    keep = sp.diags_array(free)
    return sp.csr_array(keep @ A @ keep + sp.diags_array(1.0 - free)), b
