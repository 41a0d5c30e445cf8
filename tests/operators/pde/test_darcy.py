"""Darcy flow: the published accuracy of the scheme, an exact solution, jumps, samples, errors."""

from functools import partial

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import IncompatibleSystem, NotSupported, ShapeMismatch
from solvus.operators.pde import VariableDiffusion, manufacture
from solvus.operators.pde.coefficients import LogNormal, Trigonometric, TwoPhase
from solvus.operators.pde.darcy import Darcy
from solvus.solvers import CG, LinearSystem, Stop, SuperLU, solve

PUBLISHED = {16: 3.438e-3, 32: 8.593e-4, 64: 2.148e-4, 128: 5.370e-5}


def cells(n, dim=2, **options):
    return Grid((n,) * dim, centring="cell", **options)


def relative_error(grid, shift=0):
    """Relative error for a = 1 + x y, u = sin(pi x) sin(pi y); a wrong one with a shifted by some cells."""
    case = manufacture(grid, lambda p: torch.sin(torch.pi * p).prod(), coefficient=lambda p: 1 + p[0] * p[1])
    fields = {**case.fields, "coefficient": case.fields["coefficient"].roll(shift, 0)}
    system = LinearSystem(*VariableDiffusion().problem(grid, fields))
    u = solve(system, SuperLU(), stop=Stop(rtol=1e-12)).value.reshape(grid.shape)
    return float((u - case.value).norm() / case.value.norm())


@pytest.mark.parametrize("n", PUBLISHED)
def test_the_published_errors_of_the_cell_centred_scheme(n):
    assert abs(relative_error(cells(n)) / PUBLISHED[n] - 1) < 2e-4


def test_a_misplaced_coefficient_misses_the_published_errors():
    assert relative_error(cells(32), shift=1) > 2 * PUBLISHED[32]


def exact_error(equation, grid, boundary=True):
    case = equation.exact(grid)
    A, b = equation.problem(grid, case.fields, case.boundary if boundary else None)
    u = solve(LinearSystem(A, b), SuperLU(), stop=Stop(rtol=1e-12)).value.reshape(grid.shape)
    return float((u - case.value).norm() / case.value.norm())


def check_second_order(error, n):
    coarse, fine = error(n), error(2 * n)
    assert abs(np.log2(coarse / fine) - 2) < 0.2
    assert fine < 2e-3


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("conditions", [["dirichlet"], [("dirichlet", "neumann")]])
@pytest.mark.parametrize(("dim", "n"), [(1, 32), (2, 16), (3, 8)])
def test_second_order_against_the_exact_solution(dim, n, conditions, centring):
    make = partial(Grid, upper=(1.0, 1.2, 0.9)[:dim], boundary=conditions, centring=centring)
    check_second_order(lambda n: exact_error(Darcy(source=2.0), make((n,) * dim)), n)


def test_the_order_check_can_fail():
    with pytest.raises(AssertionError):
        check_second_order(lambda n: exact_error(Darcy(), cells(n), boundary=False), 16)


def test_a_jump_between_cells_is_exact_in_one_dimension():
    """Harmonic means carry the flux through a jump without error, arithmetic ones would not."""
    grid, n = cells(8, 1, boundary=[("dirichlet", "neumann")]), 8
    a = torch.where(torch.arange(n) < 4, 1.0, 100.0).double()
    A, b = Darcy().problem(grid, {"coefficient": a})
    u = solve(LinearSystem(A, b), SuperLU()).value
    flux = 1 - torch.arange(n + 1).double() / n  # integral of f to the right of a face
    steps = torch.cat([flux[:1] / (2 * a[:1] * n), flux[1:-1] * (1 / a[:-1] + 1 / a[1:]) / (2 * n)])
    torch.testing.assert_close(u, steps.cumsum(0), rtol=1e-12, atol=1e-14)


def test_samples_hold_the_coefficient_alone():
    equation, grid = Darcy(Trigonometric(3)), cells(12)
    fields = equation.sample(grid, 3, np.random.default_rng(0))
    assert list(fields) == ["coefficient"]
    assert fields["coefficient"].shape == (3, 12, 12)
    assert equation.sample(grid, 0, np.random.default_rng(0))["coefficient"].shape == (0, 12, 12)
    again = equation.sample(grid, 3, np.random.default_rng(0))
    assert torch.equal(fields["coefficient"], again["coefficient"])


@pytest.mark.parametrize("coefficient", [TwoPhase(), LogNormal(), Trigonometric()])
def test_a_batch_is_its_samples(coefficient):
    equation, grid = Darcy(coefficient, source=3.0), cells(16)
    fields = equation.sample(grid, 3, np.random.default_rng(1))
    batch = LinearSystem(*equation.problem(grid, fields))
    together = solve(batch, CG(), stop=Stop(rtol=1e-11)).value
    for i in range(3):
        single = LinearSystem(*equation.problem(grid, {"coefficient": fields["coefficient"][i]}))
        alone = solve(single, SuperLU(), stop=Stop(rtol=1e-12)).value
        torch.testing.assert_close(together[i], alone, rtol=1e-8, atol=1e-10)
        r = equation.residual(grid, {"coefficient": fields["coefficient"][i]}, alone.reshape(grid.shape))
        assert r.norm() < 1e-11 * single.b.norm()


def test_gradients_reach_the_coefficient():
    grid = cells(5)
    a = torch.ones(5, 5, dtype=torch.float64, requires_grad=True)
    A, b = Darcy().problem(grid, {"coefficient": a})
    solve(LinearSystem(A, b), SuperLU()).value.sum().backward()
    assert bool((a.grad < 0).all())  # more permeable, less pressure


def test_float32_stays_float32():
    A, b = Darcy().problem(cells(4), {"coefficient": torch.ones(4, 4)})
    assert A.dtype == b.dtype == torch.float32


def test_errors_name_what_is_needed():
    with pytest.raises(KeyError, match="Darcy takes the fields coefficient; given: source"):
        Darcy().problem(cells(4), {"source": torch.ones(4, 4)})
    with pytest.raises(ShapeMismatch, match=r"this grid needs \(4, 4\)"):
        Darcy().problem(Grid((3, 3)), {"coefficient": torch.ones(3, 3)})
    closed = cells(4, boundary="neumann")
    with pytest.raises(IncompatibleSystem, match="no solution exists"):
        LinearSystem(*Darcy().problem(closed, {"coefficient": torch.ones(4, 4).double()}))
    with pytest.raises(NotSupported, match="this solution is not periodic"):
        Darcy().exact(cells(4, boundary="periodic"))
