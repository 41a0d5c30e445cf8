"""Meshes to dolfinx and back, run in a subprocess by an interpreter that has dolfinx."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mesh_specimens import HEXAHEDRON, QUAD, TETRA, TRIANGLE, assert_same

from solvus.meshes import Mesh, box, fenics, from_arrays, to_arrays, to_dolfinx
from solvus.solvers.fem import find_interpreter
from solvus.solvers.fem.discovery import clean_environment

pytestmark = pytest.mark.fenics

MESHES = {"line": box((5,)), "triangle": TRIANGLE, "tetra": TETRA, "quad": QUAD, "hexahedron": HEXAHEDRON}

# What the other interpreter does with the single file fenics.py; it has neither this package nor torch.
ROUND_TRIP = """
import importlib.util, json, sys
import numpy as np
spec = importlib.util.spec_from_file_location("fenics_meshes", sys.argv[1])
fenics = importlib.util.module_from_spec(spec)
sys.modules["fenics_meshes"] = fenics
spec.loader.exec_module(fenics)
from mpi4py import MPI
arrays = dict(np.load(sys.argv[2], allow_pickle=False))
built = fenics.build(arrays)
geometry, topology = built.mesh.geometry, built.mesh.topology
tdim, space = topology.dim, arrays["points"].shape[1]
owned = topology.index_map(tdim).size_local
report = {"rank": MPI.COMM_WORLD.rank, "torch": "torch" in sys.modules}
report["points_fit"] = bool(np.array_equal(geometry.x[:, :space], arrays["points"][built.point_order]))
mine = np.sort(fenics._entity_points(built.mesh, tdim), axis=1)
report["cells_fit"] = bool(np.array_equal(mine, np.sort(arrays["cells"][built.cell_order], axis=1)))
report["owned_cells"] = np.asarray(built.cell_order)[:owned].tolist()
report["tags"] = {}
for name, (dim, ids) in built.tags.items():
    topology.create_connectivity(dim, tdim)
    rows = fenics._entity_points(built.mesh, dim)[ids]
    report["tags"][name] = [dim, np.sort(rows, axis=1).tolist()]
if MPI.COMM_WORLD.size == 1:
    np.savez(sys.argv[3], **fenics.extract(built.mesh, built.tags))
    np.savez(sys.argv[4], **fenics.extract(built.mesh, built.tags, original_order=False))
    tags, values = fenics.mesh_tags(built, tdim)
    report["meshtags"] = {name: len(tags.find(value)) for name, value in values.items()}
    import dolfinx, ufl
    if len(arrays["cells"]) < 10:
        one = dolfinx.fem.form(dolfinx.fem.Constant(built.mesh, 1.0) * ufl.dx)
        report["volume"] = float(np.real(dolfinx.fem.assemble_scalar(one)))
    try:
        fenics.mesh_tags(built, tdim - 1)
    except ValueError as error:
        report["overlap"] = str(error)
else:
    try:
        fenics.extract(built.mesh)
    except ValueError as error:
        report["spread"] = str(error)
open(sys.argv[5] + str(report["rank"]), "w").write(json.dumps(report))
"""


def tag_all(mesh):
    facets = np.arange(0, len(mesh.facets), 3)
    tags = {
        "half": (mesh.dim, np.arange(0, mesh.n_cells, 2)),
        "some": (mesh.dim - 1, facets),
        "more": (mesh.dim - 1, facets[:1]),
        "nothing": (mesh.dim - 1, []),
        "ends": (0, [0, mesh.n_points - 1]),
    }
    if mesh.dim == 3:
        tags["edges"] = (1, [0, 4])
    return Mesh(mesh.points, mesh.cells, tags=tags)


def run(mesh, folder, processes=1):
    np.savez(folder / "in.npz", **to_arrays(mesh))
    python = find_interpreter().interpreter
    command = [python, "-I", "-c", ROUND_TRIP, fenics.__file__]
    command += [str(folder / name) for name in ("in.npz", "original.npz", "own.npz", "report")]
    if processes > 1:
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        command = ["mpiexec", *root, "--oversubscribe", "-n", str(processes), *command]
    environment = clean_environment(python)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"report{rank}").read_text()) for rank in range(processes)]


def parts(mesh, name):
    return sorted(np.sort(mesh.tagged(name), axis=1).tolist())


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_round_trip_through_dolfinx(mesh, tmp_path):
    mesh = tag_all(mesh)
    (report,) = run(mesh, tmp_path)
    assert report["points_fit"]
    assert report["cells_fit"]
    assert not report["torch"]
    assert {name: sorted(rows) for name, (_, rows) in report["tags"].items()} == {
        name: parts(mesh, name) for name in mesh.tags
    }
    assert report["meshtags"] == {"half": len(mesh.tags["half"][1])}
    assert "overlap, and MeshTags hold one value per part" in report["overlap"]
    if "volume" in report:
        np.testing.assert_allclose(report["volume"], mesh.volumes.sum())
    assert_same(from_arrays(np.load(tmp_path / "original.npz")), mesh, ordered=False)
    own = from_arrays(np.load(tmp_path / "own.npz"))
    np.testing.assert_allclose(own.volumes.sum(), mesh.volumes.sum())
    for name in mesh.tags:
        ours = mesh.points[mesh.tagged_points(name)]
        theirs = own.points[own.tagged_points(name)]
        assert sorted(theirs.tolist()) == sorted(ours.tolist())


@pytest.mark.parametrize("name", ["triangle", "tetra"])
def test_two_processes_share_the_mesh(name, tmp_path):
    if shutil.which("mpiexec") is None:
        pytest.skip("no mpiexec on the path")
    mesh = tag_all(MESHES[name])
    reports = run(mesh, tmp_path, processes=2)
    owned = sorted(cell for report in reports for cell in report["owned_cells"])
    assert owned == list(range(mesh.n_cells))
    for report in reports:
        assert report["points_fit"]
        assert report["cells_fit"]
        assert "spread over 2 processes" in report["spread"]
    for name in mesh.tags:
        found = {tuple(row) for report in reports for row in report["tags"][name][1]}
        assert sorted(map(list, found)) == parts(mesh, name)


IN_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import meshes
mesh = meshes.box((2, 3, 1)).with_tags({"half": (3, [0, 5, 7])})
built = meshes.to_dolfinx(mesh)
for back in (meshes.from_dolfinx(built), meshes.from_dolfinx(built.mesh, built.tags)):
    assert np.array_equal(back.points, mesh.points)
    assert np.array_equal(np.sort(back.simplices), np.sort(mesh.simplices))
    assert all(np.array_equal(back.tags[name][1], ids) for name, (_, ids) in mesh.tags.items())
own = meshes.from_dolfinx(built, original_order=False)
assert np.array_equal(own.points, built.mesh.geometry.x)
assert np.allclose(own.quality, mesh.quality[built.cell_order])
assert "torch" not in sys.modules
"""


def test_conversion_in_process(root):
    python = find_interpreter().interpreter
    done = subprocess.run(
        [python, "-I", "-c", IN_PROCESS, str(root)],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment(python),
    )
    assert done.returncode == 0, done.stderr


def test_without_dolfinx_the_import_fails_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match="mpi4py"):
        to_dolfinx(TRIANGLE)


def test_the_file_stands_alone():
    text = Path(fenics.__file__).read_text()
    assert "from ." not in text
    assert "import torch" not in text
