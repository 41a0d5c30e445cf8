"""Contract of every equation: order two against manufactured solutions, batches, compatibility, errors."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

from solvus.meshes import Grid
from solvus.operators.linear import MixedDtypes, NotSupported, ShapeMismatch, to_scipy
from solvus.operators.pde import (
    Equation,
    Helmholtz,
    Poisson,
    VariableDiffusion,
    face_points,
    manufacture,
    two_phase,
)
from solvus.solvers import LinearSystem, Stop, solve

EQUATIONS: dict[str, Equation] = {
    "poisson": Poisson(),
    "diffusion": VariableDiffusion(),
    "reaction": VariableDiffusion(reaction=2.0),
    "helmholtz": Helmholtz(4.3),
}
CONDITIONS = {
    "dirichlet": ("dirichlet", "dirichlet"),
    "neumann": ("neumann", "neumann"),
    "periodic": ("periodic", "periodic"),
    "mixed": ("dirichlet", "neumann"),
}
CASES = [
    (name, conditions, centring, dim)
    for name in EQUATIONS
    for conditions in CONDITIONS
    for centring in ("node", "cell")
    for dim in (1, 2)
] + [(name, "mixed", centring, 3) for name in ("poisson", "diffusion") for centring in ("node", "cell")]


def make_grid(cells, dim, conditions="dirichlet", centring="node"):
    """Return a grid with so many cells per axis in a box of unequal sides."""
    make = partial(
        Grid, upper=(1.0, 1.2, 0.9)[:dim], centring=centring, boundary=(CONDITIONS[conditions],) * dim
    )
    extra = make((cells,) * dim).cells[0] - cells
    return make((cells - extra,) * dim)


def discrete_solution(A, b):
    """Solve by SciPy's sparse LU; where A is singular, one unknown is tied to zero."""
    matrix = to_scipy(A)
    if A.nullspace is not None:
        matrix = matrix + matrix.diagonal().max() * sp.coo_array(([1.0], ([0], [0])), shape=matrix.shape)
    x = torch.as_tensor(spla.splu(sp.csc_array(matrix)).solve(b.numpy()))
    return x if A.nullspace is None else A.nullspace.project(x)


def discrete_error(equation, grid):
    """Root mean square error against the known solution, up to a constant where that is free."""
    case = equation.exact(grid)
    A, b = equation.problem(grid, case.fields, case.boundary)
    exact = case.value.reshape(-1)
    exact = exact if A.nullspace is None else A.nullspace.project(exact)
    return float((discrete_solution(A, b) - exact).square().mean().sqrt())


def check_second_order(equation, conditions, centring, dim):
    """Measure the order between two resolutions and bound the finer error."""
    resolutions = {1: (64, 128), 2: (24, 48), 3: (12, 24)}[dim]
    coarse, fine = (discrete_error(equation, make_grid(n, dim, conditions, centring)) for n in resolutions)
    assert abs(np.log2(coarse / fine) - 2) < 0.2
    assert fine < (1e-3, 2e-2, 8e-2)[dim - 1]  # about 2 per cent of the solution's spread


@pytest.mark.parametrize(("name", "conditions", "centring", "dim"), CASES)
def test_second_order_with_data_on_every_face(name, conditions, centring, dim):
    check_second_order(EQUATIONS[name], conditions, centring, dim)


@dataclass(frozen=True)
class Forgetful(Equation):
    """A wrong specimen: it ignores the values on the faces."""

    inputs = Poisson.inputs
    outputs = Poisson.outputs

    def sample(self, grid, n, generator):
        return Poisson().sample(grid, n, generator)

    def problem(self, grid, fields, boundary=None):
        return Poisson().problem(grid, fields)

    def exact(self, grid):
        return Poisson().exact(grid)


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("conditions", ["dirichlet", "mixed"])
def test_the_order_check_can_fail(conditions, centring):
    with pytest.raises(AssertionError):
        check_second_order(Forgetful(), conditions, centring, 2)


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("conditions", CONDITIONS)
def test_samples_pose_problems_that_have_a_solution(name, centring, conditions):
    equation, grid = EQUATIONS[name], make_grid(8, 2, conditions, centring)
    fields = equation.sample(grid, 3, np.random.default_rng(5))
    again = equation.sample(grid, 3, np.random.default_rng(5))
    for spec in equation.inputs:
        assert fields[spec.name].shape == (3, *spec.shape(grid))
        assert fields[spec.name].dtype == torch.float64
        assert torch.equal(fields[spec.name], again[spec.name])
    system = LinearSystem(*equation.problem(grid, fields))  # raises when b is outside the range of A
    assert system.batch_shape == (3,)
    for i in range(3):
        single = equation.problem(grid, {key: value[i] for key, value in fields.items()})
        u = discrete_solution(*single)
        torch.testing.assert_close(system.residual(u.expand(3, -1))[i], single.b - single.A @ u)
        residual = equation.residual(grid, {key: v[i] for key, v in fields.items()}, u.reshape(grid.shape))
        assert residual.shape == grid.shape
        assert residual.norm() < 1e-10 * single.b.norm() + 1e-10


@pytest.mark.parametrize("name", EQUATIONS)
def test_exact_data_pose_a_compatible_neumann_problem(name):
    grid = make_grid(9, 2, "neumann")
    case = EQUATIONS[name].exact(grid)
    LinearSystem(*EQUATIONS[name].problem(grid, case.fields, case.boundary))


