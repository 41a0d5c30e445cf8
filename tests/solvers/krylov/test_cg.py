"""CG and flexible CG: against SciPy, their theory, and how they break down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    SYMMETRIC,
    Diagonal,
    Diffusion,
    Identity,
    LinearOperator,
    NotSupported,
    ShapeMismatch,
    dense,
    diagonal,
    sparse,
    to_scipy,
    to_scipy_operator,
)
from solvus.solvers import LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.krylov import CG, FlexibleCG
from solvus.solvers.preconditioners import identity

F64 = torch.float64


def scaling(A: LinearOperator) -> LinearOperator:
    return Diagonal(1 / diagonal(A), tags=SPD)


def rough(n: int = 25) -> LinearSystem:
    """Diffusion with a coefficient that varies by 100."""
    generator = torch.Generator().manual_seed(2)
    grid = Grid((n, n))
    k = 100 ** torch.rand(grid.cells, generator=generator, dtype=F64)
    return LinearSystem(Diffusion(grid, k), torch.randn(grid.size, generator=generator, dtype=F64))


class Map(LinearOperator):
    """Any function of vectors, passed off as an operator: what a network is."""

    def __init__(self, A: LinearOperator, apply: Any, tags: Any = frozenset()) -> None:
        super().__init__(A.shape, A.dtype, A.device, tags=tags)
        self.apply = apply

    def matvec(self, x: Tensor) -> Tensor:
        return self.apply(x)

    def transpose(self) -> LinearOperator:
        raise AssertionError


# --- CG -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [CG(), CG(scaling), FlexibleCG(), FlexibleCG(scaling, memory=1)])
def test_as_many_steps_as_scipy(solver: CG | FlexibleCG) -> None:
    system = rough()
    A, b = to_scipy(system.A), system.b.numpy()
    M = None if solver.preconditioner is identity else to_scipy_operator(scaling(system.A))
    count: list[int] = []
    spla.cg(A, b, rtol=1e-8, atol=0.0, M=M, callback=lambda x: count.append(1), maxiter=2000)
    ours = solve(system, solver, stop=Stop(rtol=1e-8, max_steps=2000))
    assert abs(ours.steps - len(count)) <= 2
    assert len(count) > 50


def test_k_distinct_eigenvalues_take_k_steps() -> None:
    values = torch.tensor([1.0, 4.0, 9.0], dtype=F64).repeat(20)
    system = LinearSystem(Diagonal(values, tags=SPD), torch.randn(60, dtype=F64))
    for solver in (CG(), FlexibleCG(), FlexibleCG(memory=1)):
        assert solve(system, solver, stop=Stop(rtol=1e-12)).steps == 3


def test_one_step_with_the_exact_inverse() -> None:
    system = rough(5)
    inverse = torch.linalg.inv(dense(system.A))

    def exact(A: LinearOperator) -> LinearOperator:
        return sparse((inverse + inverse.T) / 2, tags=SPD)

    for solver in (CG(exact), FlexibleCG(exact)):
        assert solve(system, solver, stop=Stop(rtol=1e-10)).steps == 1


@pytest.mark.parametrize("solver", [CG(), FlexibleCG()])
def test_negative_curvature_is_found(solver: Solver) -> None:
    A = sparse(sp.diags_array(np.linspace(-1, 3, 40)), tags=SPD)
    result = solve(LinearSystem(A, torch.ones(40, dtype=F64)), solver, throw=False)
    assert result.status is Status.BREAKDOWN
    assert "A is not positive definite, use MINRES or GMRES" in result.reason
    assert bool(torch.isfinite(result.value).all())


def test_one_indefinite_sample_is_found_in_a_batch() -> None:
    values = torch.stack([torch.linspace(1, 2, 9), torch.linspace(-1, 2, 9)]).double()
    result = solve(LinearSystem(Diagonal(values, tags=SPD), torch.ones(2, 9, dtype=F64)), CG(), throw=False)
    assert result.status is Status.BREAKDOWN


def test_a_preconditioner_that_is_not_positive_definite() -> None:
    system = rough(5)
    with pytest.raises(
        NotSupported, match="CG needs a symmetric positive definite preconditioner, Diagonal is tagged"
    ):
        solve(system, CG(lambda A: Diagonal(1 / diagonal(A), tags=SYMMETRIC)), throw=False)
    liar = CG(lambda A: Diagonal(torch.linspace(-0.1, 1, 25, dtype=F64), tags=SPD))
    result = solve(system, liar, throw=False)
    assert result.status is Status.BREAKDOWN
    assert "not positive definite" in result.reason
    with pytest.raises(ShapeMismatch, match=r"the preconditioner is \(3, 3\), the operator \(25, 25\)"):
        solve(system, CG(lambda A: Identity(3, F64)))


def test_nan_from_a_preconditioner_is_nonfinite() -> None:
    broken = CG(lambda A: Diagonal(torch.full((25,), float("nan"), dtype=F64), tags=SPD))
    assert solve(rough(5), broken, throw=False).status is Status.NONFINITE


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_converged_sample_may_rest_for_as_long_as_the_others_need(dtype: torch.dtype) -> None:
    """Iterated on, the easy sample's scalars would underflow."""
    spectra = torch.stack([torch.full((300,), 2.0), torch.logspace(0, 5, 300)]).to(dtype)
    b = torch.stack([1e-15 * torch.ones(300), torch.ones(300)]).to(dtype)
    result = solve(LinearSystem(Diagonal(spectra, tags=SPD), b), CG(), stop=Stop(rtol=1e-4, max_steps=5000))
    assert result.sample_steps[0] == 1
    assert result.steps > 200


