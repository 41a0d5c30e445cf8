"""scikit-fem and plain arrays: there and back, with tags; areas and facets as scikit-fem sees them."""

import io

import numpy as np
import pytest
import skfem
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_specimens import (
    HEXAHEDRON,
    MIXED,
    ONE_TYPE,
    SIMPLICIAL,
    TETRA,
    TRIANGLE,
    assert_same,
    in_space,
    tagged,
)
from skfem.models.poisson import mass

from solvus.meshes import (
    BadTag,
    Mesh,
    UnsupportedCells,
    box,
    from_arrays,
    from_skfem,
    l_shape,
    refine,
    to_arrays,
    to_skfem,
)

ELEMENTS = {
    "line": skfem.ElementLineP1,
    "triangle": skfem.ElementTriP1,
    "quad": skfem.ElementQuad1,
    "tetra": skfem.ElementTetP1,
    "hexahedron": skfem.ElementHex1,
}


def with_facet_tags(mesh):
    cells, inner = np.arange(0, mesh.n_cells, 2), np.arange(1, len(mesh.facets), 3)
    tags = {"half": (mesh.dim, cells), "inner": (mesh.dim - 1, inner), "nothing": (mesh.dim - 1, [])}
    return mesh.with_tags(tags)


@pytest.mark.parametrize("mesh", ONE_TYPE.values(), ids=ONE_TYPE)
def test_scikit_fem_round_trip(mesh):
    mesh = with_facet_tags(mesh)
    assert_same(from_skfem(to_skfem(mesh)), mesh, ordered=False)


@pytest.mark.parametrize("name", ONE_TYPE)
def test_scikit_fem_sees_the_same_cells(name):
    mesh = with_facet_tags(ONE_TYPE[name])
    theirs = to_skfem(mesh)
    basis = skfem.Basis(theirs, ELEMENTS[name]())
    np.testing.assert_allclose(mass.assemble(basis).sum(), mesh.volumes.sum())
    np.testing.assert_allclose(np.asarray(basis.dx).sum(axis=1), mesh.volumes)
    midpoints = theirs.p[:, np.atleast_2d(theirs.facets)[:, theirs.boundaries["inner"]]].mean(axis=1).T
    ours = mesh.points[mesh.tagged("inner")].mean(axis=1)
    np.testing.assert_allclose(sorted(midpoints.tolist()), sorted(ours.tolist()), atol=1e-15)
    assert theirs.subdomains["half"].tolist() == list(range(0, mesh.n_cells, 2))


def test_a_mesh_of_scikit_fem_is_taken_over():
    theirs = skfem.MeshTri().refined(2).with_defaults()
    mesh = from_skfem(theirs)
    np.testing.assert_allclose(mesh.volumes.sum(), 1.0)
    assert sorted(mesh.tags) == ["bottom", "left", "right", "top"]
    assert (mesh.points[mesh.tagged_points("left"), 0] == 0).all()
    same = theirs.with_subdomains({"left": np.array([0, 1])})
    assert from_skfem(same).tags["left_cells"][0] == 2


def test_tags_of_scikit_fem_survive_our_refinement():
    theirs = to_skfem(refine(l_shape(1), 2))
    length = skfem.FacetBasis(theirs, skfem.ElementTriP1(), facets="reentrant").dx.sum()
    np.testing.assert_allclose(length, 2.0)


@pytest.mark.parametrize("mesh", {**SIMPLICIAL, "hexahedron": HEXAHEDRON}.values())
def test_array_round_trip(mesh):
    mesh = tagged(mesh, overlap=True)
    file = io.BytesIO()
    np.savez(file, **to_arrays(mesh))
    file.seek(0)
    assert_same(from_arrays(np.load(file, allow_pickle=False)), mesh)


@given(shape=st.lists(st.integers(1, 3), min_size=1, max_size=3), data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_tags_survive_arrays_and_scikit_fem(shape, data):
    mesh = box(shape)
    tags = {}
    for name in data.draw(st.lists(st.text("abc é/\"'", min_size=1), unique=True, max_size=4)):
        dim = data.draw(st.integers(mesh.dim - 1, mesh.dim))
        tags[name] = (dim, data.draw(st.lists(st.integers(0, mesh.n_entities(dim) - 1), max_size=6)))
    mesh = Mesh(mesh.points, mesh.cells, tags=tags)
    assert_same(from_arrays(to_arrays(mesh)), mesh)
    assert_same(from_skfem(to_skfem(mesh)), mesh, ordered=False)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: to_skfem(MIXED), UnsupportedCells, "scikit-fem takes one cell type"),
        (lambda: to_arrays(MIXED), UnsupportedCells, "split the quads"),
        (lambda: to_skfem(in_space(TRIANGLE)), UnsupportedCells, "the points have 3"),
        (lambda: to_skfem(tagged(TETRA)), BadTag, r"cells and facets only, not \['edge', 'corner'\]"),
        (lambda: from_skfem(skfem.MeshTri2.init_circle(1)), UnsupportedCells, "convert it to straight"),
        (
            lambda: from_arrays({**to_arrays(box((2, 2))), "tag_0": np.array([[0, 8]])}),
            BadTag,
            "tag 'xmin' holds 1 parts of dimension 1 of no cell",
        ),
    ],
)
def test_refusals(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()
