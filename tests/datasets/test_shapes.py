"""Recipes on random shapes: bits that do not depend on the batch, outside oracles, what is recorded."""

import hashlib
import pickle

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.recipe import describe, digest
from solvus.datasets.recipes import mesh_recipes
from solvus.datasets.recipes.darcy_on_shapes import DarcyOnShapes
from solvus.datasets.recipes.elasticity_on_shapes import ElasticityOnShapes
from solvus.datasets.recipes.shapes import darcy_shapes, elasticity_shapes
from solvus.datasets.unstructured.mesh_data import MeshFolder, check_mesh, mesh_from_arrays
from solvus.meshes.random_shapes import RandomShapes
from solvus.operators.linear.errors import NotSupported
from solvus.operators.pde.features import FourierFeatures
from solvus.solvers.fem import SolveFailed

RECIPES = {
    "darcy": darcy_shapes(10),
    "darcy-two-phase-zero-hole": darcy_shapes(10, coefficient="two-phase", hole="zero", holes=1.0),
    "elasticity": elasticity_shapes(10),
    "elasticity-body-force": elasticity_shapes(10, load="body force", plane="stress", contrast=8.0),
}
recipes = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())


def draws(recipe, count=4):
    return [recipe.draw(np.random.default_rng([3, i])) for i in range(count)]


def same(one, two):
    """Names of arrays that differ in a bit."""
    return [name for name in one | two if name not in one or one[name].tobytes() != two[name].tobytes()]


@recipes
def test_a_sample_does_not_depend_on_the_batch(recipe):
    drawn = draws(recipe)
    together = recipe.solve(drawn)
    for draw, one in zip(drawn, together, strict=True):
        (alone,) = recipe.solve([draw])
        assert same(alone.arrays, one.arrays) == []
        assert alone.residual == one.residual
    backwards = recipe.solve(drawn[::-1])[::-1]
    assert [same(a.arrays, b.arrays) for a, b in zip(together, backwards, strict=True)] == [[]] * 4
    assert same(together[0].arrays, together[1].arrays) != []  # the comparison can fail


@recipes
def test_what_a_sample_holds(recipe):
    for one in recipe.solve(draws(recipe)):
        assert one.failure == ""
        assert 0 <= one.residual <= 1e-12
        with h5py.File("x.hdf5", "w", driver="core", backing_store=False) as file:
            recipe.storage.allocate(file, 1)
            recipe.storage.put(file, 0, one.arrays)
            assert check_mesh(file) == []