# --- flexible CG --------------------------------------------------------------------------------------------


def reference_fcg(A: np.ndarray, b: np.ndarray, f: Any, memory: int, steps: int) -> list[float]:
    """Notay's algorithm word by word, dense: residual norms."""
    x, r = np.zeros_like(b), b.copy()
    former: list[tuple[np.ndarray, np.ndarray]] = []
    norms = [float(np.linalg.norm(r))]
    for j in range(steps):
        z = f(r)
        m = min(j, max(1, j % (memory + 1)))
        d = z - sum((p * (z @ q) / (p @ q) for p, q in former[len(former) - m :]), np.zeros_like(b))
        q = A @ d
        a = (d @ r) / (d @ q)
        x, r = x + a * d, r - a * q
        former.append((d, q))
        norms.append(float(np.linalg.norm(r)))
    return norms


@pytest.mark.parametrize("memory", [1, 2, 5])
def test_truncation_and_restart_as_in_the_paper(memory: int) -> None:
    system = rough(6)

    def wobble(r: Any) -> Any:
        return r * (1 + 0.5 * (r > 0))

    stop = Stop(rtol=0, max_steps=25)
    ours = solve(system, FlexibleCG(lambda A: Map(A, wobble), memory=memory), stop=stop, throw=False)
    theirs = reference_fcg(dense(system.A).numpy(), system.b.numpy(), wobble, memory, 25)
    assert np.allclose(ours.residuals.numpy(), theirs, rtol=1e-6)


def test_the_one_vector_form_is_polak_ribiere() -> None:
    system = rough(6)
    A, r = dense(system.A), system.b.clone()
    z = r * (1 + 0.5 * (r > 0))
    p, norms = z, [float(r.norm())]
    for _ in range(12):
        q = A @ p
        r_old, rz_old = r, r @ z
        r = r - (p @ r) / (p @ q) * q
        z = r * (1 + 0.5 * (r > 0))
        p = z + (z @ (r - r_old)) / rz_old * p
        norms.append(float(r.norm()))
    solver = FlexibleCG(lambda A: Map(A, lambda r: r * (1 + 0.5 * (r > 0))), memory=1)
    ours = solve(system, solver, stop=Stop(rtol=0, max_steps=12), throw=False)
    assert np.allclose(ours.residuals.numpy(), norms, rtol=1e-7)


def test_fixed_spd_preconditioner_gives_the_iterates_of_cg() -> None:
    system = rough(8)
    a, b = (
        solve(system, s, stop=Stop(rtol=0, max_steps=30), throw=False).residuals
        for s in (CG(scaling), FlexibleCG(scaling, memory=3))
    )
    assert torch.allclose(a, b, rtol=1e-6)


def test_where_cg_is_deceived_flexible_cg_converges() -> None:
    system = rough(12)

    def cut(r: Tensor) -> Tensor:
        """Jacobi, and a rough rounding that depends on the vector."""
        scale = r.abs().amax(-1, keepdim=True) / 8
        return (r / scale).round() * scale / diagonal(system.A)

    stop = Stop(rtol=1e-8, max_steps=250)
    plain = solve(system, CG(lambda A: Map(A, cut, SPD)), stop=stop, throw=False)
    flexible = solve(system, FlexibleCG(lambda A: Map(A, cut)), stop=stop)
    assert flexible.status is Status.CONVERGED
    assert plain.status is not Status.CONVERGED or plain.steps > flexible.steps


@dataclass(frozen=True)
class Noise:
    """Directions without any sense."""

    useless_every: int = 0

    def __call__(self, A: LinearOperator) -> LinearOperator:
        generator = torch.Generator().manual_seed(0)
        count = [0]

        def apply(r: Tensor) -> Tensor:
            count[0] += 1
            if self.useless_every and count[0] % self.useless_every == 0:
                return torch.zeros_like(r)
            return torch.randn(r.shape, generator=generator, dtype=r.dtype)

        return Map(A, apply)


@pytest.mark.parametrize("make", [Noise(), Noise(useless_every=2), Noise(useless_every=1)])
def test_the_energy_of_the_error_never_grows(make: Noise) -> None:
    system = rough(6)
    A = dense(system.A)
    exact = torch.linalg.solve(A, system.b)
    energies: list[float] = []

    def watch(step: int, x: Tensor, residual: Tensor) -> None:
        energies.append(float((x - exact) @ A @ (x - exact)))

    solve(system, FlexibleCG(make), stop=Stop(max_steps=80), callback=watch, throw=False)
    assert len(energies) > 50
    assert np.all(np.diff(energies) <= 1e-13 * energies[0])


def test_a_preconditioner_that_returns_nothing_still_lets_it_converge() -> None:
    system = LinearSystem(Diagonal(torch.linspace(1, 3, 30, dtype=F64), tags=SPD), torch.ones(30, dtype=F64))
    result = solve(system, FlexibleCG(lambda A: Map(A, torch.zeros_like)), stop=Stop(rtol=1e-8))
    assert result.status is Status.CONVERGED


def test_memory_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least one former direction, memory is 0"):
        FlexibleCG(memory=0)
