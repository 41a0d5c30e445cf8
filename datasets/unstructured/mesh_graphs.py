"""Mesh data as graphs for networks: points are nodes, the edges of the cells connect them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..layout import Role
from .mesh_data import MeshSample, MeshSource
from .mesh_storage import MeshLayout


@final
@dataclass(frozen=True, eq=False)
class MeshGraph:
    """One sample, or several as one graph of separate parts.

    Attributes:
        points: positions, (N, d).
        edges: (2, E) int64, sender and receiver, every edge in both directions.
        cells: (M, d + 1) int64, numbers of points.
        point_inputs: (N, c), the inputs that points have; then 1 for points of a tag, 0 for others, per tag.
        cell_inputs: (M, c), the inputs that cells have.
        point_outputs: (N, c). cell_outputs: (M, c).
        batch: (N,) int64, which sample a point belongs to.
        samples: how many.
    """

    points: Tensor
    edges: Tensor
    cells: Tensor
    point_inputs: Tensor
    cell_inputs: Tensor
    point_outputs: Tensor
    cell_outputs: Tensor
    batch: Tensor
    samples: int = 1

    def to(self, device: str | torch.device) -> Self:
        """Return the graph on a device."""
        moved = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@final
class MeshGraphs(Dataset[MeshGraph]):
    """Samples of a file or folder of mesh data as graphs: `DataLoader(MeshGraphs(source), collate_fn=join)`.

    Args:
        source: `MeshFile` or `MeshFolder`.
        dtype: of positions and fields.

    Attributes:
        point_inputs, cell_inputs, point_outputs, cell_outputs: names of columns; components of vectors
            have the axis appended, "displacement x", tags are "tag NAME".
    """

    def __init__(self, source: MeshSource, dtype: torch.dtype = torch.float32) -> None:
        self.source, self.dtype = source, dtype
        layout = source.layout
        self.point_inputs = (*_columns(layout, "point", Role.INPUT), *(f"tag {name}" for name in layout.tags))
        self.cell_inputs = _columns(layout, "cell", Role.INPUT)
        self.point_outputs = _columns(layout, "point", Role.OUTPUT)
        self.cell_outputs = _columns(layout, "cell", Role.OUTPUT)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> MeshGraph:
        sample, layout = self.source[index], self.source.layout
        mesh = sample.mesh
        tagged = np.zeros((mesh.n_points, len(layout.tags)))
        for column, name in enumerate(layout.tags):
            tagged[mesh.tagged_points(name), column] = 1.0
        ends = mesh.entities(1).T
        real = lambda values: torch.as_tensor(np.ascontiguousarray(values)).to(self.dtype)  # noqa: E731
        return MeshGraph(
            real(mesh.points),
            torch.as_tensor(np.concatenate([ends, ends[::-1]], axis=1)),
            torch.as_tensor(mesh.simplices),
            real(np.concatenate([_stack(sample, "point", Role.INPUT, layout), tagged], axis=1)),
            real(_stack(sample, "cell", Role.INPUT, layout)),
            real(_stack(sample, "point", Role.OUTPUT, layout)),
            real(_stack(sample, "cell", Role.OUTPUT, layout)),
            torch.zeros(mesh.n_points, dtype=torch.int64),
        )


def join(graphs: Sequence[MeshGraph]) -> MeshGraph:
    """Return several graphs as one of separate parts, `collate_fn` of a `DataLoader`."""
    first = np.concatenate([[0], np.cumsum([len(g.points) for g in graphs])]).tolist()
    place = np.concatenate([[0], np.cumsum([g.samples for g in graphs])]).tolist()
    rows = ("points", "point_inputs", "cell_inputs", "point_outputs", "cell_outputs")
    return MeshGraph(
        edges=torch.cat([g.edges + start for g, start in zip(graphs, first, strict=False)], dim=1),
        cells=torch.cat([g.cells + start for g, start in zip(graphs, first, strict=False)]),
        batch=torch.cat([g.batch + start for g, start in zip(graphs, place, strict=False)]),
        samples=place[-1],
        **{name: torch.cat([getattr(g, name) for g in graphs]) for name in rows},
    )


def _columns(layout: MeshLayout, place: str, role: Role) -> tuple[str, ...]:
    names: list[str] = []
    for variable in layout.point_fields if place == "point" else layout.cell_fields:
        if variable.role is role:
            rows = np.ndindex(layout.rows(variable.name))
            names += [" ".join([variable.name, *("xyz"[i] for i in row)]) for row in rows]
    return tuple(names)


def _stack(sample: MeshSample, place: str, role: Role, layout: MeshLayout) -> NDArray[np.floating]:
    fields = sample.point_fields if place == "point" else sample.cell_fields
    count = sample.mesh.n_points if place == "point" else sample.mesh.n_cells
    chosen = [values for name, values in fields.items() if layout[name].role is role]
    return np.concatenate([np.zeros((count, 0)), *(values.reshape(count, -1) for values in chosen)], axis=1)
