"""Matrices that others made: which method is fastest, and which ones fail?

The examples that PyAMG ships (finite elements on unstructured meshes, elasticity, discontinuous Galerkin, a
singular one, a nonsymmetric one, an indefinite one; 125 to 5,760 unknowns), and larger matrices of PyAMG's
gallery. A x = b with x random (seed 0), so that the error is known; relative residual 1e-8; `size` is the
number of unknowns. Small systems are solved in less time than some libraries need to start: read their
seconds as overhead, their steps as quality.

  airfoil, knot, unit_cube                linear elements, Poisson
  unit_square                             the same without boundary values: singular, kernel the constants
  bar                                     elasticity, six rigid body modes
  local_disc_galerkin_diffusion           high order discontinuous Galerkin
  recirc_flow                             advection and diffusion: nonsymmetric
  helmholtz_2D                            complex symmetric, treated as a real symmetric indefinite one of
                                          twice the size: [[Re, -Im], [-Im, -Re]]
  elasticity2d                            gallery: plane elasticity (Q1), near-kernel given
  rotated                                 gallery: diffusion, anisotropy 100 at 30 degrees to the grid (Q1)
  trilinear3d                             the Laplacian in 3D (Q1)

    python benchmarks/matrices.py --quick
    python benchmarks/matrices.py --only rotated,trilinear3d --out matrices.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from pyamg.gallery import diffusion_stencil_2d, load_example, stencil_grid

from solvus.bench import Case, Method, Options, Outcome, SystemCase, main, ours
from solvus.bench.peers import on_cpu
from solvus.operators.linear import SPD, SYMMETRIC, Constants, LinearOperator, sparse
from solvus.solvers import LinearSystem
from solvus.solvers.direct import Pardiso, SuperLU
from solvus.solvers.fem import BOOMERAMG, GAMG, petsc_solve
from solvus.solvers.krylov import CG, GMRES, MINRES
from solvus.solvers.multigrid import AMGSettings, RugeStuben, SmoothedAggregation, amg
from solvus.solvers.preconditioners import Preconditioner, ic0, ict, ilu, jacobi, ssor

SHIPPED = {  # unknowns, kind
    "airfoil": (260, "spd"),
    "bar": (600, "spd"),
    "knot": (239, "spd"),
    "local_disc_galerkin_diffusion": (966, "spd"),
    "unit_cube": (125, "spd"),
    "unit_square": (191, "singular"),
    "recirc_flow": (225, "nonsymmetric"),
    "helmholtz_2D": (5760, "indefinite"),
}
GALLERY = {"elasticity2d": (19800, "spd"), "rotated": (262144, "spd"), "trilinear3d": (64000, "spd")}
MAX_STEPS = 3000
TAGS = {"spd": SPD, "singular": SPD, "indefinite": SYMMETRIC, "nonsymmetric": frozenset()}


class MatrixCase(SystemCase):
    """A linear system with the near-kernel and the block size of its matrix."""

    def __init__(self, A: LinearOperator, near_kernel: np.ndarray | None, block: int) -> None:
        x = torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x = x if A.nullspace is None else A.nullspace.project(x)
        b = A @ x
        super().__init__(LinearSystem(A, b if A.nullspace is None else A.nullspace.project(b)), exact=x)
        self.near_kernel, self.block = near_kernel, block


@cache
def compile_kernels() -> None:
    """Compile the sweeps and factorisations of the CPU once, so that no method is charged with it."""
    A = sparse(trilinear(3))
    for preconditioner in (ic0(), ict(), ssor()):
        preconditioner(A).matvec(torch.ones(27, dtype=torch.float64))


def build(name: str) -> MatrixCase:
    """Return the case of one matrix."""
    compile_kernels()
    kind = (SHIPPED | GALLERY)[name][1]
    near, block = None, 1
    if name == "elasticity2d":
        A, near = pyamg.gallery.linear_elasticity((100, 100))
        block = 2
    elif name == "rotated":
        A = stencil_grid(diffusion_stencil_2d(epsilon=0.01, theta=np.pi / 6, type="FE"), (512, 512))
    elif name == "trilinear3d":
        A = trilinear(40)
    else:
        example = load_example(name)
        A = sp.csr_array(example["A"])
        if name == "bar":
            near, block = example["B"], 3
    A = sp.csr_array(A)
    if np.iscomplexobj(A.data):
        A = sp.csr_array(sp.block_array([[A.real, -A.imag], [-A.imag, -A.real]]))
    if kind != "nonsymmetric":
        A = sp.csr_array((A + A.T) / 2)  # symmetric to the last bit
    return MatrixCase(
        sparse(A, tags=TAGS[kind], nullspace=Constants() if kind == "singular" else None), near, block
    )


def trilinear(n: int) -> sp.csr_array:
    """Return the stiffness matrix of trilinear elements on n^3 interior nodes."""
    K = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    M = sp.diags_array([1 / 6, 2 / 3, 1 / 6], offsets=[-1, 0, 1], shape=(n, n))
    terms = [(K, M, M), (M, K, M), (M, M, K)]
    return sp.csr_array(sum(sp.kron(sp.kron(a, b), c) for a, b, c in terms))


def cases() -> list[Case]:
    """Return one case per matrix; the shipped ones are the quick ones."""
    return [
        Case(name, size, partial(build, name), quick=name in SHIPPED, tags=(kind,), ladder=False)
        for name, (size, kind) in (SHIPPED | GALLERY).items()
    ]


def of(*kinds: str, largest: int = 1_000_000) -> Callable[[Case], bool]:
    """Restrict a method to kinds of matrices and to a size."""
    return lambda case: case.tags[0] in kinds and case.size <= largest


definite = of("spd", "singular")


def aggregation(name: str, wrap: Callable[[Preconditioner], Any], applies: Callable[[Case], bool]) -> Method:
    """Return the method with our smoothed aggregation, which is given the near-kernel of the matrix."""

    def run(problem: MatrixCase, case: Case, options: Options) -> Outcome:
        coarsening = SmoothedAggregation(problem.near_kernel, block_size=problem.block)
        inner = ours(name, lambda: wrap(amg(AMGSettings(coarsening))), max_steps=MAX_STEPS)
        return inner.run(problem, case, options)

    return Method(name, "solvus", run, applies=applies)


def scipy_krylov(method: Callable[..., Any], problem: MatrixCase, case: Case, options: Options) -> Outcome:
    """Run a Krylov method of SciPy as it comes."""
    A, b, steps = problem.matrix, problem.rhs, [0]

    def count(_: Any) -> None:
        steps[0] += 1

    settings = {"rtol": options.rtol, "maxiter": MAX_STEPS, "callback": count}
    if method is spla.gmres:
        settings |= {"callback_type": "pr_norm", "restart": 50, "maxiter": MAX_STEPS // 50}
    begin = perf_counter()
    x, info = method(A, b, **settings)
    return on_cpu(x, 0.0, perf_counter() - begin, steps[0], info == 0)


def pyamg_solve(kind: str, problem: MatrixCase, case: Case, options: Options) -> Outcome:
    """Run a Krylov method preconditioned by PyAMG's own cycles, all settings its defaults."""
    A, block = problem.matrix, problem.block
    symmetric = case.tags[0] != "nonsymmetric"
    begin = perf_counter()
    if kind == "RS":
        hierarchy = pyamg.ruge_stuben_solver(A)
    else:
        hierarchy = pyamg.smoothed_aggregation_solver(
            A if block == 1 else A.tobsr((block, block)),
            B=problem.near_kernel,
            symmetry="symmetric" if symmetric else "nonsymmetric",
        )
    ready = perf_counter()
    residuals: list[float] = []
    x = hierarchy.solve(
        problem.rhs,
        tol=options.rtol,
        accel="cg" if symmetric else "gmres",
        maxiter=MAX_STEPS,
        residuals=residuals,
    )
    return on_cpu(x, ready - begin, perf_counter() - ready, len(residuals) - 1)


