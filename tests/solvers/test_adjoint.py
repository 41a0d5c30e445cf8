"""Gradients of solutions: against finite differences and dense algebra, their memory, and how they fail."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    Diagonal,
    Diffusion,
    LinearOperator,
    NonFinite,
    NotSupported,
    Tag,
    dense,
    diagonal,
    sparse,
)
from solvus.solvers import LinearSystem, Result, SolveError, Status, Stop, solve
from solvus.solvers.krylov import CG, GMRES

TIGHT = Stop(rtol=1e-12, max_steps=2000)
F64 = torch.float64


def test_gradients_equal_those_through_a_dense_solve() -> None:
    grid = Grid((5, 4))
    k = torch.rand(3, *grid.cells, dtype=F64).add(0.5).requires_grad_()
    c = torch.rand(*grid.shape, dtype=F64).requires_grad_()
    b = torch.randn(3, 20, dtype=F64, requires_grad=True)
    weight = torch.randn(3, 20, dtype=F64)
    A = Diffusion(grid, k, c)
    ours = torch.autograd.grad((solve(LinearSystem(A, b), CG(), stop=TIGHT).value * weight).sum(), (k, c, b))
    A = Diffusion(grid, k, c)
    exact = torch.linalg.solve(dense(A), b[..., None]).squeeze(-1)
    theirs = torch.autograd.grad((exact * weight).sum(), (k, c, b))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=1e-9, atol=1e-12)


def test_broadcast_right_hand_sides_and_operators() -> None:
    k = torch.rand(3, 4, 4, dtype=F64).add(0.5).requires_grad_()
    shared = torch.randn(1, 9, dtype=F64, requires_grad=True)  # one b for three operators
    value = solve(LinearSystem(Diffusion(Grid((3, 3)), k), shared), CG(), stop=TIGHT).value
    assert value.shape == (3, 9)
    value.sum().backward()
    assert shared.grad is not None
    assert shared.grad.shape == (1, 9)
    one = torch.rand(4, 4, dtype=F64).add(0.5).requires_grad_()
    many = torch.randn(3, 9, dtype=F64)  # three b for one operator
    solve(LinearSystem(Diffusion(Grid((3, 3)), one), many), CG(), stop=TIGHT).value.sum().backward()
    parts = []
    for b in many:
        alone = one.detach().clone().requires_grad_()
        solve(LinearSystem(Diffusion(Grid((3, 3)), alone), b), CG(), stop=TIGHT).value.sum().backward()
        parts.append(alone.grad)
    assert torch.allclose(one.grad, sum(parts))


def test_neumann_gradient_of_a_constant_functional_is_zero() -> None:
    A = Diffusion(Grid((6, 5), centring="cell", boundary="neumann"))
    b = A.nullspace.project(torch.randn(30, dtype=F64)).requires_grad_()
    third = torch.full((30,), 1 / 3, dtype=F64)  # its projection leaves nothing but rounding
    assert 0 < float(A.nullspace.project(third).norm()) < 1e-15
    (solve(LinearSystem(A, b), CG(), stop=TIGHT).value * third).sum().backward()  # the mean is fixed
    assert b.grad is not None
    assert torch.equal(b.grad, torch.zeros(30, dtype=F64))


def test_neumann_gradient_through_the_whole_chain() -> None:
    grid = Grid((4, 3), centring="cell", boundary="neumann")

    def functional(k: Tensor, f: Tensor) -> Tensor:
        A = Diffusion(grid, k.exp())
        return (
            solve(LinearSystem(A, A.nullspace.project(f)), CG(), stop=Stop(rtol=1e-13, max_steps=500)).value
            ** 2
        )

    inputs = (
        torch.randn(4, 3, dtype=F64, requires_grad=True),
        torch.randn(12, dtype=F64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(functional, inputs)


# --- memory -------------------------------------------------------------------------------------------------


def _graph(solver: CG | GMRES, rtol: float) -> Result:
    """Solve with gradients; harder as rtol falls."""
    b = torch.randn(400, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    A = Diffusion(Grid((20, 20)), torch.ones(21, 21, dtype=F64, requires_grad=True))
    return solve(LinearSystem(A, b), solver, stop=Stop(rtol=rtol, max_steps=5000))


@pytest.mark.parametrize("solver", [CG(), GMRES(restart=5)])
def test_memory_does_not_grow_with_the_steps(solver: CG | GMRES) -> None:
    saved: dict[float, int] = {}
    alive: dict[float, int] = {}
    for rtol in (1e-1, 1e-10):
        count: list[int] = []

        def pack(t: Tensor, count: list[int] = count) -> Tensor:
            count.append(t.numel())
            return t.detach()

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            _graph(solver, rtol)
        saved[rtol] = sum(count)
        result = _graph(solver, rtol)
        gc.collect()
        alive[rtol] = sum(o.numel() for o in gc.get_objects() if type(o) is Tensor and o.numel() >= 400)
        assert result.value.requires_grad
        assert rtol == 1e-1 or result.steps > 50
    assert saved[1e-1] == saved[1e-10] > 0
    assert alive[1e-1] == alive[1e-10] > 0


def test_nothing_is_leaked() -> None:
    def once() -> weakref.ref[Any]:
        b = torch.randn(9, dtype=F64, requires_grad=True)
        A = Diffusion(Grid((3, 3)), torch.ones(4, 4, dtype=F64, requires_grad=True))
        result = solve(LinearSystem(A, b), CG())
        result.value.sum().backward()
        return weakref.ref(A)

    gc.collect()
    gc.disable()  # no cycle: freed by counting references alone
    try:
        assert once()() is None
    finally:
        gc.enable()


def test_the_preconditioner_is_built_once() -> None:
    built: list[LinearOperator] = []

    def counting(A: LinearOperator) -> LinearOperator:
        built.append(A)
        return Diagonal(1 / diagonal(A).detach(), tags=SPD)

    b = torch.randn(9, dtype=F64, requires_grad=True)
    solve(LinearSystem(Diffusion(Grid((3, 3))), b), CG(counting)).value.sum().backward()
    assert len(built) == 1
    skew = sparse(sp.diags_array([-1.0, 3.0, -0.5], offsets=[-1, 0, 1], shape=(9, 9)))
    solve(LinearSystem(skew, b), GMRES(counting)).value.sum().backward()
    assert len(built) == 3  # A and its transpose


# --- when it carries gradients, and how it fails ------------------------------------------------------------


def test_no_graph_where_none_is_needed() -> None:
    b = torch.randn(9, dtype=F64)
    A = Diffusion(Grid((3, 3)))
    assert not solve(LinearSystem(A, b)).value.requires_grad
    with torch.no_grad():
        assert not solve(LinearSystem(A, b.requires_grad_())).value.requires_grad


def test_throw_false_gives_a_value_with_a_graph_and_backward_still_raises() -> None:
    b = torch.randn(100, dtype=F64, requires_grad=True)
    system = LinearSystem(Diffusion(Grid((10, 10))), b)
    result = solve(system, CG(), stop=Stop(max_steps=2), throw=False)
    assert result.status is Status.MAX_STEPS
    assert result.value.requires_grad
    with pytest.raises(SolveError, match="MAX_STEPS after 2 steps"):
        result.value.sum().backward()
    with pytest.raises(SolveError, match="MAX_STEPS after 2 steps"):
        solve(system, CG(), stop=Stop(max_steps=2))


def test_unconverged_backward_raises_though_the_forward_solve_converged() -> None:
    b = torch.randn(100, dtype=F64, requires_grad=True)
    system = LinearSystem(Diffusion(Grid((10, 10))), b)
    exact = solve(LinearSystem(system.A, b.detach()), CG(), stop=TIGHT).value
    result = solve(system, CG(), x0=exact, stop=Stop(max_steps=2))
    assert (result.status, result.steps) == (Status.CONVERGED, 0)
    with pytest.raises(SolveError):
        (result.value * torch.randn(100, dtype=F64)).sum().backward()


def test_a_gradient_of_nan_is_named() -> None:
    b = torch.randn(9, dtype=F64, requires_grad=True)
    value = solve(LinearSystem(Diffusion(Grid((3, 3))), b)).value
    with pytest.raises(NonFinite, match="the gradient that reached `solve` holds NaN or infinity"):
        (value * float("nan")).sum().backward()


def test_changed_coefficients_are_noticed() -> None:
    entries = torch.full((4,), 2.0, dtype=F64, requires_grad=True)
    value = solve(LinearSystem(Diagonal(entries, tags=SPD), torch.ones(4, dtype=F64))).value
    with torch.no_grad():
        entries.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.sum().backward()


def test_second_derivatives_are_refused() -> None:
    b = torch.randn(9, dtype=F64, requires_grad=True)
    value = solve(LinearSystem(Diffusion(Grid((3, 3))), b)).value
    (grad,) = torch.autograd.grad((value**2).sum(), b, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_an_operator_without_transpose_is_refused_before_the_solve() -> None:
    class OneWay(LinearOperator):
        def matvec(self, x: Tensor) -> Tensor:
            return 2 * x

        def transpose(self) -> LinearOperator:
            raise AssertionError

    A = OneWay((4, 4), F64, tags=frozenset({Tag.LINEAR_ONLY}))
    with pytest.raises(NotSupported, match="a gradient needs the transpose, which OneWay does not have"):
        solve(LinearSystem(A, torch.ones(4, dtype=F64, requires_grad=True)), GMRES())


def test_callbacks_see_the_forward_solve_only() -> None:
    seen: list[int] = []
    b = torch.randn(9, dtype=F64, requires_grad=True)
    result = solve(LinearSystem(Diffusion(Grid((3, 3))), b), CG(), callback=lambda k, x, r: seen.append(k))
    result.value.sum().backward()
    assert seen == list(range(result.steps + 1))
    assert result.residuals.shape == (result.steps + 1,)
