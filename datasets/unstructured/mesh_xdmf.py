"""XDMF side-cars: ParaView shows the samples of an HDF5 file of mesh data through them, without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np

from .mesh_data import MeshFile

_TOPOLOGY = {"triangle": "Triangle", "tetra": "Tetrahedron"}
_CENTER = {"point": "Node", "cell": "Cell"}
_KIND = {0: "Scalar", 1: "Vector", 2: "Tensor"}


def write_xdmf(
    path: str | Path, samples: Sequence[int] | None = None, *, target: str | Path | None = None
) -> Path:
    """Write an XDMF file that refers to the arrays of a file of mesh data.

    ParaView opens it (tested: the XDMF reader of VTK 9.7); several samples stand at the times 0, 1, ... .
    Both files stay in one folder. meshio reads it when the file holds one sample: it knows no parts of
    arrays. Tensors in the plane are left out, XDMF has none.

    Args:
        path: of the HDF5 file.
        samples: which, by their place among those that did not fail; None: all.
        target: default `path` with the suffix .xdmf; in the same folder.

    Raises:
        FileNotFoundError, NoMeshData: as `MeshFile`.
        IndexError: no such sample.
        ValueError: the target lies in another folder.
    """
    path = Path(path)
    out = path.with_suffix(".xdmf") if target is None else Path(target)
    if out.resolve().parent != path.resolve().parent:
        raise ValueError(f"{out} must lie in the folder of {path.name}, to which it refers")
    with MeshFile(path) as source, h5py.File(path, "r") as file:
        chosen = range(len(source)) if samples is None else samples
        root = ElementTree.Element("Xdmf", Version="3.0")
        parent = ElementTree.SubElement(root, "Domain")
        if len(chosen) != 1:
            times = {"GridType": "Collection", "CollectionType": "Temporal"}
            parent = ElementTree.SubElement(parent, "Grid", {"Name": source.layout.name, **times})
        for time, sample in enumerate(chosen):
            grid = _grid(parent, file, source, sample)
            if len(chosen) != 1:
                ElementTree.SubElement(grid, "Time", Value=str(time))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    return out


def _grid(parent: ElementTree.Element, file: h5py.File, source: MeshFile, sample: int) -> ElementTree.Element:
    layout, rows = source.layout, source.rows(sample)
    points, cells = rows["points"], rows["cells"]
    grid = ElementTree.SubElement(parent, "Grid", Name=f"sample {source.ids[sample]}", GridType="Uniform")
    kind = "XY" if layout.dim == 2 else "XYZ"
    _item(ElementTree.SubElement(grid, "Geometry", GeometryType=kind), file["mesh/points"], points)
    topology = {
        "TopologyType": _TOPOLOGY[layout.cell_type],
        "NumberOfElements": str(cells.stop - cells.start),
    }
    _item(ElementTree.SubElement(grid, "Topology", topology), file[f"mesh/cells/{layout.cell_type}"], cells)
    for place, part, variables in (
        ("point", points, layout.point_fields),
        ("cell", cells, layout.cell_fields),
    ):
        for variable in variables:
            if layout.dim == 2 and variable.rank == 2:
                continue
            attribute = {
                "Name": variable.name,
                "AttributeType": _KIND[variable.rank],
                "Center": _CENTER[place],
            }
            _item(
                ElementTree.SubElement(grid, "Attribute", attribute),
                file[f"{place}_fields/{variable.name}"],
                part,
            )
    return grid


def _item(parent: ElementTree.Element, dataset: h5py.Dataset, rows: slice) -> None:
    """Refer to rows of a dataset, or to the whole."""
    shape = (rows.stop - rows.start, *dataset.shape[1:])
    if shape != dataset.shape:
        numbers = np.array([[rows.start, *(0,) * (dataset.ndim - 1)], [1] * dataset.ndim, shape])
        parent = ElementTree.SubElement(parent, "DataItem", ItemType="HyperSlab", Dimensions=_words(shape))
        selection = ElementTree.SubElement(parent, "DataItem", Dimensions=_words(numbers.shape), Format="XML")
        selection.text = "  ".join(_words(row) for row in numbers)
    number = "Float" if dataset.dtype.kind == "f" else "Int"
    about = {"NumberType": number, "Precision": str(dataset.dtype.itemsize), "Format": "HDF"}
    item = ElementTree.SubElement(parent, "DataItem", {"Dimensions": _words(dataset.shape), **about})
    item.text = f"{Path(dataset.file.filename).name}:{dataset.name}"


def _words(numbers: Sequence[int] | np.ndarray) -> str:
    return " ".join(str(int(n)) for n in numbers)
