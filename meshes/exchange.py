"""Between `Mesh` and meshio's mesh, with tags in the two ways that foreign files hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .check import drop_unused, orient
from .errors import BadTag, UnsupportedCells
from .formats import Format
from .mesh import Mesh
from .topology import CELL_DIM, find_rows

if TYPE_CHECKING:
    import meshio

Ints = NDArray[np.int64]
_DIM = {"vertex": 0, **CELL_DIM}
# Labels of cells without a name: meshio's key, and how the tags made from it are called.
_LABELS = {"gmsh:physical": "physical", "medit:ref": "ref"}
_NOT_DATA = {*_LABELS, "gmsh:geometrical", "cell_tags", "point_tags", "netgen:index", "gmsh:dim_tags"}
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]{1,60}")


def to_meshio(mesh: Mesh, item: Format, tags: bool) -> meshio.Mesh:
    """Turn a mesh into meshio's, for the format `item`, with its tags and the tagged parts if `tags`."""
    import meshio

    width = max(item.coordinates - mesh.space_dim, 0)
    points = np.pad(mesh.points, ((0, 0), (0, width)))
    blocks: list[tuple[str, Ints]] = list(mesh.cells.items())
    starts = np.cumsum([len(rows) for rows in mesh.cells.values()])[:-1]
    cell_data = {name: np.split(values, starts) for name, values in mesh.cell_data.items()}
    kept: dict[int, Ints] = {}
    for dim in range(mesh.dim if tags else 0):
        marked = [ids for tag_dim, ids in mesh.tags.values() if tag_dim == dim and len(ids)]
        if not marked or (dim == 0 and item.module == "med"):
            continue
        kept[dim] = np.unique(np.concatenate(marked))
        rows = mesh.entities(dim)[kept[dim]]
        blocks.append(({1: "vertex", 2: "line", 3: "triangle", 4: "quad"}[rows.shape[1]], rows))
        for name, values in mesh.cell_data.items():  # the tagged parts carry no data of their own
            cell_data[name].append(np.zeros((len(rows), *values.shape[1:]), dtype=values.dtype))
    typed: Any = blocks
    data: Any = cell_data
    out = meshio.Mesh(points, typed, dict(mesh.point_data), data)
    if item.module == "gmsh":
        _add_groups(out, mesh if tags else replace(mesh, tags={}), kept)
    elif item.module == "med" and tags:
        _add_families(out, mesh, kept)
    return out


def fits_groups(mesh: Mesh) -> bool:
    """Tell whether Gmsh's physical groups can hold the tags: plain names, no part in two tags."""
    for dim in range(mesh.dim + 1):
        ids = [ids for tag_dim, ids in mesh.tags.values() if tag_dim == dim]
        if ids and len(np.unique(np.concatenate(ids))) < sum(map(len, ids)):
            return False
    return all(_PLAIN.fullmatch(name) for name in mesh.tags)


def fits_families(mesh: Mesh) -> bool:
    """Tell whether the families of MED can hold the tags: plain names, no empty tag."""
    return all(_PLAIN.fullmatch(name) and len(ids) for name, (_, ids) in mesh.tags.items())


def _block_ids(out: meshio.Mesh, mesh: Mesh, kept: dict[int, Ints]) -> Iterator[tuple[int, Ints]]:
    """Yield for every block its dimension and the numbers of its cells or parts."""
    start = 0
    for block in out.cells:
        dim = _DIM[block.type]
        if dim == mesh.dim:
            yield dim, np.arange(start, start + len(block.data))
            start += len(block.data)
        else:
            yield dim, kept[dim]


def _add_groups(out: meshio.Mesh, mesh: Mesh, kept: dict[int, Ints]) -> None:
    numbers = {name: i for i, name in enumerate(mesh.tags, start=1)}
    labels = []
    for dim, ids in _block_ids(out, mesh, kept):
        label = np.zeros(len(ids), dtype=np.int64)
        for name, (tag_dim, indices) in mesh.tags.items():
            if tag_dim == dim:
                label[np.isin(ids, indices)] = numbers[name]
        labels.append(label)
    out.cell_data["gmsh:physical"] = labels
    out.cell_data["gmsh:geometrical"] = [np.maximum(label, 1) for label in labels]
    out.field_data = {name: np.array([numbers[name], dim]) for name, (dim, _) in mesh.tags.items()}


