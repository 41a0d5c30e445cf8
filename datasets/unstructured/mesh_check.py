"""What is wrong with a file of mesh data."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from ...meshes.errors import InvalidMesh
from ...meshes.mesh import Mesh
from ...meshes.topology import find_rows
from ..generation.manifest import OK
from .mesh_storage import KIND, MeshLayout, read_layout

Found = tuple[str, str]


def check_mesh(file: h5py.File) -> list[Found]:
    """Return the faults of an open file of mesh data as pairs (where, what).

    Looks at every sample: offsets, numbers of points, cells that are flat or inverted, points of no cell,
    tags, NaN, lengths of fields, and whether samples that failed own nothing.
    """
    if file.attrs.get("kind") != KIND:
        return [("/", f"the attribute 'kind' is {file.attrs.get('kind')!r}, mesh data have {KIND!r}")]
    try:
        layout = read_layout(file)
        datasets = {
            "points": file["mesh/points"],
            "cells": file[f"mesh/cells/{layout.cell_type}"],
            **{f"tags/{name}": file[f"mesh/tags/{name}"] for name in layout.tags},
        }
        offsets = {
            "points": file["mesh/point_offsets"][()],
            "cells": file["mesh/cell_offsets"][()],
            **{f"tags/{name}": file[f"mesh/tag_offsets/{name}"][()] for name in layout.tags},
        }
        samples = int(file.attrs["n_trajectories"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = error.args[0] if error.args else error
        return [("/", f"a part of mesh data is missing or malformed: {reason}")]
    found = list(_offset_faults(datasets, offsets, samples))
    found += _length_faults(file, layout, datasets)
    if found:
        return found  # samples cannot be told apart
    return list(_sample_faults(file, layout, offsets, samples))


def _offset_faults(
    datasets: dict[str, h5py.Dataset], offsets: dict[str, NDArray[np.int64]], samples: int
) -> Iterator[Found]:
    for name, offset in offsets.items():
        where = f"offsets of mesh/{name}"
        if offset.shape != (samples + 1,):
            yield where, f"have the shape {offset.shape}, {samples} samples need {(samples + 1,)}"
        elif offset[0] != 0 or offset[-1] != len(datasets[name]):
            rows = len(datasets[name])
            yield (where, f"go from {offset[0]} to {offset[-1]}, needed is 0 to {rows}, the rows there are")
        elif (np.diff(offset) < 0).any():
            first = int((np.diff(offset) < 0).argmax())
            yield where, f"decrease after sample {first}: the file is damaged"


def _length_faults(file: h5py.File, layout: MeshLayout, datasets: dict[str, h5py.Dataset]) -> Iterator[Found]:
    widths: dict[str, tuple[int, ...]] = {"points": (layout.dim,), "cells": (layout.dim + 1,)}
    for name, dim in layout.tags.items():
        widths[f"tags/{name}"] = (dim + 1,) if 0 < dim < layout.dim else ()
    for name, dataset in datasets.items():
        if dataset.shape[1:] != widths[name]:
            yield f"mesh/{name}", f"rows have the shape {dataset.shape[1:]}, needed is {widths[name]}"
    for place, variables in (("point", layout.point_fields), ("cell", layout.cell_fields)):
        for variable in variables:
            dataset = file[f"{place}_fields/{variable.name}"]
            wanted = (len(datasets[f"{place}s"]), *layout.rows(variable.name))
            if dataset.shape != wanted:
                what = f"has the shape {dataset.shape}, the {place}s need {wanted}"
                yield dataset.name[1:], what
            if dataset.attrs.get("location") != place:
                yield dataset.name[1:], f"the attribute 'location' must be {place!r}"


def _sample_faults(
    file: h5py.File, layout: MeshLayout, offsets: dict[str, NDArray[np.int64]], samples: int
) -> Iterator[Found]:
    statuses = file["provenance/status"].asstr()[()] if "provenance/status" in file else [None] * samples
    if len(statuses) != samples:
        yield "provenance/status", f"has {len(statuses)} entries, there are {samples} samples"
        return
    for i, status in enumerate(statuses):
        where = f"sample {i}"
        rows = {name: slice(int(o[i]), int(o[i + 1])) for name, o in offsets.items()}
        empty = rows["cells"].start == rows["cells"].stop
        if status == OK and empty:
            yield where, "has the status 'ok' and no cells: generate its shard again"
        if status not in (OK, None) and not empty:
            yield where, f"has the status {status!r} and yet cells: generate its shard again"
        if empty:
            if any(r.start != r.stop for r in rows.values()):
                yield where, "has points or tags and no cells"
            continue
        try:
            mesh = Mesh(
                file["mesh/points"][rows["points"]],
                {layout.cell_type: file[f"mesh/cells/{layout.cell_type}"][rows["cells"]]},
            )
        except InvalidMesh as error:
            yield where, str(error)
            continue
        yield from _tag_faults(file, layout, mesh, rows, where)
        for place, variables in (("point", layout.point_fields), ("cell", layout.cell_fields)):
            for variable in variables:
                values = file[f"{place}_fields/{variable.name}"][rows[f"{place}s"]]
                bad = ~np.isfinite(values)
                if bad.any():
                    yield f"{where}, {variable.name}", f"{int(bad.sum())} values are NaN or infinite"


def _tag_faults(
    file: h5py.File, layout: MeshLayout, mesh: Mesh, rows: dict[str, slice], where: str
) -> Iterator[Found]:
    for name, dim in layout.tags.items():
        numbers = file[f"mesh/tags/{name}"][rows[f"tags/{name}"]]
        if 0 < dim < mesh.dim:
            wrong = find_rows(mesh.entities(dim), numbers) < 0
        else:
            wrong = (numbers < 0) | (numbers >= mesh.n_entities(dim))
        if wrong.any():
            yield f"{where}, tag {name}", f"{int(wrong.sum())} of its parts are not in the mesh"
