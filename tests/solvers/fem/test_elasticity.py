"""Plane elasticity on random shapes: patch tests, known solutions, rigid motions, the other backend."""

import numpy as np
import pytest

from solvus.meshes import box
from solvus.meshes.outlines import SmoothOutline
from solvus.meshes.random_shapes import RandomShapes, shape_mesh
from solvus.operators.linear.errors import ShapeMismatch
from solvus.solvers.fem import DolfinxWorker, Elasticity, ScikitFem, VariableDiffusion, lame
from solvus.solvers.fem.elasticity import Plane, PlaneMaterial, strains, von_mises

BACKENDS = [
    pytest.param(ScikitFem(), id="scikit-fem"),
    pytest.param(DolfinxWorker(rtol=1e-12), id="dolfinx", marks=pytest.mark.fenics),
]
SHAPE = RandomShapes(0.15, holes=1.0).draw(np.random.default_rng(2))


def across(plane, nu):
    """Ratio of contraction to stretch under tension in the plane."""
    return nu if plane == "stress" else nu / (1 - nu)


@pytest.mark.parametrize("plane", ["strain", "stress"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_patch(backend, plane):
    """Uniaxial tension, held at one end and pulled at the other: displacement and stress are exact."""
    material, stretch, nu = PlaneMaterial(2.0, 0.3, plane), 0.01, 0.3
    mesh = box((5, 3))
    inner = (mesh.points > 0).all(axis=1) & (mesh.points < 1).all(axis=1)
    mesh = type(mesh)(mesh.points + 0.03 * inner[:, None], mesh.cells, tags=mesh.tags)
    exact = lambda x: stretch * x * [1.0, -across(plane, nu)]  # noqa: E731
    tension = 2.0 * stretch / (1.0 if plane == "stress" else 1 - nu**2)
    lam, mu = material.lame
    pull = {"xmax": np.array([tension, 0.0])}
    solution = backend.solve(Elasticity(mesh, 0.0, {"xmin": exact}, pull, lam=float(lam), mu=float(mu)))
    assert np.allclose(solution.value, exact(mesh.points), atol=1e-12)
    stress = material.stresses(mesh, solution.value)
    expected = np.diag([tension, 0.0, 0.0 if plane == "stress" else nu * tension])
    assert np.allclose(stress, expected, atol=1e-12)
    # Mises (1913): the difference of principal stresses alone counts
    s1, s2, s3 = np.diag(expected)
    size = np.sqrt(((s1 - s2) ** 2 + (s2 - s3) ** 2 + (s3 - s1) ** 2) / 2)
    assert np.allclose(von_mises(stress), size)


def test_the_wrong_plane_fails_the_patch():
    strained, stressed = PlaneMaterial(2.0, 0.3, "strain"), PlaneMaterial(2.0, 0.3, "stress")
    mesh = box((3, 3))
    u = 0.01 * mesh.points * [1.0, -across("stress", 0.3)]
    assert np.allclose(stressed.stresses(mesh, u)[:, 1, 1], 0.0, atol=1e-12)
    assert not np.allclose(strained.stresses(mesh, u)[:, 1, 1], 0.0, atol=1e-4)


def test_linear_displacement_on_a_random_shape():
    gradient = np.array([[0.3, -0.2], [0.5, 0.1]])
    exact = lambda x: x @ gradient.T + [1.0, -2.0]  # noqa: E731
    solution = ScikitFem().solve(Elasticity(SHAPE, 0.0, {"outer": exact, "hole": exact}, lam=2.0, mu=0.7))
    assert np.allclose(solution.value, exact(SHAPE.points), atol=1e-11)
    assert np.allclose(strains(SHAPE, solution.value), (gradient + gradient.T) / 2, atol=1e-11)


def test_rigid_motions_cause_no_stress():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    move = lambda x: x @ turn.T * 0.1 + [0.4, -0.3]  # noqa: E731
    outer = SHAPE.tags["outer"][1]
    mesh = SHAPE.with_tags({"held": (1, outer[: len(outer) // 4])})
    solution = ScikitFem().solve(Elasticity(mesh, 0.0, {"held": move}, lam=1.0, mu=1.0))
    assert np.allclose(solution.value, move(mesh.points), atol=1e-11)
    assert von_mises(PlaneMaterial(1.0).stresses(mesh, solution.value)).max() < 1e-11


def measured_orders(errors, cells):
    """Orders in the length that the number of triangles tells."""
    return -2 * np.diff(np.log(errors)) / np.diff(np.log(cells))


@pytest.mark.parametrize("backend", BACKENDS)
def test_ring_of_lame(backend):
    """A ring with a free hole and given displacement outside: u_r = A r + B / r, Lame (1852)."""
    lam, mu, hole = 1.0, 0.8, 0.4
    B = (lam + mu) / mu * hole**2  # no radial stress at the hole, A = 1
    radial = lambda x: x * (1 + B / (x * x).sum(axis=1, keepdims=True))  # noqa: E731
    zero = np.zeros(1)
    errors, stresses, cells = [], [], []
    for edge in (0.16, 0.08, 0.04):
        mesh = shape_mesh(SmoothOutline(zero, zero), edge, SmoothOutline(zero, zero, hole))
        solution = backend.solve(Elasticity(mesh, 0.0, {"outer": radial}, lam=lam, mu=mu))
        errors.append(solution.l2_error(radial, relative=True))
        cells.append(mesh.n_cells)
        material = PlaneMaterial(mu * (3 * lam + 2 * mu) / (lam + mu), lam / (2 * (lam + mu)))
        x = mesh.points[mesh.simplices].mean(axis=1)
        size = von_mises(material.stresses(mesh, solution.value))
        shear, mean = 2 * mu * B / (x * x).sum(axis=1), 2 * (lam + mu)
        out = 2 * lam  # stress across the plane, lam div u
        s1, s2 = mean + shear, mean - shear
        exact = np.sqrt(((s1 - s2) ** 2 + (s2 - out) ** 2 + (out - s1) ** 2) / 2)
        stresses.append(np.sqrt(mesh.volumes @ (size - exact) ** 2 / (mesh.volumes @ exact**2)))
    assert np.all(np.abs(measured_orders(errors, cells) - 2) < 0.2), errors
    assert errors[-1] < 1e-3
    assert np.all(measured_orders(stresses, cells) > 0.8), stresses
    assert stresses[-1] < 0.03


@pytest.mark.parametrize(("kind", "holes"), [("smooth", 1.0), ("polygon", 0.0)])
def test_order_of_darcy_flow_on_a_random_shape(kind, holes):
    """-div((2 + x) grad u) = f with u = sin(x + 2 y)."""
    exact = lambda x: np.sin(x[:, 0] + 2 * x[:, 1])  # noqa: E731
    kappa = lambda x: 2 + x[:, 0]  # noqa: E731
    source = lambda x: 5 * kappa(x) * exact(x) - np.cos(x[:, 0] + 2 * x[:, 1])  # noqa: E731
    errors, cells = [], []
    for edge in (0.16, 0.08, 0.04):
        mesh = RandomShapes(edge, kind, holes=holes).draw(np.random.default_rng(4))
        problem = VariableDiffusion(mesh, source, dict.fromkeys(mesh.tags, exact), coefficient=kappa)
        errors.append(ScikitFem().solve(problem).l2_error(exact, relative=True))
        cells.append(mesh.n_cells)
    assert np.all(np.abs(measured_orders(errors, cells) - 2) < 0.2), errors
    assert errors[-1] < 2e-3


def test_order_of_elasticity_on_a_random_shape():
    """u = (sin x cos y, x y): div sigma by hand."""
    lam, mu = 1.5, 0.6

    def exact(x):
        return np.stack([np.sin(x[:, 0]) * np.cos(x[:, 1]), x[:, 0] * x[:, 1]], axis=1)

    def force(x):
        s, c = np.sin(x), np.cos(x)
        laplace = np.stack([-2 * s[:, 0] * c[:, 1], np.zeros(len(x))], axis=1)
        grad_div = np.stack([1 - s[:, 0] * c[:, 1], -c[:, 0] * s[:, 1]], axis=1)  # div = cos x cos y + x
        return -mu * laplace - (lam + mu) * grad_div

    errors, cells = [], []
    for edge in (0.16, 0.08, 0.04):
        mesh = RandomShapes(edge, holes=1.0).draw(np.random.default_rng(9))
        problem = Elasticity(mesh, force, dict.fromkeys(mesh.tags, exact), lam=lam, mu=mu)
        errors.append(ScikitFem().solve(problem).l2_error(exact, relative=True))
        cells.append(mesh.n_cells)
    assert np.all(np.abs(measured_orders(errors, cells) - 2) < 0.2), errors
    assert errors[-1] < 2e-3


def test_constants():
    assert np.allclose(PlaneMaterial(3.0, 0.2).lame, lame(3.0, 0.2))
    lam, mu = lame(3.0, 0.2)
    assert np.allclose(PlaneMaterial(3.0, 0.2, "stress").lame, (2 * lam * mu / (lam + 2 * mu), mu))
    varying = PlaneMaterial(np.array([1.0, 2.0]), 0.2, Plane.STRESS).lame
    assert np.allclose(varying[0][1], 2 * varying[0][0])
    pressure = -np.eye(3)[None]
    assert von_mises(pressure).item() == pytest.approx(0.0)


def test_stress_of_varying_material():
    mesh = box((2, 1))
    u, young = 0.01 * mesh.points, np.arange(1.0, 5.0)
    one = PlaneMaterial(1.0, 0.3).stresses(mesh, u)
    assert np.allclose(PlaneMaterial(young, 0.3).stresses(mesh, u), young[:, None, None] * one)


def test_errors():
    with pytest.raises(ShapeMismatch, match=r"one vector per point, \(4, 2\), got \(4,\)"):
        strains(box((1, 1)), np.zeros(4))
    with pytest.raises(ValueError, match=r"0 < poisson < 0\.5, got 1\.0 and 0\.5"):
        PlaneMaterial(1.0, 0.5)
    with pytest.raises(ValueError, match="young > 0"):
        PlaneMaterial(np.array([1.0, -1.0]))