def test_balancing_works_on_each_part_of_a_masked_domain():
    mask = np.ones((9, 9), dtype=bool)
    mask[4] = False
    grid = Grid((9, 9), centring="cell", boundary="neumann", mask=mask)
    fields = Poisson().sample(grid, 1, np.random.default_rng(0))
    A, b = Poisson().problem(grid, fields)
    assert A.nullspace is not None
    assert A.nullspace.dimension == 2
    assert A.nullspace.component(b).abs().max() < 1e-12
    assert b.reshape(9, 9)[4].abs().max() == 0
    assert solve(LinearSystem(A, b), stop=Stop(rtol=1e-9)).converged.all()


def test_face_values_skip_the_obstacle():
    mask = np.ones((4, 4), dtype=bool)
    mask[0, :2] = False
    grid = Grid((4, 4), centring="cell", mask=mask)
    _, b = Poisson().problem(grid, {"source": torch.zeros(4, 4)}, {(0, 0): 1.0})
    assert b.reshape(4, 4)[0].tolist() == [0.0, 0.0, 32.0, 32.0]


def test_float32_fields_make_a_float32_problem():
    grid = make_grid(8, 2, "mixed")
    case = VariableDiffusion().exact(grid)
    single = {key: value.float() for key, value in case.fields.items()}
    A, b = VariableDiffusion().problem(grid, single, case.boundary)
    assert A.dtype == b.dtype == torch.float32
    double = VariableDiffusion().problem(grid, case.fields, case.boundary).b
    torch.testing.assert_close(b.double(), double, rtol=1e-5, atol=1e-3)


def test_gradients_reach_sources_coefficients_and_face_values():
    grid = make_grid(4, 2, "mixed")
    fields = {key: value.requires_grad_() for key, value in VariableDiffusion().exact(grid).fields.items()}
    face = torch.ones(4, dtype=torch.float64, requires_grad=True)
    A, b = VariableDiffusion().problem(grid, fields, {(0, 0): face, (1, 1): 0.5})
    ((A @ torch.ones(grid.size, dtype=torch.float64)) * b).sum().backward()
    assert all(t.grad is not None and bool((t.grad != 0).any()) for t in (*fields.values(), face))


def test_coefficients_are_drawn_as_told():
    equation = VariableDiffusion(coefficient=partial(two_phase, contrast=1e3))
    drawn = equation.sample(make_grid(8, 2), 2, np.random.default_rng(0))["coefficient"]
    assert drawn.unique().tolist() == [1.0, 1000.0]
    assert not torch.equal(drawn[0], drawn[1])


def test_a_linear_solution_has_no_source():
    case = manufacture(make_grid(5, 3), lambda p: 2 * p[0] - p[1] + 3)
    assert case.fields["source"].abs().max() == 0


def test_face_points_lie_on_the_face():
    points = face_points(make_grid(4, 2), (1, 1))
    assert points.shape == (3, 2)
    assert set(points[:, 1]) == {1.2}


def test_a_batch_of_face_values_makes_a_batch():
    grid = make_grid(4, 2)
    values = torch.arange(2.0).double()[:, None].expand(2, 3)
    _, b = Poisson().problem(grid, {"source": torch.zeros(3, 3).double()}, {(1, 0): values})
    assert b.shape == (2, 9)
    assert b[0].abs().max() == 0
    assert b[1].abs().max() > 0


GRID = make_grid(4, 2)
ZERO = torch.zeros(3, 3, dtype=torch.float64)


def test_errors_name_what_is_needed():
    with pytest.raises(KeyError, match="Poisson takes the fields source; given: none"):
        Poisson().problem(GRID, {})
    with pytest.raises(KeyError, match="takes the fields coefficient, source; given: source, velocity"):
        VariableDiffusion().problem(GRID, {"source": ZERO, "velocity": ZERO})
    with pytest.raises(ShapeMismatch, match=r"coefficient has shape \(3, 3\); this grid needs \(4, 4\)"):
        VariableDiffusion().problem(GRID, {"source": ZERO, "coefficient": ZERO})
    with pytest.raises(MixedDtypes, match="all fields need one floating-point type"):
        VariableDiffusion().problem(GRID, {"source": ZERO, "coefficient": torch.ones(4, 4)})
    with pytest.raises(ShapeMismatch, match=r"face \(0, 1\) have shape \(4,\); this face needs a number or"):
        Poisson().problem(GRID, {"source": ZERO}, {(0, 1): torch.zeros(4)})
    with pytest.raises(NotSupported, match=r"face \(2, 0\) carries no condition"):
        Poisson().problem(GRID, {"source": ZERO}, {(2, 0): 1.0})
    periodic = make_grid(3, 2, "periodic")
    with pytest.raises(NotSupported, match="an axis that is not periodic"):
        Poisson().problem(periodic, {"source": ZERO}, {(0, 0): 1.0})
    with pytest.raises(NotSupported, match="drop the mask"):
        Poisson().exact(Grid((3, 3), mask=np.eye(3, dtype=bool)))
    with pytest.raises(ValueError, match="for 0 use the Poisson equation"):
        Helmholtz(0.0)
