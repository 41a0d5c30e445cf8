"""The finite-element backends: measured orders, and agreement of all of them on the same problem."""

import dataclasses
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.spatial import Delaunay

from solvus.meshes import Grid, Mesh, box, l_shape, orient
from solvus.operators.linear import to_scipy
from solvus.operators.linear.base import SPD
from solvus.operators.linear.errors import IncompatibleSystem, NotSupported
from solvus.solvers import CG, Stop, solve
from solvus.solvers.fem import (
    DolfinxInProcess,
    DolfinxWorker,
    Elasticity,
    FenicsUnavailable,
    FenicsWorker,
    Helmholtz,
    Poisson,
    ScikitFem,
    SolveFailed,
    VariableDiffusion,
    fenics,
    lame,
    shared_worker,
)
from solvus.solvers.fem import backends as module
from solvus.solvers.fem.discovery import Candidate, Rejected, Versions
from solvus.solvers.fem.worker import Request

BACKENDS = [
    pytest.param(ScikitFem(), id="scikit-fem"),
    pytest.param(DolfinxWorker(), id="dolfinx", marks=pytest.mark.fenics),
]


def bump(x):
    return np.prod(np.sin(np.pi * x), axis=1)


def wave(x):
    return np.sin(x.sum(axis=1) + 0.3)


def coefficient(x):
    return 1 + x[:, 0]


def displacement(x):
    return np.stack([bump(x), x[:, 0] * bump(x)], axis=1)


def body_force(x):
    """-div(2 mu eps + lam div I) of `displacement`, lam = 2, mu = 1, by central differences of order 4."""
    lam, mu, h = 2.0, 1.0, 1e-2

    def derivative(f, axis, x):
        e = np.zeros(2)
        e[axis] = h
        return (8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h)

    def stress(i, j):
        def value(x):
            gradient = [derivative(displacement, axis, x) for axis in range(2)]  # [axis][:, component]
            divergence = gradient[0][:, 0] + gradient[1][:, 1]
            return mu * (gradient[j][:, i] + gradient[i][:, j]) + lam * divergence * (i == j)

        return value

    return np.stack([-sum(derivative(stress(i, j), j, x) for j in range(2)) for i in range(2)], axis=1)


def with_dirichlet(n, degree):
    return Poisson(Grid((n - 1, n - 1)), lambda x: 2 * np.pi**2 * bump(x), degree=degree)


def with_flux(n, degree):
    grid = Grid((n, n - 1), boundary=(("dirichlet", "neumann"), "dirichlet"))
    flux = {"xmax": lambda x: np.cos(x.sum(axis=1) + 0.3)}
    return Poisson(grid, lambda x: 2 * wave(x), wave, flux, degree)


def with_coefficient(n, degree):
    source = lambda x: 2 * (1 + x[:, 0]) * wave(x) - np.cos(x.sum(axis=1) + 0.3)  # noqa: E731
    return VariableDiffusion(Grid((n - 1, n - 1)), source, wave, {}, degree, coefficient)


def with_wavenumber(n, degree):
    return Helmholtz(
        Grid((n - 1, n - 1)), lambda x: (2 * np.pi**2 - 30) * bump(x), degree=degree, wavenumber=30**0.5
    )


def with_displacement(n, degree):
    return Elasticity(Grid((n - 1, n - 1)), body_force, displacement, {}, degree, lam=2.0, mu=1.0)


EXACT = {
    with_dirichlet: (bump, {1: 8e-2, 2: 2.8e-3, 3: 1.4e-4}),
    with_flux: (wave, {1: 8.5e-3, 2: 6.2e-5, 3: 2e-6}),
    with_coefficient: (wave, {1: 8.5e-3, 2: 6.2e-5, 3: 2e-6}),
    with_wavenumber: (bump, {1: 9.5e-3, 2: 3.1e-3, 3: 1.4e-4}),
    with_displacement: (displacement, {1: 7.2e-2, 2: 3.1e-3, 3: 1.7e-4}),
}


def assert_order(backend, make, exact, degree, bound):
    coarse, fine = 6, 12
    if make is with_wavenumber and degree == 1:  # pollution: the asymptotic range starts later
        coarse, fine = 24, 48
    errors = [backend.solve(make(n, degree)).l2_error(exact, relative=True) for n in (coarse, fine)]
    assert errors[0] < bound, errors
    assert abs(np.log2(errors[0] / errors[1]) - (degree + 1)) < 0.2, errors


