"""Pictures show what they say they show."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from matplotlib.colors import Normalize

from solvus.datasets.formats.arrays import ArraySource, cell_centres, from_arrays
from solvus.datasets.layout import Layout, Role, Variable
from solvus.datasets.mesh_pictures import mesh_picture
from solvus.datasets.pictures import picture, scale_of, spectrum
from solvus.datasets.unstructured.mesh_data import MeshFile
from solvus.datasets.unstructured.mesh_storage import MeshLayout, MeshStorage, mesh_arrays
from solvus.meshes import Boundary, box

RNG = np.random.default_rng(0)
AXES = ("x", "y", "z")
SIZES = (8, 6, 4)


def source(dim, *, steady, rank=0):
    layout = Layout(
        "made",
        AXES[:dim],
        tuple(cell_centres(n) for n in SIZES[:dim]),
        np.zeros(1) if steady else np.linspace(0, 1, 7),
        (
            Variable("a", role=Role.INPUT, meaning="given"),
            Variable("u", rank=rank, time_varying=not steady, meaning="sought"),
            Variable("edge", role=Role.INPUT, axes=(AXES[dim - 1],)),
            Variable("shared", role=Role.INPUT, sample_varying=False),
        ),
        parameters={"nu": 0.01},
    )
    arrays = {
        v.name: RNG.standard_normal((3,) * v.sample_varying + layout.shape(v.name)) for v in layout.variables
    }
    return ArraySource(layout, arrays)


def words(figure):
    texts = [t.get_text() for part in [figure, *figure.subfigs] for t in part.texts]
    for axes in figure.axes:
        texts += [axes.get_title(), axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
        texts += [t.get_text() for t in axes.texts]
    return " | ".join(texts)


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize(("dim", "rank"), [(1, 0), (2, 0), (3, 0), (2, 1), (2, 2), (1, 1), (3, 1)])
def test_every_form_is_drawn(dim, rank, steady, tmp_path):
    figure = picture(source(dim, steady=steady, rank=rank))
    if rank == dim - 1:  # laying out takes seconds
        figure.savefig(tmp_path / "a.png", dpi=30)
    said = words(figure)
    assert "made" in said
    assert "nu = 0.01" in said
    assert "sample 0" in said or dim == 1
    assert ("|u|" if rank else "u") in said
    assert steady == ("7 times, 0 to 1" not in said)
    if dim == 3:
        assert "plane z = 0.625" in said


def test_images_show_the_values_where_they_are():
    given = source(2, steady=True)
    figure = picture(given, (1,))
    image = next(a.images[0] for a in figure.axes if a.get_title() == "sample 1")
    values = given.read(1, 2)["a"][0]
    np.testing.assert_array_equal(np.asarray(image.get_array()), values.T)  # x to the right, y up
    assert image.origin == "lower"
    np.testing.assert_allclose(image.get_extent(), (0, 1, 0, 1))


def test_all_times_and_samples_of_a_field_have_one_range_of_colours():
    given = from_arrays({"u": RNG.standard_normal((2, 6, 5, 5))}, axes=("sample", "time", "x", "y"))
    norms = {(i.norm.vmin, i.norm.vmax) for a in picture(given, (0, 1)).axes for i in a.images}
    bound = np.abs(given.read(0, 2)["u"]).max()
    assert norms == {(-bound, bound)}


def test_times_of_a_trajectory_are_named():
    given = from_arrays(
        {"u": RNG.standard_normal((1, 9, 5, 5))},
        axes=("sample", "time", "x", "y"),
        coordinates={"time": np.arange(9) / 4},
    )
    said = words(picture(given, (0,)))
    for time in ("t = 0 ", "t = 0.5 ", "t = 1 ", "t = 1.5 ", "t = 2 "):
        assert time in said + " "


def test_samples_that_are_not_there_and_values_that_are_not_finite(tmp_path):
    u = RNG.standard_normal((2, 5, 5))
    u[0] = np.nan
    given = from_arrays({"u": u}, axes=("sample", "x", "y"))
    picture(given, (0,))
    picture(given, (0, 1)).savefig(tmp_path / "a.png", dpi=30)
    with pytest.raises(IndexError, match="there is no sample 2: arrays has 0 to 1"):
        picture(given, (0, 2))
    with pytest.raises(ValueError, match="no sample is named"):
        picture(given, ())


def test_many_fields_are_named_when_they_are_not_drawn():
    given = from_arrays({f"f{i}": np.ones((1, 4, 4)) for i in range(6)}, axes=("sample", "x", "y"))
    assert "not drawn: f4, f5" in words(picture(given, (0,)))


def test_scales():
    both, one, flat = scale_of([np.array([-1.0, 2])]), scale_of([np.array([1.0, 2])]), scale_of([np.zeros(3)])
    assert (both.low, both.high, both.colours) == (-2, 2, "RdBu_r")
    assert (one.low, one.high, one.colours) == (1, 2, "viridis")
    assert flat.low < 0 < flat.high
    assert isinstance(one.norm, Normalize)
    assert scale_of([np.array([np.nan])]).low < scale_of([np.array([np.nan])]).high


def test_spectra_find_the_waves_and_hold_the_variance():
    n = 32
    x = np.arange(n) / n
    layout = from_arrays(
        np.zeros((1, n, n)), axes=("sample", "x", "y"), boundary=[("periodic", "periodic")] * 2
    ).layout
    u = 1 + np.sin(2 * np.pi * 3 * x)[:, None] + 0.5 * np.cos(2 * np.pi * 5 * x)[None]
    power = spectrum(u, layout)
    assert power.argsort()[-2:].tolist() == [4, 2]
    assert power.sum() == pytest.approx(u.var())
    ramp = np.tile(x[:, None], n)
    open_ends = replace(layout, boundary=((Boundary.DIRICHLET,) * 2,) * 2)
    # the jump of a ramp fills the spectrum of a periodic field; the window takes it away
    assert spectrum(ramp, open_ends)[10] < 1e-3 * spectrum(ramp, layout)[10]


@pytest.fixture(params=[2, 3])
def meshes(request, tmp_path):
    mesh = box((3,) * request.param)
    tags = {name: dim for name, (dim, _) in mesh.tags.items()}
    fields = (Variable("u", meaning="sought"), Variable("v", rank=1)), (Variable("k"), Variable("g", rank=1))
    layout = MeshLayout("plate", *fields, tags, dim=request.param, parameters={"nu": 2.0})
    points, cells = len(mesh.points), len(mesh.simplices)
    with h5py.File(tmp_path / "m.hdf5", "w") as file:
        storage = MeshStorage(layout)
        storage.allocate(file, 2)
        for i in range(2):
            values = {
                "u": np.arange(points) + i,
                "v": mesh.points,
                "k": np.arange(cells),
                "g": np.zeros((cells, request.param)),
            }
            storage.put(file, i, {**mesh_arrays(mesh), **values})
    with MeshFile(tmp_path / "m.hdf5") as opened:
        yield opened


def test_meshes_are_drawn(meshes, tmp_path):
    figure = mesh_picture(meshes, (0, 1))
    figure.savefig(tmp_path / "a.png", dpi=30)
    said = words(figure)
    for text in ("plate", "sample 0", "sample 1", "mesh", "u\nsought", "|v|", "k", "nu = 2"):
        assert text in said
    with pytest.raises(IndexError, match="there is no sample 2: plate has 0 to 1"):
        mesh_picture(meshes, (2,))