def stiffness(mesh, a):
    """P1 stiffness matrix and load of 1, by the cotangent formula: an own assembly to compare with."""
    rows, n = mesh.simplices, mesh.n_points
    i, j, values = [], [], []
    for k in range(3):
        here, left, right = rows[:, k], rows[:, (k + 1) % 3], rows[:, (k + 2) % 3]
        u, v = mesh.points[left] - mesh.points[here], mesh.points[right] - mesh.points[here]
        half = a * (u * v).sum(axis=1) / (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2
        i += [left, right, left, right]
        j += [right, left, left, right]
        values += [-half, -half, half, half]
    A = sp.coo_array((np.concatenate(values), (np.concatenate(i), np.concatenate(j))), shape=(n, n)).tocsr()
    return A, np.bincount(rows.ravel(), np.repeat(mesh.volumes / 3, 3), minlength=n)


@pytest.mark.parametrize("name", ["darcy", "darcy-two-phase-zero-hole"])
def test_darcy_against_the_cotangent_formula(name):
    recipe = RECIPES[name]
    for one in recipe.solve(draws(recipe)):
        mesh = mesh_from_arrays(one.arrays, recipe.mesh_layout.tags)
        A, b = stiffness(mesh, one.arrays["coefficient"])
        held = mesh.tagged_points("outer")
        if "zero" in name:
            held = np.union1d(held, mesh.tagged_points("hole"))
        free = np.setdiff1d(np.arange(mesh.n_points), held)
        u = np.zeros(mesh.n_points)
        u[free] = spsolve(A[free][:, free].tocsc(), b[free])
        assert np.allclose(one.arrays["u"], u, atol=1e-12)
        assert u.max() > 0.01


@pytest.mark.parametrize("load", ["traction", "body force"])
@pytest.mark.parametrize("plane", ["strain", "stress"])
def test_elastic_bodies_are_in_balance(load, plane):
    """The work of the load is twice the strain energy, and the clamped part does not move (Clapeyron)."""
    recipe = elasticity_shapes(12, load=load, plane=plane, contrast=4.0)
    for one in recipe.solve(draws(recipe, 3)):
        mesh, u = mesh_from_arrays(one.arrays, recipe.mesh_layout.tags), one.arrays["displacement"]
        assert (u[mesh.tagged_points("clamped")] == 0).all()
        material = recipe.material(one.arrays)
        stress = material.stresses(mesh, u)[:, :2, :2]
        x, v = mesh.points[mesh.simplices], u[mesh.simplices]
        gradient = np.linalg.solve(x[:, 1:] - x[:, :1], v[:, 1:] - v[:, :1])
        energy = float((mesh.volumes[:, None, None] * stress * gradient).sum())
        force = one.arrays[recipe.force]
        if load == "traction":
            ends = mesh.tagged("loaded")
            length = np.hypot(*(mesh.points[ends[:, 1]] - mesh.points[ends[:, 0]]).T)
            work = (length[:, None] * (u[ends] * force[ends]).mean(axis=1)).sum()
            assert (
                np.unique(np.flatnonzero(force.any(axis=1))).tolist() == mesh.tagged_points("loaded").tolist()
            )
        else:
            work = (mesh.volumes[:, None] * (u * force)[mesh.simplices].mean(axis=1)).sum()
        assert energy == pytest.approx(work, rel=1e-9)
        assert not np.intersect1d(mesh.tags["clamped"][1], mesh.tags["loaded"][1]).size
        assert energy > 0
        assert (one.arrays["von_mises"] > 0).all()


@pytest.mark.fenics
@recipes
def test_both_backends_agree(recipe):
    other = type(recipe)(**{**vars(recipe), "backend": "fenics"})
    for ours, theirs in zip(recipe.solve(draws(recipe, 2)), other.solve(draws(recipe, 2)), strict=True):
        assert ours.arrays.keys() == theirs.arrays.keys()
        for name in ("u", "displacement", "von_mises"):
            if name in ours.arrays:
                a, b = ours.arrays[name], theirs.arrays[name]
                assert np.abs(a - b).max() < 1e-8 * np.abs(a).max()
        assert theirs.residual < 1e-10


@recipes
def test_the_same_problem_at_every_resolution(recipe):
    """Finer meshes of a sample have the same domain and the same data: solutions converge."""
    sizes = []
    for edge in (0.2, 0.1, 0.05):
        fine = type(recipe)(**{**vars(recipe), "shapes": RandomShapes(edge, holes=recipe.shapes.holes)})
        (one,) = fine.solve(draws(fine, 1))
        mesh = mesh_from_arrays(one.arrays, fine.mesh_layout.tags)
        values = one.arrays.get("u", one.arrays.get("displacement"))
        sizes.append(np.sqrt((mesh.volumes @ (values[mesh.simplices].mean(axis=1) ** 2)).sum()))
    assert abs(sizes[2] / sizes[1] - 1) < 0.12
    assert abs(sizes[2] - sizes[1]) < abs(sizes[1] - sizes[0]) + 0.02 * sizes[2]


def test_coefficients():
    log_normal, two_phase = (
        darcy_shapes(24, coefficient=c, contrast=16.0) for c in ("log-normal", "two-phase")
    )
    a = np.concatenate([log_normal.draw(np.random.default_rng(i))["coefficient"] for i in range(30)])
    assert np.log(a).mean() == pytest.approx(0.0, abs=0.15)
    assert np.log(a).std() == pytest.approx(np.log(16.0) / 4, rel=0.15)
    assert set(np.unique(two_phase.draw(np.random.default_rng(0))["coefficient"])) == {1.0, 16.0}


def test_youngs_modulus():
    assert (elasticity_shapes(8).draw(np.random.default_rng(0))["young"] == 1).all()
    varying = elasticity_shapes(16, contrast=16.0)
    young = np.concatenate([varying.draw(np.random.default_rng(i))["young"] for i in range(30)])
    assert np.log(young).mean() == pytest.approx(0.0, abs=0.15)
    assert np.log(young).std() == pytest.approx(np.log(16.0) / 4, rel=0.15)


def test_covariance_of_random_features():
    x = np.array([[0.0, 0.0], [0.3, 0.0], [0.0, 0.6]])
    g = np.array([FourierFeatures(0.4, 32).draw(np.random.default_rng(i), 2)(x) for i in range(4000)])
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    assert np.allclose(g.T @ g / len(g), np.exp(-(distance**2) / (2 * 0.4**2)), atol=0.06)
    assert np.abs(g.mean(axis=0)).max() < 0.06


@pytest.mark.parametrize("make", [darcy_shapes, elasticity_shapes])
def test_generated_folders(make, tmp_path):
    recipe = make(8)
    manifests = [
        generate(recipe, 6, tmp_path / str(batch), workers=1, options=Options(batch=batch, shard=2))
        for batch in (1, 4)
    ]
    sums = [[shard.sha256 for shard in manifest.shards] for manifest in manifests]
    assert sums[0] == sums[1]
    assert manifests[0].kind == "mesh"
    assert manifests[0].max_residual < 1e-12
    with MeshFolder(tmp_path / "1") as source:
        assert source.ids.tolist() == list(range(6))
        assert source.layout.parameters == recipe.mesh_layout.parameters
        third = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(2,)))
        assert same({"p": source[2].mesh.points}, {"p": recipe.draw(third)["points"]}) == []
    for shard in manifests[0].shards:
        path = manifests[0].path(shard)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard.sha256
        with h5py.File(path) as file:
            assert check_mesh(file) == []


