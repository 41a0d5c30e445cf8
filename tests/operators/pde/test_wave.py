"""Waves in a medium: scikit-fem's matrix, manufactured and exact solutions, batches, gradients, errors."""

from math import pi

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.meshes import Grid
from solvus.operators.linear import NotSupported, to_scipy
from solvus.operators.pde.random_fields import GaussianField
from solvus.operators.pde.wave import HelmholtzMedium, TanhSpeed
from solvus.solvers import LinearSystem, Stop, SuperLU, solve

SMALL = TanhSpeed(GaussianField(2.0, 3.0, 10.0, boundary="neumann", terms=12))


def nodes(n, m=None, **options):
    return Grid((n + 1, (m or n) + 1), boundary="neumann", **options)


def solution(A, b, grid):
    return solve(LinearSystem(A, b), SuperLU(), stop=Stop(rtol=1e-11)).value.reshape(grid.shape)


def oracle(grid, c, equation):
    """scikit-fem's K - M and its load on the upper face, in the order of the grid's unknowns."""
    skfem = pytest.importorskip("skfem", reason="the outside oracle is scikit-fem: pip install solvus[fem]")
    mesh = skfem.MeshQuad.init_tensor(*grid.axes())
    s = np.sqrt({"gauss": 1 / 3, "balanced": 2 / 3}[equation.quadrature])
    points = np.array([[i, j] for i in (-s, s) for j in (-s, s)]).T / 2 + 0.5
    basis = skfem.Basis(mesh, skfem.ElementQuad1(), quadrature=(points, np.full(4, 0.25)))
    index = [np.abs(p[:, None] - axis).argmin(1) for p, axis in zip(mesh.p, grid.axes(), strict=True)]
    place = np.empty(grid.size, dtype=int)  # vertex of each unknown
    place[np.ravel_multi_index(index, grid.shape)] = np.arange(grid.size)
    vertex_speed = c.ravel()[np.argsort(place)]
    form = skfem.BilinearForm(
        lambda u, v, w: u.grad[0] * v.grad[0] + u.grad[1] * v.grad[1] - (equation.omega / w["c"]) ** 2 * u * v
    )
    matrix = form.assemble(basis, c=basis.interpolate(vertex_speed)).tocsr()
    top = mesh.facets_satisfying(lambda x: np.isclose(x[1], grid.upper[1]))
    face = skfem.FacetBasis(mesh, skfem.ElementQuad1(), facets=top, intorder=3)
    flux = skfem.LinearForm(lambda v, w: (abs(w.x[0] - 0.5) < 0.15) * v).assemble(face)
    return matrix[place][:, place], flux[place]


@pytest.mark.parametrize("quadrature", ["gauss", "balanced"])
def test_the_matrix_and_the_load_are_those_of_scikit_fem(quadrature):
    grid = nodes(20, 14, upper=(1.0, 0.7))  # 0.35 and 0.65 are nodes, where quadrature of the jump is exact
    equation = HelmholtzMedium(300.0, SMALL, quadrature=quadrature)
    fields = equation.sample(grid, 1, np.random.default_rng(0))
    A, b = equation.problem(grid, {"speed": fields["speed"][0]})
    matrix, load = oracle(grid, fields["speed"][0].numpy(), equation)
    assert abs(to_scipy(A) - matrix).max() < 1e-12 * abs(matrix).max()
    np.testing.assert_allclose(b.numpy(), load, atol=1e-15)
    assert A.symmetric
    assert abs(to_scipy(A) - to_scipy(A).T).max() < 1e-14
    other, _ = oracle(grid, 1.01 * fields["speed"][0].numpy(), equation)
    assert abs(to_scipy(A) - other).max() > 1e-4 * abs(matrix).max()  # the comparison can fail


@pytest.mark.parametrize(("quadrature", "order"), [("gauss", 2), ("balanced", 4)])
def test_the_order_of_the_phase(quadrature, order):
    """Residual of a standing wave in a uniform medium, no flux: what the grid changes of its frequency."""
    k = pi * np.hypot(3, 2)

    def shift(n):
        grid = nodes(n)
        x, y = (torch.as_tensor(t) for t in np.meshgrid(*grid.axes(), indexing="ij"))
        u = torch.cos(3 * pi * x) * torch.cos(2 * pi * y)
        c = torch.full(grid.shape, 1 / k, dtype=torch.float64)
        equation = HelmholtzMedium(1.0, quadrature=quadrature)
        return float(equation.residual(grid, {"speed": c}, u, {}).norm()) * n / k**2

    coarse, fine = shift(24), shift(48)
    assert abs(np.log2(coarse / fine) - order) < 0.1


def cosine_error(n, weight=1.0, quadrature="balanced"):
    """Error for u = cos(3 pi x) cos(2 pi y), which has no flux, with the source that it needs."""
    grid, omega = nodes(n), 200.0
    x, y = (torch.as_tensor(t) for t in np.meshgrid(*grid.axes(), indexing="ij"))
    c = 20 + torch.sin(2 * x + y)
    u = torch.cos(3 * pi * x) * torch.cos(2 * pi * y)
    f = (13 * pi**2 - (omega / c) ** 2) * u
    A, _ = HelmholtzMedium(omega, quadrature=quadrature).problem(grid, {"speed": c})
    lines = [
        sp.diags_array([1.0, 4.0, 1.0], offsets=[-1, 0, 1], shape=(n + 1,) * 2).tolil() for _ in range(2)
    ]
    for line in lines:
        line[0, 0] = line[n, n] = 2
    mass = sp.kron(*lines).tocsr() / (6 * n) ** 2
    b = torch.as_tensor(weight * (mass @ f.numpy().ravel()))
    return float((solution(A, b, grid) - u).norm() / u.norm())