def petsc(settings: dict[str, Any], problem: MatrixCase, case: Case, options: Options) -> Outcome:
    """Run PETSc, with as many MPI ranks as the other methods have threads."""
    if case.tags[0] == "nonsymmetric":
        settings = {**settings, "ksp_type": "gmres"}
    near = problem.near_kernel
    run = petsc_solve(
        problem.matrix,
        problem.rhs,
        settings,
        options.rtol,
        ranks=options.threads,
        near_nullspace=None if near is None else np.ascontiguousarray(near.T, dtype=np.float64),
    )
    return on_cpu(run.value, run.setup_s, run.solve_s, run.iterations, run.converged)


def methods() -> list[Method]:
    """Return our methods, then the peers."""
    mine = partial(ours, max_steps=MAX_STEPS)
    ruge_stuben = amg(AMGSettings(RugeStuben()))
    return [
        mine("CG", CG, applies=definite),
        mine("Jacobi-CG", lambda: CG(jacobi), applies=definite),
        mine("SSOR-CG", lambda: CG(ssor()), applies=definite),
        mine("IC(0)-CG", lambda: CG(ic0()), applies=definite),
        mine("ICT-CG", lambda: CG(ict()), applies=definite),
        mine("AMG(RS)-CG", lambda: CG(ruge_stuben), applies=definite),
        aggregation("AMG(SA)-CG", CG, definite),
        mine("MINRES", MINRES, applies=of("indefinite")),
        mine("GMRES", lambda: GMRES(restart=50), applies=of("nonsymmetric")),
        mine("ILU-GMRES", lambda: GMRES(ilu(), restart=50), applies=of("nonsymmetric", "indefinite")),
        mine("AMG(RS)-GMRES", lambda: GMRES(ruge_stuben, restart=50), applies=of("nonsymmetric")),
        aggregation("AMG(SA)-GMRES", lambda M: GMRES(M, restart=50), of("nonsymmetric")),
        mine("SuperLU", SuperLU, applies=of(*TAGS, largest=30_000)),
        mine("Pardiso", Pardiso, applies=of(*TAGS)),
        Method("cg", "scipy", partial(scipy_krylov, spla.cg), applies=definite),
        Method("minres", "scipy", partial(scipy_krylov, spla.minres), applies=of("indefinite")),
        Method("gmres", "scipy", partial(scipy_krylov, spla.gmres), applies=of("nonsymmetric")),
        Method("RS-CG", "pyamg", partial(pyamg_solve, "RS"), applies=definite),
        Method("SA-CG", "pyamg", partial(pyamg_solve, "SA"), applies=definite),
        Method("SA-GMRES", "pyamg", partial(pyamg_solve, "SA"), applies=of("nonsymmetric")),
        Method(
            "BoomerAMG", "petsc", partial(petsc, BOOMERAMG), applies=of("spd", "singular", "nonsymmetric")
        ),
        Method("GAMG", "petsc", partial(petsc, GAMG), applies=of("spd", "singular", "nonsymmetric")),
    ]


if __name__ == "__main__":
    main("matrices", __doc__, cases(), methods())