def test_failures_are_told(monkeypatch):
    def fail(self, problem):
        raise SolveFailed("singular")

    recipe = darcy_shapes(8)
    strict = DarcyOnShapes("strict", recipe.shapes, max_residual=1e-30)
    (one,) = strict.solve(draws(strict, 1))
    assert one.arrays == {}
    assert "SuperLU ended with BREAKDOWN, residual" in one.failure
    monkeypatch.setattr(mesh_recipes.ScikitFem, "solve", fail)
    (one,) = recipe.solve(draws(recipe, 1))
    assert (one.arrays, one.failure) == ({}, "singular")


def test_without_scikit_fem(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotSupported, match="scikit-fem is not installed: `pip install solvus"):
        darcy_shapes(8)


@recipes
def test_recipes_are_plain_data(recipe):
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert digest(recipe) == digest(pickle.loads(pickle.dumps(recipe)))
    assert describe(recipe)["shapes"]["class"] == "RandomShapes"
    assert digest(recipe) != digest(type(recipe)(**{**vars(recipe), "name": "other"}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: darcy_shapes(3), "at least 6, got 3"),
        (lambda: darcy_shapes(contrast=0.5), "contrast .* got 0.5"),
        (lambda: darcy_shapes(length=-1.0), "length > 0"),
        (lambda: darcy_shapes(hole="open"), "open"),
        (lambda: darcy_shapes(outline="star"), "star"),
        (lambda: darcy_shapes(coefficient="uniform"), "uniform"),
        (lambda: darcy_shapes(backend="comsol"), "comsol"),
        (lambda: elasticity_shapes(poisson=0.5), "0 < poisson < 0.5"),
        (lambda: elasticity_shapes(contrast=0.1), "contrast >= 1"),
        (lambda: elasticity_shapes(load="wind"), "wind"),
        (lambda: elasticity_shapes(plane="bent"), "bent"),
        (lambda: ElasticityOnShapes("x", size=0.0), "size > 0"),
        (lambda: FourierFeatures(1.0, 0), "features >= 1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
