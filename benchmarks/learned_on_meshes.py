"""Sparse inverses on unstructured meshes, on domains, sizes and coefficients that training never drew.

-div(k grad u) = f in linear elements, zero Dirichlet values, one coefficient per cell, inner points of the
mesh moved at random, f random (seed 0), zero start, conjugate gradients to a relative residual of 1e-8.
Training of the learned inverse drew 500 to 4,000 unknowns, shapes without holes and boxes, sigma up to 2.5,
contrasts up to 1e4. Here:

  holes-poisson, -log-normal, -two-phase    random shapes with a hole, triangles: k = 1; sigma 2.5; 1e4
  l-shape-1e6                               the L, two phases, contrast beyond training
  ball-poisson-3d, -two-phase-3d            a ball cut out of a box, tetrahedra: k = 1; contrast 1e4
  airfoil, bar, discontinuous               matrices of others, shipped by PyAMG: linear elements, elasticity
                                            in 3D, discontinuous Galerkin of high order
  elasticity-2d                             PyAMG's gallery: plane elasticity (Q1)

`size` is about the number of unknowns. FSAI is the classical factored inverse of Kolotilina and Yeremin, on
tril(A) and on tril(A^2): the peer to beat. Chebyshev(2) has two products with A more than Jacobi's method,
which is what applying a sparse inverse of the pattern of A costs. `train_s` in the records is the training
that all matrices share; set-up holds the features of the matrix and the network.

    python benchmarks/learned_on_meshes.py --quick
    python benchmarks/learned_on_meshes.py --only holes-two-phase:100000 --out meshes.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyamg
import scipy.sparse as sp
import torch
from pyamg.gallery import load_example

import solvus.solvers.learned.sparse_inverse
from solvus.bench import Case, Method, Options, Outcome, SystemCase, main, ours
from solvus.bench.peers import petsc_cg, pyamg_cg
from solvus.meshes import Grid, Mesh, grid_mesh, l_shape
from solvus.meshes.random_shapes import RandomShapes
from solvus.operators.linear import CSR, SPD, sparse
from solvus.solvers import CG, LinearSystem
from solvus.solvers.direct import SuperLU
from solvus.solvers.fem import BOOMERAMG
from solvus.solvers.learned.sparse_inverse import (
    factored_sparse_inverse,
    jittered,
    sparse_inverse,
    stiffness,
)
from solvus.solvers.learned.sparse_inverse.systems import smooth_field
from solvus.solvers.multigrid import amg
from solvus.solvers.preconditioners import chebyshev, ic0, ict, jacobi, ssor

WEIGHTS = Path(solvus.solvers.learned.sparse_inverse.__file__).resolve().parents[1] / "weights/sparse-inverse"
STEPS = 5000  # beyond that a preconditioner has failed
MESHES = ("holes-poisson", "holes-log-normal", "holes-two-phase", "l-shape-1e6")
SOLIDS = ("ball-poisson-3d", "ball-two-phase-3d")
FOREIGN = {"airfoil": 260, "bar": 600, "discontinuous": 966, "elasticity-2d": 19800}
QUICK = ("holes-two-phase", "ball-two-phase-3d", "airfoil", "bar")


@cache
def compile_kernels() -> None:
    """Compile the kernels of the CPU once, so that no method is charged with it."""
    A = sparse(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9)))
    for build in (ic0(), ict(), ssor(), amg(), factored_sparse_inverse(), sparse_inverse(WEIGHTS)):
        build(A).matvec(torch.ones(9, dtype=torch.float64))


def domain(name: str, size: int, rng: np.random.Generator) -> Mesh:
    """Mesh the domain of a case with about as many inner points."""
    if name.startswith("holes"):
        return RandomShapes(edge=float(np.sqrt(2.7 / size)), holes=1.0).draw(rng)
    if name.startswith("l-shape"):
        return l_shape(round(float(np.sqrt(size / 3))))
    n = round((6 * size / np.pi) ** (1 / 3))
    x = (np.arange(n) + 0.5) / n - 0.5
    distance = np.sqrt(sum(a * a for a in np.meshgrid(x, x, x, indexing="ij")))
    return grid_mesh(Grid((n, n, n), centring="cell", mask=distance < 0.5))


def coefficient(name: str, mesh: Mesh, rng: np.random.Generator) -> np.ndarray:
    """Return one value per cell."""
    field = smooth_field(mesh.points[next(iter(mesh.cells.values()))].mean(axis=1), 8.0, rng)
    if "poisson" in name:
        return np.ones(len(field))
    if "log-normal" in name:
        return np.exp(2.5 * field)
    return np.where(field > 0, 1e6 if name.endswith("1e6") else 1e4, 1.0)


def foreign(name: str) -> CSR:
    """Return a matrix that others made, symmetric to the last bit."""
    if name == "elasticity-2d":
        A = pyamg.gallery.linear_elasticity((100, 100))[0]
    else:
        A = load_example({"discontinuous": "local_disc_galerkin_diffusion"}.get(name, name))["A"]
    A = sp.csr_array(A)
    return sparse(sp.csr_array((A + A.T) / 2), tags=SPD)


def build(name: str, size: int) -> SystemCase:
    """Return the system of a case."""
    compile_kernels()
    if name in FOREIGN:
        A = foreign(name)
    else:
        rng = np.random.default_rng(900_001)
        mesh = jittered(domain(name, size, rng), 0.25, rng)
        A = stiffness(mesh, coefficient(name, mesh, rng))
    b = torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return SystemCase(LinearSystem(A, b))


def cases() -> list[Case]:
    """Return the held-out cases."""
    made = [(name, size) for name in (*MESHES, *SOLIDS) for size in (10_000, 100_000)]
    return [
        Case(name, size, partial(build, name, size), quick=name in QUICK and size < 20_000, ladder=False)
        for name, size in [*made, *FOREIGN.items()]
    ]


def learned(name: str) -> Method:
    """Return CG with the learned inverse; the seconds of its training go into the record."""
    method = ours(name, lambda: CG(sparse_inverse(WEIGHTS)), max_steps=STEPS, kind="learned")
    seconds = json.loads((WEIGHTS / "config.json").read_text(encoding="utf-8"))["meta"]["seconds"]

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        found = method.run(problem, case, options)
        return replace(found, extra={**found.extra, "train_s": float(seconds)})

    return replace(method, run=run)


def up_to(solid: int, plane: int) -> Callable[[Case], bool]:
    """Restrict a method to a size in three and in two dimensions."""
    return lambda case: case.size <= (solid if case.problem in SOLIDS else plane)


def methods() -> list[Method]:
    """Return the learned inverse, the classical methods and the peers."""
    mine = partial(ours, max_steps=STEPS)
    return [
        learned("learned-SPAI-CG"),
        mine("FSAI-CG", lambda: CG(factored_sparse_inverse())),
        mine("FSAI(A^2)-CG", lambda: CG(factored_sparse_inverse("lower-squared"))),
        mine("CG", CG),
        mine("Jacobi-CG", lambda: CG(jacobi)),
        mine("Chebyshev(2)-CG", lambda: CG(chebyshev(2))),
        mine("SSOR-CG", lambda: CG(ssor())),
        mine("IC(0)-CG", lambda: CG(ic0())),
        mine("ICT-CG", lambda: CG(ict())),
        mine("AMG-CG", lambda: CG(amg())),
        mine("SuperLU", SuperLU, applies=up_to(20_000, 200_000)),
        pyamg_cg("SA-CG", partial(pyamg.smoothed_aggregation_solver, symmetry="symmetric")),
        petsc_cg("BoomerAMG-CG", BOOMERAMG),
    ]


if __name__ == "__main__":
    main("learned-on-meshes", __doc__, cases(), methods())
