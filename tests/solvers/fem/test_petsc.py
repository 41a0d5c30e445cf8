"""PETSc's solvers on given matrices, against SciPy."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from solvus.operators.linear.errors import NonFinite, ShapeMismatch
from solvus.solvers.fem import BOOMERAMG, GAMG, FenicsWorker, petsc_solve

LU = {"ksp_type": "preonly", "pc_type": "lu"}


def laplace(n):
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    return sp.csr_array(sp.kron(line, sp.eye_array(n)) + sp.kron(sp.eye_array(n), line))


@pytest.fixture(scope="module")
def system():
    A = laplace(31)  # odd: two ranks get different shares
    return A, np.random.default_rng(0).standard_normal(A.shape[0])


@pytest.mark.fenics
@pytest.mark.parametrize("options", [BOOMERAMG, GAMG, LU, {"ksp_type": "cg", "pc_type": "jacobi"}])
@pytest.mark.parametrize("ranks", [1, 2])
def test_solution_is_scipys(system, options, ranks):
    if ranks == 2 and options is LU:
        options = {**LU, "pc_factor_mat_solver_type": "mumps"}
    A, b = system
    run = petsc_solve(A, b, options, 1e-10, ranks)
    assert run.converged
    assert np.allclose(run.value, spsolve(A.tocsc(), b), rtol=1e-7, atol=1e-7)
    assert np.isclose(
        run.residual, np.linalg.norm(b - A @ run.value) / np.linalg.norm(b), rtol=1e-3, atol=1e-14
    )
    assert run.residual <= 1e-10
    assert (run.ksp, run.pc) == (options["ksp_type"], options["pc_type"])
    assert run.setup_s > 0
    assert run.solve_s > 0


@pytest.mark.fenics
def test_multigrid_takes_few_steps_and_jacobi_many(system):
    A, b = system
    assert petsc_solve(A, b).iterations < 12
    assert petsc_solve(A, b, {"ksp_type": "cg", "pc_type": "jacobi"}).iterations > 40


@pytest.mark.fenics
def test_repeats_are_all_reported(system):
    run = petsc_solve(*system, repeats=3)
    assert len(run.setups) == len(run.solves) == 3
    assert run.solve_s == np.median(run.solves)


@pytest.mark.fenics
def test_no_convergence_is_said(system):
    run = petsc_solve(*system, {"ksp_type": "cg", "pc_type": "none", "ksp_max_it": 3})
    assert not run.converged
    assert run.reason == "DIVERGED_MAX_IT"
    assert run.residual > 1e-3


@pytest.mark.fenics
@pytest.mark.parametrize("ranks", [1, 2])
def test_unknown_types_are_named(system, ranks):
    with pytest.raises(ValueError, match=r"PETSc .* has no such type .*nonsense.*correct the spelling"):
        petsc_solve(*system, {"pc_type": "nonsense"}, ranks=ranks)


@pytest.mark.fenics
def test_options_do_not_leak_into_the_next_solve(system):
    petsc_solve(*system, {"ksp_type": "cg", "pc_type": "jacobi"})
    assert petsc_solve(*system, {"ksp_type": "cg"}).pc != "jacobi"


@pytest.mark.fenics
def test_near_nullspace_reaches_multigrid():
    # a stretched graph Laplacian: the scaled constants are its near kernel
    A = laplace(40)
    scale = np.exp(np.random.default_rng(0).uniform(-2, 2, A.shape[0]))
    S = sp.diags_array(1 / scale)
    B, b = sp.csr_array(S @ A @ S), np.ones(A.shape[0])
    told = petsc_solve(B, b, GAMG, near_nullspace=scale)
    untold = petsc_solve(B, b, GAMG)
    assert told.converged
    assert told.iterations < untold.iterations


@pytest.mark.fenics
def test_worker_tells_what_it_is():
    from solvus.solvers.fem import shared_worker
    from solvus.solvers.fem.worker import Request

    info = shared_worker(2).call(Request("info", {}, {})).meta
    assert info["mpi_size"] == 2
    assert {"petsc_solve", "solve", "assemble"} <= set(info["capabilities"])
    assert info["petsc"]["int_bits"] in (32, 64)


@pytest.mark.fenics
def test_unknown_operation():
    from solvus.solvers.fem import shared_worker
    from solvus.solvers.fem.worker import Request

    with pytest.raises(ValueError, match="knows no operation 'dance'"):
        shared_worker().call(Request("dance", {}, {}))


NOBODY = FenicsWorker("/nowhere/python")


@pytest.mark.parametrize(
    ("A", "b", "kwargs", "error", "message"),
    [
        (sp.eye_array(3), np.ones(4), {}, ShapeMismatch, r"A \(n, n\) and b \(n,\), got \(3, 3\) and \(4,\)"),
        (sp.eye_array(3, 4), np.ones(3), {}, ShapeMismatch, r"got \(3, 4\)"),
        (sp.eye_array(3), np.array([1, np.nan, 1]), {}, NonFinite, "A or b holds NaN"),
        (sp.eye_array(3), np.ones(3), {"ranks": 0}, ValueError, "must be at least 1, got 1 and 0"),
        (sp.eye_array(3), np.ones(3), {"near_nullspace": np.ones(2)}, ShapeMismatch, r"must be \(k, 3\)"),
    ],
)
def test_bad_input(A, b, kwargs, error, message):
    with pytest.raises(error, match=message):
        petsc_solve(A, b, worker=NOBODY, **kwargs)
