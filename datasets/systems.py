"""Linear systems in files: the `/systems` group of HDF5 files, and matrices with right-hand sides."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import scipy.sparse as sp
import torch
from torch import Tensor

from ..meshes.whole import whole_file
from ..operators.linear import CSR, SPD, SYMMETRIC, Constants, NullSpace, Span, sparse, to_scipy
from ..operators.linear.errors import MixedDtypes, NotSupported, ShapeMismatch
from ..solvers.system import LinearSystem

FORMAT = "solvus systems"
VERSION = 1
_HDF5 = (".h5", ".hdf5")


def write_systems(
    path: str | Path,
    systems: Mapping[str, LinearSystem],
    *,
    solutions: Mapping[str, Tensor] | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write linear systems to an HDF5 file, whole or not at all.

    Layout: `systems/<id>/{data, indices, indptr, b, x}` with the attributes `shape`, `encoding` ("csr"),
    `symmetric`, `spd` and, for singular matrices, `nullspace`. The file appears under its name only when
    it is complete.

    Args:
        path: of the file.
        systems: by id; any operator that `to_scipy` converts, single (not a batch of operators). b (..., n).
        solutions: known solutions x by id, in the shape of b.
        attributes: of the file: license, source, seed and the like.
        overwrite: replace an existing file.

    Raises:
        FileExistsError: the file is there and `overwrite` is False.
        ValueError: for an id that HDF5 cannot take, or solutions without a system.
        ShapeMismatch: when a solution does not fit b.
    """
    path, solutions = Path(path), dict(solutions or {})
    for name in systems:
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} cannot name a system: give a non-empty id without '/'")
    unknown = sorted(set(solutions) - set(systems))
    if unknown:
        raise ValueError(f"solutions for {', '.join(unknown)}, which are not among the systems: drop them")
    with whole_file(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION, **(attributes or {})})
        file.attrs["created_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
        group = file.create_group("systems", track_order=True)
        for name, system in systems.items():
            _write(group.create_group(name), system, solutions.get(name))
    return path


def _write(group: h5py.Group, system: LinearSystem, solution: Tensor | None) -> None:
    matrix = sp.csr_array(to_scipy(system.A))
    b = system.b.detach().cpu().numpy()
    for name in ("data", "indices", "indptr"):
        group.create_dataset(name, data=getattr(matrix, name))
    group.create_dataset("b", data=b)
    if solution is not None:
        x = torch.as_tensor(solution).detach().cpu().numpy()
        if x.shape != b.shape:
            raise ShapeMismatch(f"the solution of {group.name} has shape {x.shape}, its b has {b.shape}")
        group.create_dataset("x", data=x)
    group.attrs["shape"] = np.array(matrix.shape, dtype=np.int64)
    group.attrs["encoding"] = "csr"
    group.attrs["symmetric"] = system.A.symmetric
    group.attrs["spd"] = system.A.positive_definite
    nullspace = system.A.nullspace
    if isinstance(nullspace, Constants):
        group.attrs["nullspace"] = "constants"
        if nullspace.labels is not None:
            group.create_dataset("nullspace", data=nullspace.labels.cpu().numpy())
    elif isinstance(nullspace, Span):
        group.attrs["nullspace"] = "span"
        group.create_dataset("nullspace", data=nullspace.basis.mT.cpu().numpy())
    elif nullspace is not None:
        raise NotSupported(
            f"{type(nullspace).__name__} cannot be written: give the null space as Constants or as a Span"
        )


def list_systems(path: str | Path) -> tuple[str, ...]:
    """Return the ids of the systems in a file, in the order in which they were written."""
    with _open(path) as file:
        return tuple(file["systems"])


def read_system(path: str | Path, name: str | None = None) -> LinearSystem:
    """Read a linear system.

    Args:
        path: of an HDF5 file with a `/systems` group.
        name: its id; None where the file holds one system only.

    Raises:
        FileNotFoundError, ValueError: no such file, not such a file, no such id, or an incomplete system.
        ShapeMismatch, NonFinite: when its arrays do not fit, or hold NaN.
    """
    with _open(path) as file:
        group = _find(file, name)
        where = f"{Path(path).name}, system {_id(group)}"
        missing = [key for key in ("data", "indices", "indptr", "b") if key not in group]
        if missing:
            raise ValueError(f"{where}: no {', '.join(missing)}; the file was not written completely")
        encoding, shape = group.attrs.get("encoding"), np.asarray(group.attrs.get("shape", ()))
        if encoding != "csr" or shape.shape != (2,):
            raise ValueError(
                f"{where}: encoding {encoding!r} and shape {shape.tolist()}, needed are 'csr' and (m, n)"
            )
        data, indices, indptr, b = (np.asarray(group[key]) for key in ("data", "indices", "indptr", "b"))
        tags = SPD if group.attrs.get("spd") else SYMMETRIC if group.attrs.get("symmetric") else frozenset()
        nullspace = _read_nullspace(group)
    m, n = (int(size) for size in shape)
    index = np.int32 if max(data.size, m, n) < 2**31 else np.int64
    crow, col, values = (torch.from_numpy(a) for a in (indptr.astype(index), indices.astype(index), data))
    A = CSR(crow, col, values, (m, n), tags=tags, nullspace=nullspace)
    return LinearSystem(A, torch.from_numpy(b))


def read_solution(path: str | Path, name: str | None = None) -> Tensor | None:
    """Return the solution stored with a system, in the shape of its b; None where there is none."""
    with _open(path) as file:
        group = _find(file, name)
        return torch.from_numpy(np.asarray(group["x"])) if "x" in group else None


def _open(path: str | Path) -> h5py.File:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path.name} is not a readable HDF5 file: {error}") from None
    if not isinstance(file.get("systems"), h5py.Group):
        file.close()
        raise ValueError(f"{path.name} has no group /systems: it holds no linear systems")
    return file