def check_second_order(error, n, bound):
    coarse, fine = error(n), error(2 * n)
    assert abs(np.log2(coarse / fine) - 2) < 0.2
    assert fine < bound


@pytest.mark.parametrize("quadrature", ["gauss", "balanced"])
def test_second_order_for_a_standing_wave(quadrature):
    check_second_order(lambda n: cosine_error(n, quadrature=quadrature), 32, 0.02)


def test_the_order_check_can_fail():
    with pytest.raises(AssertionError):
        check_second_order(lambda n: cosine_error(n, weight=1.05), 32, 0.02)


def airy_error(n):
    grid = nodes(n, upper=(1.0, 1.2))
    case = HelmholtzMedium(7.0).exact(grid)
    assert all(value.abs().max() > 0.1 for value in case.boundary.values())
    A, b = HelmholtzMedium(7.0).problem(grid, case.fields, case.boundary)
    return float((solution(A, b, grid) - case.value).norm() / case.value.norm())


def test_second_order_with_fluxes_on_every_face():
    check_second_order(airy_error, 48, 0.01)


def test_the_drive_is_integrated_exactly():
    for n in (7, 20, 33):
        grid = nodes(n)
        equation = HelmholtzMedium(30.0, centre=0.41, half_width=0.237)
        b = equation.problem(grid, {"speed": torch.ones(grid.shape).double()}).b.reshape(grid.shape)
        x = torch.as_tensor(grid.axes()[0])
        assert abs(b[:, -1].sum() - 2 * 0.237) < 1e-14
        assert abs((b[:, -1] * x).sum() - 2 * 0.237 * 0.41) < 1e-14  # hats reproduce linear functions
        assert b[:, :-1].abs().max() == 0
    whole = HelmholtzMedium(30.0, half_width=9.0).problem(nodes(6), {"speed": torch.ones(7, 7).double()}).b
    assert abs(whole.sum() - 1) < 1e-14


def test_a_batch_is_its_samples():
    equation, grid = HelmholtzMedium(100.0, SMALL), nodes(12, 9)
    fields = equation.sample(grid, 3, np.random.default_rng(2))
    A, b = equation.problem(grid, fields)
    assert (tuple(A.batch_shape), tuple(b.shape), A.symmetric) == ((3,), (3, grid.size), True)
    x = torch.randn(3, grid.size, dtype=torch.float64)
    for i in range(3):
        Ai, bi = equation.problem(grid, {"speed": fields["speed"][i]})
        torch.testing.assert_close((A @ x)[i], Ai @ x[i], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(b[i], bi)
    case = equation.exact(grid)
    b = equation.problem(grid, {"speed": torch.stack([case.fields["speed"]] * 2)}, case.boundary).b
    torch.testing.assert_close(b[1], equation.problem(grid, case.fields, case.boundary).b)


def test_a_batch_of_fluxes_makes_a_batch():
    equation, grid = HelmholtzMedium(10.0), nodes(4)
    fluxes = torch.stack([torch.zeros(5), torch.ones(5)]).double()
    _, b = equation.problem(grid, {"speed": torch.ones(5, 5).double()}, {(0, 0): fluxes, (1, 1): 2.0})
    assert b.shape == (2, 25)
    assert abs(b.sum(-1) - torch.tensor([2.0, 3.0])).max() < 1e-14


@pytest.mark.parametrize("batched", [False, True])
def test_gradients_reach_the_speed(batched):
    equation, grid = HelmholtzMedium(10.0), nodes(3)
    c = (1 + torch.rand(4, 4, dtype=torch.float64)).requires_grad_()
    x = torch.randn(16, dtype=torch.float64)

    def energy(speed):
        A, _ = equation.problem(grid, {"speed": speed[None] if batched else speed})
        y = x[None] if batched else x
        return (y * (A @ y)).sum()

    assert torch.autograd.gradcheck(energy, (c,))


def test_samples_are_the_published_speeds():
    grid = nodes(40)
    c = HelmholtzMedium().sample(grid, 50, np.random.default_rng(0))["speed"]
    assert c.shape == (50, 41, 41)
    a = torch.atanh(c - 20)
    assert a.mean((1, 2)).abs().max() < 0.05
    assert abs(a.square().mean().sqrt() - TanhSpeed().field.variance(grid) ** 0.5) < 0.01
    assert HelmholtzMedium().sample(grid, 0, np.random.default_rng(0))["speed"].shape == (0, 41, 41)


def test_errors_name_what_is_needed():
    with pytest.raises(ValueError, match="omega and half_width must be positive"):
        HelmholtzMedium(0.0)
    with pytest.raises(ValueError, match="'lobatto' is not a valid Quadrature"):
        HelmholtzMedium(quadrature="lobatto")
    with pytest.raises(ValueError, match="speed of waves must be positive"):
        HelmholtzMedium().problem(nodes(3), {"speed": torch.zeros(4, 4)})
    for grid in (
        Grid((4, 4)),
        Grid((4,), boundary="neumann"),
        Grid((4, 4), centring="cell", boundary="neumann"),
    ):
        with pytest.raises(NotSupported, match="node-centred grid in the plane with Neumann faces"):
            HelmholtzMedium().problem(grid, {"speed": torch.ones(4, 4)})
    with pytest.raises(NotSupported, match=r"face \(2, 0\) carries no condition"):
        HelmholtzMedium().problem(nodes(3), {"speed": torch.ones(4, 4)}, {(2, 0): 1.0})