# dolfinx compiles a form for each, so it takes the whole table for two problems and degree 2 of the others
ORDERS = [
    pytest.param(
        *backend.values, make, degree, id=f"{backend.id}-{make.__name__}-P{degree}", marks=backend.marks
    )
    for backend in BACKENDS
    for make in EXACT
    for degree in (1, 2, 3)
    if backend.id == "scikit-fem" or degree == 2 or make in (with_dirichlet, with_flux)
]


@pytest.mark.parametrize(("backend", "make", "degree"), ORDERS)
def test_order(backend, make, degree):
    exact, bounds = EXACT[make]
    assert_order(backend, make, exact, degree, bounds[degree])


def test_order_of_a_wrong_solution_is_noticed():
    with pytest.raises(AssertionError):
        assert_order(ScikitFem(), with_dirichlet, lambda x: 1.001 * bump(x), 2, 1e-2)


@pytest.mark.parametrize(("dim", "degree"), [(1, 1), (1, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_order_on_lines_and_tetrahedra(backend, dim, degree):
    def problem(n):
        boundary = [("dirichlet", "neumann")] + ["dirichlet"] * (dim - 1)
        grid = Grid((n,) + (n - 1,) * (dim - 1), boundary=boundary)
        flux = {"xmax": lambda x: np.cos(x.sum(axis=1) + 0.3)}
        return Poisson(grid, lambda x: dim * wave(x), wave, flux, degree)

    coarse, fine = (backend.solve(problem(n)).l2_error(wave) for n in (4, 8))
    assert coarse < (3.2e-2, 5e-4)[degree - 1]
    assert abs(np.log2(coarse / fine) - (degree + 1)) < 0.2


def random_mesh(dim):
    """A Delaunay mesh of the unit box with random points, boundary split in "left" and "rest"."""
    rng = np.random.default_rng(dim)
    if dim == 1:
        points = np.sort(rng.random(9))[:, None]
        cells = rng.permutation(np.stack([np.arange(8), np.arange(1, 9)], axis=1))
    else:
        corners = np.stack(np.meshgrid(*[(0.0, 1.0)] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
        points = np.concatenate([corners, rng.random((24, dim))])
        cells = Delaunay(points).simplices.astype(np.int64)
        sides = points[cells][:, 1:] - points[cells][:, :1]
        cells = rng.permuted(cells[np.abs(np.linalg.det(sides)) > 1e-9], axis=1)
    mesh = Mesh(points, orient(points, {{1: "line", 2: "triangle", 3: "tetra"}[dim]: cells}))
    left = mesh.boundary_where(lambda x: x[:, 0] < 0.3)
    rest = mesh.boundary_where(lambda x: x[:, 0] >= 0.3)
    return mesh.with_tags({"left": left, "rest": rest})


def problems(dim):
    """Every kind of problem on a random mesh, with data of every kind."""
    mesh = random_mesh(dim)
    f = lambda x: np.exp(x[:, 0]) * np.cos(2 * x[:, -1])  # noqa: E731
    vector = lambda x: np.stack([np.sin(x[:, 0] + k * x[:, -1]) for k in range(dim)], axis=1)  # noqa: E731
    per_cell = 0.1 + np.random.default_rng(0).random(mesh.n_cells)
    out = []
    for degree in {1: (2,), 2: (1, 3), 3: (2,)}[dim]:
        data = (mesh, f, {"left": wave}, {"rest": f}, degree)
        out.append(VariableDiffusion(*data, coefficient=coefficient))
        out.append(VariableDiffusion(*data, coefficient=per_cell))
        out.append(Helmholtz(*data, wavenumber=lambda x: 2 + x[:, 0]))
        if dim > 1:
            data = (mesh, vector, {"left": vector}, {"rest": vector}, degree)
            out.append(Elasticity(*data, lam=2.0, mu=coefficient))
    free = Grid((4,) * dim, boundary="neumann")
    out.append(Poisson(free, lambda x: np.cos(np.pi * x[:, 0]), None, degree=2))
    return out


def name(problem):
    return f"{type(problem).__name__}-{problem.mesh.dim}D-P{problem.degree}"


def assert_agree(problem, one, other):
    """Matrix, right-hand side and solution of two backends are the same."""
    a, b = one.assemble(problem), other.assemble(problem)
    assert abs(a.matrix - b.matrix).max() <= 1e-13 * abs(a.matrix).max()
    assert np.abs(a.b - b.b).max() <= 1e-13 * np.abs(a.b).max()
    assert sorted(b.permutation) == list(range(len(b.b)))
    u, v = one.solve(problem).value, other.solve(problem).value
    assert u.shape == v.shape
    assert np.abs(u - v).max() <= 1e-8 * np.abs(u).max()


PROBLEMS = [pytest.param(p, id=f"{name(p)}-{i}") for dim in (1, 2, 3) for i, p in enumerate(problems(dim))]


@pytest.mark.fenics
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_dolfinx_agrees_with_scikit_fem(problem, ranks):
    assert_agree(problem, ScikitFem(), DolfinxWorker(ranks=ranks))


@pytest.mark.fenics
def test_third_degree_on_tetrahedra_and_lines():
    # scikit-fem has no such elements: the order alone tells
    def error(dim, n):
        problem = Poisson(Grid((n - 1,) * dim), lambda x: dim * wave(x), wave, degree=3)
        return fenics().solve(problem).l2_error(wave)

    for dim in (1, 3):
        assert error(dim, 3) < 1e-4
        assert abs(np.log2(error(dim, 3) / error(dim, 6)) - 4) < 0.25


@pytest.mark.parametrize("fault", ["matrix", "b", "value", "order"])
def test_disagreement_is_noticed(fault):
    @dataclasses.dataclass(frozen=True)
    class Wrong:
        def assemble(self, problem):
            right = ScikitFem().assemble(problem)
            if fault == "matrix":
                return dataclasses.replace(right, matrix=right.matrix * (1 + 1e-9))
            if fault == "b":
                return dataclasses.replace(right, b=right.b + 1e-9)
            return right

        def solve(self, problem):
            right = ScikitFem().solve(problem)
            if fault == "value":
                return dataclasses.replace(right, value=right.value + 1e-6)
            return dataclasses.replace(right, value=right.value[::-1]) if fault == "order" else right

    with pytest.raises(AssertionError):
        assert_agree(problems(2)[0], ScikitFem(), Wrong())


@pytest.mark.parametrize("backend", BACKENDS)
def test_stiffness_of_one_triangle_by_hand(backend):
    mesh = Mesh([[0, 0], [1, 0], [0, 1]], {"triangle": [[0, 1, 2]]})
    assembled = backend.assemble(Poisson(mesh, source=0.0, dirichlet=None))
    expected = 0.5 * np.array([[2, -1, -1], [-1, 1, 0], [-1, 0, 1]])
    assert np.allclose(assembled.matrix.toarray(), expected, atol=1e-15)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dirichlet_rows_are_the_identitys(backend):
    assembled = backend.assemble(with_coefficient(4, 2))
    matrix = assembled.matrix.toarray()
    assert np.array_equal(matrix, matrix.T) or np.allclose(matrix, matrix.T, atol=1e-14)
    assert np.allclose(matrix[assembled.fixed], np.eye(len(matrix))[assembled.fixed])
    assert np.allclose(assembled.b[assembled.fixed], wave(assembled.problem.points[assembled.fixed]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_assembled_matrix_is_a_linear_system(backend):
    problem = with_coefficient(8, 2)
    assembled = backend.assemble(problem)
    system = assembled.system()
    assert system.A.tags >= SPD
    result = solve(system, CG(), stop=Stop(rtol=1e-12))
    assert np.allclose(assembled.extend(result.value), backend.solve(problem).value, atol=1e-9)
    with pytest.raises(ValueError, match="one value per free unknown"):
        assembled.extend(torch.zeros(3))


def test_helmholtz_is_not_tagged_definite():
    assert not ScikitFem().assemble(with_wavenumber(6, 1)).system().A.tags >= SPD


def test_pure_neumann_system_knows_its_null_space():
    problem = problems(2)[-1]
    system = ScikitFem().assemble(problem).system()
    assert system.A.nullspace is not None
    x = solve(system, CG(), stop=Stop(rtol=1e-12)).value.numpy()
    u = ScikitFem().solve(problem)
    assert abs(u.mean()) < 1e-14
    assert np.allclose(x - x.mean(), u.value - u.value.mean(), atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pure_neumann_without_balance_has_no_solution(backend):
    problem = Poisson(Grid((5, 5), boundary="neumann"), source=1.0, dirichlet=None)
    with pytest.raises(IncompatibleSystem, match=r"source and the fluxes must cancel, their sum is 1.0e\+00"):
        backend.assemble(problem)
    with pytest.raises(IncompatibleSystem, match="must cancel"):
        backend.solve(problem)


@pytest.mark.parametrize("backend", BACKENDS)
def test_corner_cell_with_two_fluxes(backend):
    # u = x + 2 y: the flux jumps at the corner, where one triangle has two flux edges
    grid = Grid((3, 3), boundary=(("dirichlet", "neumann"), ("neumann", "dirichlet")))
    u = lambda x: x[:, 0] + 2 * x[:, 1]  # noqa: E731
    solution = backend.solve(Poisson(grid, 0.0, u, {"xmax": 1.0, "ymin": -2.0}, 1))
    assert np.allclose(solution.value, u(solution.points), atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_mesh_with_a_corner_and_node_values_as_data(backend):
    problem = Poisson(l_shape(4), degree=2)
    values = 1 + problem.points @ [1.0, -2.0]
    given = dataclasses.replace(problem, dirichlet=values)
    assert np.allclose(backend.solve(given).value, values, atol=1e-8)


def slit_square(n):
    """A square cut open along x = 1/2, y > 1/2: the points on the cut are there twice."""
    mesh = box((2 * n, 2 * n))
    middle = np.isclose(mesh.points[:, 0], 0.5) & (mesh.points[:, 1] > 0.5)
    twin = np.arange(mesh.n_points)
    twin[middle] = mesh.n_points + np.arange(middle.sum())
    cells = mesh.cells["triangle"].copy()
    right = mesh.points[cells].mean(axis=1)[:, 0] > 0.5
    cells[right] = twin[cells[right]]
    return Mesh(np.concatenate([mesh.points, mesh.points[middle]]), {"triangle": cells})


@pytest.mark.fenics
@pytest.mark.parametrize("degree", [1, 3])
def test_slit(degree):
    mesh = slit_square(3)
    outside = mesh.boundary_where(lambda x: ~(np.isclose(x[:, 0], 0.5) & (x[:, 1] < 1) & (x[:, 1] > 0)))
    jump = lambda x: np.where(x[:, 0] > 0.5, 1.0, -1.0) * x[:, 1]  # noqa: E731
    problem = Poisson(mesh.with_tags({"outside": outside}), 1.0, {"outside": jump}, degree=degree)
    assert_agree(problem, ScikitFem(), DolfinxWorker())
    assert_agree(problem, ScikitFem(), DolfinxWorker(ranks=2))
    value = ScikitFem().solve(problem).value
    at_cut = np.flatnonzero(np.all(np.isclose(problem.points, [0.5, 5 / 6]), axis=1))
    assert len(at_cut) == 2
    assert abs(np.diff(value[at_cut])[0]) > 0.5


@pytest.mark.parametrize("backend", BACKENDS)
def test_rigid_motion_has_no_stress(backend):
    lam, mu = lame(1.0, 0.3)
    turn = lambda x: np.stack([1 - 0.5 * x[:, 1], 2 + 0.5 * x[:, 0]], axis=1)  # noqa: E731
    solution = backend.solve(Elasticity(Grid((5, 5)), 0.0, turn, lam=lam, mu=mu))
    assert np.allclose(solution.value, turn(solution.points), atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_grid(backend):
    mask = np.ones((7, 7), dtype=bool)
    mask[3:5, 3:5] = False
    problem = Poisson(Grid((7, 7), mask=mask, obstacle="dirichlet"), 1.0)
    solution = backend.solve(problem)
    centre = np.linalg.norm(problem.points - 0.5, axis=1) < 1e-9
    assert centre.sum() == 1
    assert solution.value[centre] == pytest.approx(0, abs=1e-12)
    assert solution.value.max() < backend.solve(Poisson(Grid((7, 7)), 1.0)).value.max()


def test_own_solver_in_scikit_fem():
    problem = with_flux(10, 2)
    own, direct = ScikitFem(CG()).solve(problem), ScikitFem().solve(problem)
    assert np.allclose(own.value, direct.value, atol=1e-8)
    assert own.stats["iterations"] > 5
    assert own.stats["residual"] <= 1e-10


def test_own_solver_that_fails():
    with pytest.raises(SolveFailed, match=r"CG ended with BREAKDOWN, .*choose another `solver`"):
        ScikitFem(CG(), rtol=1e-18).solve(with_flux(10, 2))


def test_scikit_fem_says_what_it_lacks(monkeypatch):
    with pytest.raises(NotSupported, match="no Lagrange element of degree 3 in 3 dimensions: use FEniCS"):
        ScikitFem().assemble(Poisson(Grid((3, 3, 3)), degree=3))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotSupported, match=r"pip install solvus\[fem\]"):
        ScikitFem().version()


@pytest.mark.parametrize("backend", BACKENDS)
def test_resonance_is_not_hidden(backend):
    def matrix(k):
        return ScikitFem().assemble(Helmholtz(Grid((3, 3)), 1.0, wavenumber=k)).system()

    K, shifted = (to_scipy(matrix(k).A).toarray() for k in (0.0, 1.0))
    k = eigh(K, K - shifted, eigvals_only=True)[0] ** 0.5
    with pytest.raises(SolveFailed, match="resonance"):
        backend.solve(Helmholtz(Grid((3, 3)), 1.0, wavenumber=k))


@pytest.mark.fenics
def test_options_are_passed_to_petsc():
    problem = with_dirichlet(12, 1)
    stats = fenics({"ksp_type": "cg", "pc_type": "jacobi"}).solve(problem).stats
    assert (stats["ksp"], stats["pc"]) == ("cg", "jacobi")
    assert stats["iterations"] > fenics().solve(problem).stats["iterations"]
    with pytest.raises(SolveFailed, match="DIVERGED_MAX_IT after 2 iterations of cg with none"):
        fenics({"ksp_type": "cg", "pc_type": "none", "ksp_max_it": 2}).solve(problem)


@pytest.mark.fenics
def test_default_solvers():
    kinds = {p: fenics().solve(p(8, 1)).stats for p in (with_dirichlet, with_wavenumber, with_displacement)}
    assert kinds[with_wavenumber]["pc"] == "lu"
    assert kinds[with_displacement]["pc"] == "gamg"
    assert kinds[with_dirichlet]["pc"] in ("hypre", "gamg")


@pytest.mark.fenics
def test_rigid_motions_help_multigrid(tmp_path):
    beam = Elasticity(Grid((63, 7), upper=(8.0, 1.0)), 1.0, {"xmin": 0.0}, lam=2.0)
    told = fenics().solve(beam).stats["iterations"]
    copy = shutil.copytree(Path(module.__file__).parent, tmp_path / "without")
    kernel = copy / "dolfinx_kernel.py"
    line = "        A.setNearNullSpace(space.rigid_modes(b))\n"
    assert line in kernel.read_text()
    kernel.write_text(kernel.read_text().replace(line, "        pass\n"))
    worker = FenicsWorker(script=copy / "server.py")
    untold = DolfinxWorker(worker=worker).solve(beam).stats["iterations"]
    worker.close()
    assert told < 0.7 * untold


@pytest.mark.fenics
def test_many_spaces_in_turn():
    # more than the worker keeps: a forgotten one is sent again
    values = {}
    for _ in range(2):
        for n in range(3, 12):
            u = fenics().solve(with_dirichlet(n, 1)).value
            assert np.array_equal(values.setdefault(n, u), u)


def test_in_process_needs_dolfinx_here(monkeypatch):
    monkeypatch.setattr(module, "in_process", lambda: Candidate("/here", Rejected("no dolfinx")))
    with pytest.raises(
        FenicsUnavailable, match=r"\(/here\) cannot import dolfinx \(no dolfinx\): use DolfinxW"
    ):
        DolfinxInProcess().solve(with_dirichlet(3, 1))


@pytest.mark.fenics
def test_in_process_runs_the_kernel_here(monkeypatch):
    """A kernel in this process that passes everything on to the worker stands for dolfinx."""

    class Forgotten(LookupError):
        pass

    spaces = set()

    def perform(comm, op, params, arrays):
        if op == "space":
            spaces.add(params["space"])
        elif params["space"] not in spaces:
            raise Forgotten
        reply = shared_worker().call(Request(op, params, arrays))
        return reply.meta, reply.arrays

    here = Candidate(sys.executable, Versions("0.0", "0.0", "0.0", "0.0"))
    mpi = types.SimpleNamespace(MPI=types.SimpleNamespace(COMM_SELF=None))
    monkeypatch.setattr(module, "in_process", lambda: here)
    monkeypatch.setattr(module, "find_interpreter", lambda: here)
    monkeypatch.setitem(sys.modules, "mpi4py", mpi)
    kernel = types.SimpleNamespace(perform=perform, Forgotten=Forgotten)
    monkeypatch.setitem(sys.modules, "solvus.solvers.fem.dolfinx_kernel", kernel)
    monkeypatch.setattr("solvus.solvers.fem.dolfinx_kernel", kernel, raising=False)
    backend = fenics()
    assert isinstance(backend, DolfinxInProcess)
    assert isinstance(fenics(ranks=2), DolfinxWorker)
    assert_agree(with_flux(5, 2), ScikitFem(), backend)
    assert len(spaces) == 1
    assert backend.version().startswith("dolfinx 0.0")


@pytest.mark.fenics
@pytest.mark.slow
def test_overhead_of_the_worker():
    problem = with_dirichlet(128, 1)  # 16,641 unknowns
    fenics().solve(problem)
    overheads = [fenics().solve(problem).stats["overhead_s"] for _ in range(9)]
    assert np.median(overheads) < 0.05, overheads