def _find(file: h5py.File, name: str | None) -> h5py.Group:
    names = list(file["systems"])
    if name is None and len(names) != 1:
        raise ValueError(f"the file holds {len(names)} systems, name one: {_some(names)}")
    name = names[0] if name is None else name
    if name not in names:
        raise ValueError(f"no system {name!r} in the file; it holds {_some(names)}")
    return file["systems"][name]


def _id(group: h5py.Group) -> str:
    return str(group.name).rsplit("/", 1)[-1]


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "none"


def _read_nullspace(group: h5py.Group) -> NullSpace | None:
    kind = group.attrs.get("nullspace")
    array = torch.from_numpy(np.asarray(group["nullspace"])) if "nullspace" in group else None
    if kind == "constants":
        return Constants(array)
    return Span(array) if kind == "span" and array is not None else None


def load_system(
    matrix: str | Path, rhs: str | Path | None = None, *, name: str | None = None
) -> LinearSystem:
    """Load A x = b from the files that people have.

    Args:
        matrix: MatrixMarket (.mtx, .mtx.gz), SciPy (.npz), NumPy (.npy, dense) or HDF5 (.h5, .hdf5).
        rhs: MatrixMarket, .npy, or .npz with one array: n numbers, or n rows with one right-hand side per
            column. None: the b of an HDF5 file; for the others b = A x with x running evenly from 1 to 2
            (`made_solution`), so that the answer is known and b is in the range of A.
        name: id of the system in an HDF5 file that holds several.

    Symmetry and diagonal dominance are read off the entries (`infer_tags`); other properties can be declared
    with `sparse(matrix, tags=...)`.

    Raises:
        FileNotFoundError, ValueError: a file is missing, of an unknown kind, or cannot be read.
        ShapeMismatch: the matrix is not square, or b does not fit it.
        MixedDtypes, NonFinite: complex b for a real matrix; NaN.
    """
    path = Path(matrix)
    if path.suffix in _HDF5:
        system = read_system(path, name)
        return system if rhs is None else LinearSystem(system.A, _right_hand_side(Path(rhs), system.A))
    A = _read_matrix(path)
    if A.shape[0] != A.shape[1]:
        raise ShapeMismatch(f"{path.name} is {A.shape[0]} x {A.shape[1]}: A x = b needs a square matrix")
    if rhs is None:
        return LinearSystem(A, A @ made_solution(A.shape[1]).to(A.dtype))
    return LinearSystem(A, _right_hand_side(Path(rhs), A))


def made_solution(n: int) -> Tensor:
    """Return the solution that belongs to a right-hand side made by `load_system`: n values from 1 to 2."""
    return torch.linspace(1, 2, n, dtype=torch.float64)


def _read(path: Path, kinds: tuple[str, ...], what: str) -> Any:
    """Read an array or a sparse matrix; every fault of the file becomes a ValueError that names it."""
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    if not path.name.endswith(kinds):
        raise ValueError(f"{path.name}: the {what} is read from {', '.join(kinds)} files")
    try:
        if path.suffix == ".npz" and what == "matrix":
            return sp.load_npz(path)
        if path.suffix in (".npy", ".npz"):
            found = np.load(path, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                if len(found.files) != 1:
                    raise ValueError(f"it holds {len(found.files)} arrays, needed is one")
                return found[found.files[0]]
        return scipy.io.mmread(path)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read the {what} from {path.name}: {error}") from None


def _read_matrix(path: Path) -> CSR:
    found = _read(path, (".mtx", ".mtx.gz", ".npz", ".npy"), "matrix")
    return sparse(found)


def _right_hand_side(path: Path, A: CSR | Any) -> Tensor:
    found = _read(path, (".mtx", ".mtx.gz", ".npy", ".npz"), "right-hand side")
    b = np.asarray(found.toarray() if sp.issparse(found) else found)
    if b.ndim not in (1, 2) or b.shape[0] != A.shape[0]:
        raise ShapeMismatch(
            f"{path.name} has shape {b.shape}, the matrix is {A.shape[0]} x {A.shape[1]}: give {A.shape[0]} "
            "numbers, or that many rows with one right-hand side per column"
        )
    if np.iscomplexobj(b) and not A.dtype.is_complex:
        raise MixedDtypes(f"{path.name} is complex, the matrix is real: split b, or give a complex matrix")
    columns = b.reshape(len(b), -1)
    single = columns.shape[1] == 1
    values = torch.from_numpy(np.ascontiguousarray(columns[:, 0] if single else columns.T))
    return values.to(A.device, A.dtype)
