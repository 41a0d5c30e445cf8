"""What every solver of linear systems must do. A new solver is one line in SOLVERS.

Deliberately wrong solvers, each of which must fail its contract, are in test_solver_specimens.py.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    SYMMETRIC,
    Diagonal,
    Diffusion,
    LinearOperator,
    NotSupported,
    Tag,
    dense,
    diagonal,
    sparse,
)
from solvus.operators.linear.csr import CSR
from solvus.solvers import LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.direct import Dense, SuperLU
from solvus.solvers.fast import FastTransform
from solvus.solvers.krylov import CG, FGMRES, GMRES, MINRES, BiCGStab, Chebyshev, FlexibleCG
from solvus.solvers.multigrid import AMG
from solvus.solvers.stationary import SSOR, GaussSeidel, Jacobi

# --- problems -----------------------------------------------------------------------------------------------


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _laplacian(n: int) -> sp.csr_array:
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    return sp.csr_array(sp.kron(line, sp.eye_array(n)) + sp.kron(sp.eye_array(n), line))


def spd_dense(dtype: torch.dtype) -> LinearOperator:
    """A full SPD matrix, eigenvalues 1 to 20."""
    q, _ = np.linalg.qr(_rng().standard_normal((24, 24)))
    matrix = (q * np.linspace(1, 20, 24)) @ q.T
    return sparse((matrix + matrix.T) / 2, tags=SPD, dtype=dtype)


def spd_csr(dtype: torch.dtype) -> LinearOperator:
    """The five-point Laplacian with a reaction."""
    return sparse(_laplacian(6) + 0.5 * sp.eye_array(36), dtype=dtype)


def diffusion(dtype: torch.dtype) -> LinearOperator:
    """Matrix-free diffusion with a varying coefficient."""
    grid = Grid((6, 5))
    return Diffusion(grid, torch.as_tensor(_rng().uniform(0.5, 2, grid.cells)), 3.0, dtype=dtype)


def batched(dtype: torch.dtype) -> LinearOperator:
    """Three diffusion operators at once, of different difficulty."""
    grid = Grid((6, 5))
    spread = np.array([1.0, 3.0, 10.0])[:, None, None]
    return Diffusion(grid, torch.as_tensor(_rng().uniform(1, 1 + spread, (3, *grid.cells))), dtype=dtype)


def neumann(dtype: torch.dtype) -> LinearOperator:
    """Singular: pure Neumann conditions."""
    return Diffusion(Grid((6, 5), centring="cell", boundary="neumann"), dtype=dtype)


def islands(dtype: torch.dtype) -> LinearOperator:
    """Singular: a masked Neumann box of two parts."""
    mask = np.ones((7, 5), dtype=bool)
    mask[3] = False
    return Diffusion(Grid((7, 5), centring="cell", boundary="neumann", mask=mask), dtype=dtype)


def indefinite(dtype: torch.dtype) -> LinearOperator:
    """Symmetric with eigenvalues of both signs."""
    return sparse(_laplacian(5) - 2.6 * sp.eye_array(25), dtype=dtype)


def nonsymmetric(dtype: torch.dtype) -> LinearOperator:
    """Convection and diffusion."""
    wind = sp.diags_array([-0.6, 0.0, 0.4], offsets=[-1, 0, 1], shape=(25, 25))
    return sparse(_laplacian(5) + wind, dtype=dtype)


PROBLEMS = {
    f.__name__: f
    for f in (spd_dense, spd_csr, diffusion, batched, neumann, islands, indefinite, nonsymmetric)
}
_SPD = ("spd_dense", "spd_csr", "diffusion", "batched", "neumann", "islands")
_SYMMETRIC = (*_SPD, "indefinite")
_ALL = (*_SYMMETRIC, "nonsymmetric")
_SINGLE_SPD = tuple(name for name in _SPD if name != "batched")
_SINGLE = tuple(name for name in _ALL if name != "batched")


@cache
def system(name: str, dtype: torch.dtype = torch.float64) -> LinearSystem:
    """Return the problem of that name with a random compatible right-hand side."""
    A = PROBLEMS[name](dtype)
    b = torch.as_tensor(_rng().standard_normal((*A.batch_shape, A.shape[0]))).to(dtype)
    return LinearSystem(A, b if A.nullspace is None else A.nullspace.project(b))


@cache
def reference(name: str) -> Tensor:
    """Return the minimum-norm solution by NumPy."""
    problem = system(name)
    return torch.as_tensor(np.linalg.pinv(dense(problem.A).numpy(), rcond=1e-12)) @ problem.b[..., None]


# --- solvers ------------------------------------------------------------------------------------------------


def scaling(A: LinearOperator) -> LinearOperator:
    """Return the inverse of the diagonal: a preconditioner that is not the identity."""
    return Diagonal(1 / diagonal(A).abs(), tags=SPD)


@dataclass(frozen=True)
class Entry:
    """A solver and the problems that it claims to handle."""

    solver: Solver
    handles: tuple[str, ...]
    refuses: bool = True  # whether `check` can tell what it does not handle
    gradients: bool = True  # whether it handles the operators of GRADIENTS

    def __str__(self) -> str:
        settings = [f"{f.name}={getattr(self.solver, f.name)}" for f in fields(self.solver)]  # type: ignore[arg-type]
        changed = [s for s in settings if "scaling" in s or "multicolour" in s]
        return type(self.solver).__name__ + ("+" if changed else "")


SOLVERS = [
    Entry(CG(), _SPD),
    Entry(CG(scaling), _SPD),
    Entry(FlexibleCG(), _SPD),
    Entry(FlexibleCG(scaling, memory=1), _SPD),
    Entry(MINRES(), _SYMMETRIC),
    Entry(MINRES(scaling), _SYMMETRIC),
    Entry(GMRES(), _ALL),
    Entry(GMRES(scaling), _ALL),
    Entry(FGMRES(scaling), _ALL),
    Entry(BiCGStab(), _ALL),
    Entry(BiCGStab(scaling), _ALL),
    Entry(Chebyshev(), _SPD),
    Entry(Chebyshev(scaling), _SPD),
    Entry(SuperLU(), _SINGLE),
    Entry(Dense(), _ALL),
    Entry(GaussSeidel(), _SINGLE_SPD, refuses=False),
    Entry(GaussSeidel(order="multicolour"), ("diffusion", "batched", "islands"), refuses=False),
    Entry(SSOR(1.3), _SINGLE_SPD, refuses=False),
    Entry(Jacobi(0.8), _SPD[1:], refuses=False),
    Entry(FastTransform(), ("neumann",), gradients=False),
    Entry(AMG(), _SINGLE_SPD, refuses=False),
]
PAIRS = [pytest.param(e.solver, name, id=f"{e}-{name}") for e in SOLVERS for name in e.handles]
REJECTED = [
    pytest.param(e.solver, name, id=f"{e}-{name}")
    for e in SOLVERS
    if e.refuses
    for name in _ALL
    if name not in e.handles and e.refuses
]
EACH = [pytest.param(e.solver, e.handles, id=str(e)) for e in SOLVERS]
TIGHT = Stop(rtol=1e-10, max_steps=500)


# --- contracts: plain functions, so that wrong specimens can be held against them -----------------


def converges(solver: Solver, name: str, dtype: torch.dtype = torch.float64) -> None:
    """The solution is that of NumPy, and the result says so truly."""
    problem = system(name, dtype)
    rtol = 1e-10 if dtype == torch.float64 else 2e-5
    result = solve(problem, solver, stop=Stop(rtol=rtol, max_steps=500), throw=False)
    assert result.status is Status.CONVERGED, result.reason
    assert result.value.dtype == dtype
    assert result.value.shape == problem.guess().shape
    assert bool((result.relative_residual <= rtol * (1 + 1e-5)).all())
    exact = reference(name).squeeze(-1)
    assert torch.allclose(result.value.double(), exact, rtol=0, atol=200 * rtol * float(exact.abs().max()))


def reports_the_true_residual(solver: Solver, name: str) -> None:
    """Whatever norm is reported at a step is that of b - A x at that step."""
    problem = system(name)
    seen: list[tuple[Tensor, Tensor]] = []

    def look(step: int, x: Tensor, norm: Tensor) -> None:
        seen.append((norm.clone(), problem.residual_norm(x)))

    solve(problem, solver, stop=TIGHT, callback=look, throw=False)
    assert len(seen) > 1
    for norm, true in seen:
        assert torch.allclose(
            norm.expand(true.shape), true, rtol=1e-6, atol=1e-11 * float(problem.scale().max())
        )


def batch_equals_loop(solver: Solver, name: str) -> None:
    """Samples of a batch end like solves of their own: value, steps, residual."""
    single = system(name)
    if single.A.batch_shape:
        problem, loop = single, [_sample(name, i) for i in range(single.A.batch_shape[0])]
    else:  # right-hand sides of different difficulty, one of them zero, one reached at once
        easy = single.A @ (single.b * 0 + 1e-3)
        many = torch.stack([single.b, single.b * 0, 100 * single.b.flip(-1), easy])
        many = many if single.A.nullspace is None else single.A.nullspace.project(many)
        problem, loop = LinearSystem(single.A, many), [LinearSystem(single.A, b) for b in many]
    together = solve(problem, solver, stop=TIGHT)
    for i, alone in enumerate(solve(p, solver, stop=TIGHT) for p in loop):
        size = float(alone.value.abs().max())
        assert torch.allclose(together.value[i], alone.value, rtol=0, atol=1e-7 * size)
        assert abs(int(together.sample_steps[i]) - alone.steps) <= 2
        assert bool(together.converged[i])


def _sample(name: str, i: int) -> LinearSystem:
    """Return sample i of a batched diffusion problem."""
    grid, single = Grid((6, 5)), system(name)
    spread = np.array([1.0, 3.0, 10.0])[:, None, None]
    k = _rng().uniform(1, 1 + spread, (3, *grid.cells))
    return LinearSystem(Diffusion(grid, torch.as_tensor(k[i])), single.b[i])


def starts_where_told(solver: Solver, name: str) -> None:
    """x0 is where the iteration starts, stays unchanged, and the solution as x0 takes no step."""
    problem = system(name)
    x0 = torch.as_tensor(_rng().standard_normal(problem.guess().shape))
    before = x0.clone()
    starts: list[Tensor] = []
    solve(
        problem,
        solver,
        x0=x0,
        stop=TIGHT,
        callback=lambda k, x, _: starts.append(x.clone()) if k == 0 else None,
    )
    assert torch.equal(x0, before)
    assert torch.equal(starts[0], x0)
    solution = solve(problem, solver, stop=Stop(rtol=1e-11, max_steps=500), throw=False).value
    again = solve(problem, solver, x0=solution, stop=TIGHT)
    assert again.steps == 0
    assert torch.allclose(again.value, solution, rtol=0, atol=1e-14 * float(solution.abs().max()))


def is_deterministic(solver: Solver, name: str) -> None:
    """Two runs give the same bits, whatever the global random state."""
    torch.manual_seed(1)
    first = solve(system(name), solver, stop=TIGHT)
    torch.manual_seed(2)
    second = solve(system(name), solver, stop=TIGHT)
    assert torch.equal(first.value, second.value)
    assert torch.equal(first.residuals, second.residuals)


def has_no_scale(solver: Solver, name: str) -> None:
    """b times a power of two gives x times that power, bit for bit: no absolute threshold anywhere."""
    problem = system(name)
    plain = solve(problem, solver, stop=TIGHT)
    for factor in (2.0**-80, 2.0**80):
        scaled = solve(LinearSystem(problem.A, factor * problem.b), solver, stop=TIGHT)
        assert scaled.steps == plain.steps
        assert torch.equal(scaled.value, factor * plain.value)


def has_no_memory(solver: Solver, name: str) -> None:
    """A solve in between of another matrix changes nothing."""
    problem = system(name)
    first = solve(problem, solver, stop=TIGHT)
    tripled = LinearSystem(problem.A * 3.0, problem.b)
    shifted = Diffusion(Grid((6, 5), centring="cell", boundary="neumann"), reaction=1.0)
    for other in (tripled, system("spd_dense"), LinearSystem(shifted, torch.ones(30, dtype=torch.float64))):
        try:
            solve(other, solver, stop=TIGHT, throw=False)
        except NotSupported:  # nothing of its kind
            continue
        break
    else:
        pytest.fail("no other problem for this solver")
    assert torch.equal(solve(problem, solver, stop=TIGHT).value, first.value)


def is_settings_only(solver: Solver, name: str) -> None:
    """Frozen, comparable, picklable; the copy solves alike."""
    assert is_dataclass(solver)
    with pytest.raises(FrozenInstanceError):
        solver.stop = None  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(solver))
    assert copy == solver
    assert hash(copy) == hash(solver)
    a, b = solve(system(name), solver, stop=TIGHT), solve(system(name), copy, stop=TIGHT)
    assert torch.equal(a.value, b.value)


def stops_early(solver: Solver, name: str) -> None:
    """Stopped before its time, it returns a finite value, its true residual, and does not claim success."""
    problem = system(name)
    result = solve(problem, solver, stop=Stop(rtol=0, max_steps=1), throw=False)
    assert result.status in (Status.MAX_STEPS, Status.BREAKDOWN)
    assert result.steps <= 1
    assert bool(torch.isfinite(result.value).all())
    assert torch.allclose(result.residual, problem.residual_norm(result.value), rtol=1e-12, atol=1e-13)


def rejects_with_advice(solver: Solver, name: str) -> None:
    """What it cannot treat is refused before any work, with the reason and an alternative."""
    with pytest.raises(NotSupported) as caught:
        solve(system(name), solver, throw=False)
    assert type(solver).__name__ in str(caught.value)
    assert "use " in str(caught.value).lower() or "or " in str(caught.value)


def gradients_are_right(solver: Solver, parametrised: Callable[[Tensor], LinearOperator], c: Tensor) -> None:
    """Gradients with respect to b and the coefficients pass gradcheck."""
    A = parametrised(c)
    n = A.shape[0]
    b = torch.as_tensor(_rng().standard_normal((*A.batch_shape, n)))
    stop = Stop(rtol=1e-13, atol=1e-13, max_steps=300)

    def solution(b: Tensor, c: Tensor) -> Tensor:
        A = parametrised(c)
        rhs = b if A.nullspace is None else A.nullspace.project(b)
        return solve(LinearSystem(A, rhs), solver, stop=stop).value

    inputs = (b.requires_grad_(), c.clone().requires_grad_())
    assert torch.autograd.gradcheck(solution, inputs, atol=1e-6, rtol=1e-5)


# --- coefficients for the gradients -------------------------------------------------------------------------


def _chain(c: Tensor) -> LinearOperator:
    """A symmetric tridiagonal CSR matrix from 5 conductances: 4 unknowns."""
    main, side = c[:-1] + c[1:], -c[1:-1]
    zero = torch.zeros_like(side[:1])
    rows = torch.stack([torch.cat([zero, side]), main, torch.cat([side, zero])], -1).reshape(-1)[1:-1]
    col = torch.tensor([0, 1, 0, 1, 2, 1, 2, 3, 2, 3], dtype=torch.int32)
    crow = torch.tensor([0, 2, 5, 8, 10], dtype=torch.int32)
    return CSR(crow, col, rows, (4, 4), tags=SPD)


def _shifted(c: Tensor) -> LinearOperator:
    """The same, shifted so that it is indefinite."""
    A = _chain(c)
    on = A.rows() == A.col  # type: ignore[attr-defined]
    return CSR(A.crow, A.col, A.values - 1.9 * on, (4, 4), tags=SYMMETRIC)  # type: ignore[attr-defined]


def _skewed(c: Tensor, tags: frozenset[Tag] = frozenset()) -> LinearOperator:
    """Every entry of a nonsymmetric matrix is a coefficient."""
    col = torch.tensor([0, 1, 0, 1, 2, 1, 2, 3, 2, 3], dtype=torch.int32)
    crow = torch.tensor([0, 2, 5, 8, 10], dtype=torch.int32)
    return CSR(crow, col, c, (4, 4), tags=tags)


def _fields(c: Tensor) -> LinearOperator:
    """Two diffusion operators, coefficient per cell."""
    return Diffusion(Grid((2, 2)), c)


def _floating(c: Tensor) -> LinearOperator:
    """Pure Neumann diffusion, coefficient per cell."""
    return Diffusion(Grid((2, 3), centring="cell", boundary="neumann"), c)


_SKEW = torch.tensor([3.0, -1.0, 0.5, 3.5, -1.0, -0.7, 4.0, 0.2, -1.2, 3.0], dtype=torch.float64)
_CHAIN = torch.tensor([1.0, 1.5, 0.7, 1.2, 0.9], dtype=torch.float64)
GRADIENTS = {
    "spd_csr": (_chain, _CHAIN),
    "batched": (_fields, torch.linspace(0.5, 2, 18, dtype=torch.float64).reshape(2, 3, 3)),
    "neumann": (_floating, torch.linspace(0.5, 2, 6, dtype=torch.float64).reshape(2, 3)),
    "indefinite": (_shifted, _CHAIN),
    "nonsymmetric": (_skewed, _SKEW),
}
GRADIENT_PAIRS = [
    pytest.param(e.solver, name, id=f"{e}-{name}")
    for e in SOLVERS
    if e.gradients
    for name in GRADIENTS
    if name in e.handles
]


# --- every solver against every contract --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("solver", "name"), PAIRS)
def test_converges(solver: Solver, name: str, dtype: torch.dtype) -> None:
    converges(solver, name, dtype)


@pytest.mark.parametrize(
    "contract",
    [reports_the_true_residual, batch_equals_loop, starts_where_told, is_deterministic, stops_early],
)
@pytest.mark.parametrize(("solver", "name"), PAIRS)
def test_contract(solver: Solver, name: str, contract: Callable[[Solver, str], None]) -> None:
    contract(solver, name)


@pytest.mark.parametrize("contract", [has_no_scale, has_no_memory, is_settings_only])
@pytest.mark.parametrize(("solver", "handles"), EACH)
def test_settings(solver: Solver, handles: tuple[str, ...], contract: Callable[[Solver, str], None]) -> None:
    contract(solver, handles[-1])


@pytest.mark.parametrize(("solver", "name"), REJECTED)
def test_rejects(solver: Solver, name: str) -> None:
    rejects_with_advice(solver, name)


@pytest.mark.parametrize(("solver", "name"), GRADIENT_PAIRS)
def test_gradients(solver: Solver, name: str) -> None:
    gradients_are_right(solver, *GRADIENTS[name])
