"""Tags of formats that cannot hold them: JSON next to the mesh file, tied to it by a digest of the cells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from .errors import MeshReadError
from .mesh import Mesh, Tags

FORMAT = "solvus-mesh-tags"
VERSION = 1


@final
@dataclass(frozen=True)
class SideCar:
    """What the side-car file says: number of coordinates, tags, and the digest of the mesh that it is for."""

    space_dim: int
    digest: str
    tags: Tags = field(default_factory=dict)


def sidecar_path(path: Path) -> Path:
    """Return the side-car's name, "plate.vtu.tags.json" for "plate.vtu"."""
    return path.with_name(path.name + ".tags.json")


def cells_digest(mesh: Mesh) -> str:
    """Return a digest of the number of points and of the cells, the same on every machine."""
    digest = hashlib.sha256(str(mesh.n_points).encode())
    for name, rows in mesh.cells.items():
        digest.update(f"{name}{len(rows)}".encode())
        digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return digest.hexdigest()


def write_sidecar(path: Path, mesh: Mesh) -> None:
    """Write the side-car of the mesh file `path`."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "space_dim": mesh.space_dim,
        "digest": cells_digest(mesh),
        "tags": {name: {"dim": dim, "indices": ids.tolist()} for name, (dim, ids) in mesh.tags.items()},
    }
    sidecar_path(path).write_text(json.dumps(content), encoding="utf-8")


def read_sidecar(path: Path) -> SideCar | None:
    """Read the side-car of the mesh file `path`, None when it has none.

    Raises:
        MeshReadError: when the side-car is damaged.
    """
    place = sidecar_path(path)
    if not place.exists():
        return None
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] > VERSION:
            raise ValueError(f"format {content['format']!r}, version {content['version']}")
        tags = {
            name: (int(tag["dim"]), np.array(tag["indices"], dtype=np.int64))
            for name, tag in content["tags"].items()
        }
        return SideCar(int(content["space_dim"]), str(content["digest"]), tags)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MeshReadError(
            f"{place.name}, which holds the tags of {path.name}, is damaged ({error}): "
            "restore it, or delete it to read the mesh without tags"
        ) from error