def _add_families(out: Any, mesh: Mesh, kept: dict[int, Ints]) -> None:
    labels, cell_tags = [], {}
    for dim, ids in _block_ids(out, mesh, kept):
        label, named = _families(mesh, dim, ids)
        labels.append(-label - len(cell_tags) * (label > 0))  # MED numbers the families of cells downwards
        cell_tags |= {-n - len(cell_tags): names for n, names in named.items()}
    out.cell_data["cell_tags"] = labels
    out.cell_tags = cell_tags
    out.point_data["point_tags"], out.point_tags = _families(mesh, 0, np.arange(mesh.n_points))


def _families(mesh: Mesh, dim: int, ids: Ints) -> tuple[Ints, dict[int, list[str]]]:
    """Number the combinations of tags among the parts `ids` from 1 (0 is none), with the names of each."""
    names = [name for name, (tag_dim, _) in mesh.tags.items() if tag_dim == dim]
    label, named = np.zeros(len(ids), dtype=np.int64), {}
    if not names:
        return label, named
    member = np.stack([np.isin(ids, mesh.tags[name][1]) for name in names], axis=1)
    groups, family = np.unique(member, axis=0, return_inverse=True)
    filled = groups.any(axis=1)
    number = np.where(filled, np.cumsum(filled), 0)
    for n, group in zip(number[filled], groups[filled], strict=True):
        named[int(n)] = [name for name, inside in zip(names, group, strict=True) if inside]
    return number[family.ravel()], named


def from_meshio(given: meshio.Mesh, data: bool = True) -> Mesh:
    """Turn meshio's mesh into ours; without its data unless `data`.

    The cells of the highest dimension become the cells, turned the right way round; those of lower dimension
    serve the tags only. Coordinates beyond the cells' dimension that are all zero, and points of no cell,
    are left out. Tags come from Gmsh's physical groups, the families of MED, the sets of Abaqus, and from
    labels of parts without a name as "ref_<dim>_<label>".

    Raises:
        UnsupportedCells: for cell types outside the supported ones.
        InvalidMesh: see `Mesh`.
        BadTag: when a tagged part belongs to no cell.
    """
    foreign = {block.type for block in given.cells} - set(_DIM)
    if foreign:
        raise UnsupportedCells(
            f"the file has {sorted(foreign)} cells, supported are {sorted(CELL_DIM)}: "
            "export linear cells of these types"
        )
    dim = max((_DIM[block.type] for block in given.cells if len(block.data)), default=0)
    if dim == 0:
        raise UnsupportedCells(
            "the file has no cells: export the mesh with its lines, triangles or tetrahedra"
        )
    order = [name for name in CELL_DIM if CELL_DIM[name] == dim]
    top = [i for name in order for i, block in enumerate(given.cells) if block.type == name]
    cells: dict[str, Ints] = {}
    for name in order:
        rows = [np.asarray(given.cells[i].data, np.int64) for i in top if given.cells[i].type == name]
        if rows:
            cells[name] = np.concatenate(rows)
    points = np.asarray(given.points, dtype=np.float64)
    while points.shape[1] > dim and not points[:, -1].any():
        points = points[:, :-1]
    points, cells, kept = drop_unused(points, cells)
    point_data, cell_data = {}, {}
    if data:
        point_data = {k: _native(v)[kept] for k, v in given.point_data.items() if k not in _NOT_DATA}
        of_top = {k: [_native(v[i]) for i in top] for k, v in given.cell_data.items() if k not in _NOT_DATA}
        cell_data = {k: np.concatenate(blocks) for k, blocks in of_top.items()}
    mesh = Mesh(points, orient(points, cells), point_data, cell_data)
    return mesh.with_tags(_collected(given, mesh, top, kept))


def _collected(given: meshio.Mesh, mesh: Mesh, top: list[int], kept: Ints) -> dict[str, tuple[int, Ints]]:
    """Return the tags of meshio's mesh in the numbers of ours."""
    start = dict(zip(top, np.cumsum([0, *(len(given.cells[i].data) for i in top)]).tolist(), strict=False))
    fresh = np.full(len(given.points), -1, dtype=np.int64)
    fresh[kept] = np.arange(len(kept))
    parts: dict[tuple[str, int], list[Ints]] = {}
    for name, i, members in _marks(given):
        dim = _DIM[given.cells[i].type]
        ids = (
            members + start[i]
            if i in start
            else _numbers(mesh, dim, fresh[given.cells[i].data[members]], name)
        )
        parts.setdefault((name, dim), []).append(ids)
    for name, members in _point_marks(given):
        parts.setdefault((name, 0), []).append(fresh[members][fresh[members] >= 0])
    for name, (_, dim) in given.field_data.items() if _grouped(given) else ():
        parts.setdefault((name, int(dim)), [])
    names = [name for name, _ in parts]
    return {
        name if names.count(name) == 1 else f"{name}_{dim}d": (
            dim,
            np.concatenate([np.zeros(0, np.int64), *ids]),
        )
        for (name, dim), ids in parts.items()
        if dim <= mesh.dim
    }


def _native(values: Any) -> NDArray[Any]:
    """Return an array in the byte order of this machine."""
    array = np.asarray(values)
    return array.astype(array.dtype.newbyteorder("="))


def _numbers(mesh: Mesh, dim: int, rows: Ints, name: str) -> Ints:
    found = find_rows(mesh.entities(dim), rows)
    if (found < 0).any():
        raise BadTag(
            f"tag {name!r} holds {(found < 0).sum()} parts of dimension {dim} that belong to no cell: "
            "export the cells around them, or leave the tag out"
        )
    return found


def _grouped(given: meshio.Mesh) -> bool:
    return "gmsh:physical" in given.cell_data or any(np.shape(v) == (2,) for v in given.field_data.values())


def _marks(given: meshio.Mesh) -> Iterator[tuple[str, int, Ints]]:
    """Yield name, block and numbers in the block of everything that a file marks among its cells."""
    families: dict[int, list[str]] = getattr(given, "cell_tags", {})
    for i, label in enumerate(given.cell_data.get("cell_tags", [])):
        for family, names in families.items():
            members = np.flatnonzero(label == family)
            yield from ((name, i, members) for name in names if len(members))
    for name, blocks in given.cell_sets.items():
        if not name.startswith("gmsh:"):
            for i, members in enumerate(blocks):
                ids = np.zeros(0, dtype=np.int64) if members is None else np.asarray(members, dtype=np.int64)
                if len(ids):
                    yield name, i, ids
    named = (
        {(int(n), int(dim)): name for name, (n, dim) in given.field_data.items()} if _grouped(given) else {}
    )
    for key, word in _LABELS.items():
        labels = given.cell_data.get(key, [])
        for i, label in enumerate(labels):
            dim = _DIM[given.cells[i].type]
            for number in np.unique(label):
                name = named.get((int(number), dim))
                if name is None and (number == 0 or _says_nothing(given, labels, dim)):
                    continue
                yield name or f"{word}_{dim}_{number}", i, np.flatnonzero(label == number)


def _says_nothing(given: meshio.Mesh, labels: Iterable[Any], dim: int) -> bool:
    """Tell whether all parts of a dimension carry one label."""
    found = [np.unique(label) for i, label in enumerate(labels) if _DIM[given.cells[i].type] == dim]
    return len(np.unique(np.concatenate(found))) <= 1 and dim == max(
        _DIM[block.type] for block in given.cells
    )


def _point_marks(given: meshio.Mesh) -> Iterator[tuple[str, Ints]]:
    families: dict[int, list[str]] = getattr(given, "point_tags", {})
    label = np.asarray(given.point_data.get("point_tags", []))
    for family, names in families.items():
        for name in names:
            yield name, np.flatnonzero(label == family)
    for name, members in given.point_sets.items():
        yield name, np.asarray(members, dtype=np.int64)
