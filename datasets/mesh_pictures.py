"""Pictures of data on meshes: the mesh with its named parts, and the fields of some samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.tri import Triangulation
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray

from ..meshes.mesh import Mesh
from .layout import Variable
from .pictures import (
    COLOURS,
    COLUMNS,
    INK,
    QUIET,
    WIDTH,
    Scale,
    colour_bar,
    draw_arrows,
    header,
    in_words,
    label,
    scale_of,
    sizes,
)
from .unstructured.mesh_data import MeshSample, MeshSource

_FINE = 4000  # triangles beyond which edges are left out


def mesh_picture(source: MeshSource, samples: Sequence[int] = (0, 1, 2)) -> Figure:
    """Draw some samples on meshes as a figure: a row each, the mesh with its tags, then the fields.

    In 2D fields fill the triangles, vectors have arrows. In 3D the surface is drawn. A field has one range of
    colours for all samples.

    Args:
        source: of the data.
        samples: which ones, at most four are drawn.

    Raises:
        IndexError: there is no such sample.
        ValueError: none is named.
    """
    wrong = [i for i in samples if not 0 <= i < len(source)]
    if wrong:
        raise IndexError(f"there is no sample {wrong[0]}: {source.layout.name} has 0 to {len(source) - 1}")
    if not samples:
        raise ValueError("no sample is named: name one at least, for example samples=(0,)")
    layout, kept = source.layout, list(samples)[:COLUMNS]
    fields = list(layout.variables)[:COLUMNS]
    drawn = [source[i] for i in kept]
    rows = 1 + len(fields)
    columns = max(2, len(kept))
    height = rows * 7.8 / columns + 0.4
    figure = Figure((WIDTH, 0.8 + height), layout="constrained", dpi=150)
    parts: Any = figure.subfigures(2, 1, height_ratios=(0.8, height))
    head, body = parts
    header(head, layout.name, _facts(source, drawn, len(fields)))
    table = body.add_gridspec(rows, columns + 1, width_ratios=[1] * columns + [0.05])
    kind = "3d" if layout.dim == 3 else None
    panels = [[body.add_subplot(table[r, c], projection=kind) for c in range(len(kept))] for r in range(rows)]
    bars = [body.add_subplot(table[r, columns]) for r in range(rows)]
    tags = sorted(name for name, dim in layout.tags.items() if 0 < dim < layout.dim)
    for axes, i, sample in zip(panels[0], kept, drawn, strict=True):
        _mesh(axes, sample.mesh, tags)
        axes.set_title(f"sample {i}", fontsize=8.5, color=INK)
    _beside(panels[0][0], "mesh")
    bars[0].set_axis_off()
    if tags and layout.dim == 2:
        marks = [Line2D([], [], color=_colour(tags, name), lw=2, label=name) for name in tags]
        legend = bars[0].legend(handles=marks, fontsize=7, frameon=False, labelcolor=INK, loc="upper right")
        legend.set_in_layout(False)
    for row, v in enumerate(fields, start=1):
        scale = scale_of(sizes(np.asarray(sample[v.name], dtype=np.float64), v) for sample in drawn)
        for axes, sample in zip(panels[row], drawn, strict=True):
            _field(axes, sample, v, scale)
        _beside(panels[row][0], label(v))
        colour_bar(body, scale, None, bars[row])
    return figure


def _colour(tags: list[str], name: str) -> str:
    return COLOURS[tags.index(name) % len(COLOURS)]


def _facts(source: MeshSource, drawn: list[MeshSample], shown: int) -> list[str]:
    layout = source.layout
    cells = [len(sample.mesh.simplices) for sample in drawn]
    span = str(min(cells)) if min(cells) == max(cells) else f"{min(cells)} to {max(cells)}"
    kind = {"triangle": "triangles", "tetra": "tetrahedra"}[layout.cell_type]
    facts = [f"{len(source)} samples", f"{span} {kind} in those drawn"]
    if len(layout.variables) > shown:
        facts.append(f"not drawn: {', '.join(v.name for v in layout.variables[shown:])}")
    return facts + [f"{k} = {in_words(v)}" for k, v in layout.parameters.items()]


def _beside(axes: Axes, text: str) -> None:
    """Write what a row shows to its left."""
    axes.annotate(
        text, (0, 0.5), (-8, 0), "axes fraction", "offset points",
        rotation=90, va="center", ha="right", multialignment="center", fontsize=8.5, color=INK,
    )  # fmt: skip


def _mesh(axes: Any, mesh: Mesh, tags: list[str]) -> None:
    """Draw the edges, and the tagged parts of the boundary in colour."""
    if mesh.dim == 3:
        _surface(axes, mesh, "#e8e8e8")
        return
    edges = (
        mesh.points[mesh.entities(1)]
        if len(mesh.simplices) <= _FINE
        else mesh.points[mesh.facets[mesh.boundary_facets]]
    )
    axes.add_collection(LineCollection(list(edges), colors="#b0b0b0", linewidths=0.35))
    for name in sorted(
        set(tags) & set(mesh.tags), key=lambda name: -len(mesh.tagged(name))
    ):  # small ones on top
        parts = LineCollection(
            list(mesh.points[mesh.tagged(name)]), colors=_colour(tags, name), linewidths=1.8
        )
        axes.add_collection(parts)
    _frame(axes, mesh)


def _field(axes: Any, sample: MeshSample, v: Variable, scale: Scale) -> None:
    """Draw one field."""
    mesh, values = sample.mesh, np.asarray(sample[v.name], dtype=np.float64)
    size, at_points = sizes(values, v), v.name in sample.point_fields
    if mesh.dim == 3:
        facets = mesh.boundary_facets
        shown = size[mesh.facets[facets]].mean(axis=1) if at_points else size[mesh.facet_cells[facets, 0]]
        _surface(axes, mesh, shown, scale)
        return
    triangles = Triangulation(mesh.points[:, 0], mesh.points[:, 1], mesh.simplices)
    axes.tripcolor(
        triangles,
        size,
        cmap=scale.colours,
        norm=scale.norm,
        shading="gouraud" if at_points else "flat",
        rasterized=True,
    )
    if v.rank == 1:
        centres = mesh.points if at_points else mesh.points[mesh.simplices].mean(axis=1)
        chosen = _spread(centres)
        draw_arrows(axes, centres[chosen], values[chosen])
    outline = mesh.points[mesh.facets[mesh.boundary_facets]]
    axes.add_collection(LineCollection(list(outline), colors=INK, linewidths=0.6))
    _frame(axes, mesh)


def _surface(axes: Any, mesh: Mesh, values: NDArray[Any] | str, scale: Scale | None = None) -> None:
    faces = Poly3DCollection(
        mesh.points[mesh.facets[mesh.boundary_facets]], linewidths=0.15, edgecolors=QUIET
    )
    if scale is None:
        faces.set_facecolor(values)
    else:
        faces.set(array=values, cmap=colormaps[scale.colours], norm=scale.norm)
    axes.add_collection3d(faces)
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]), box_aspect=high - low)
    axes.set_axis_off()


def _spread(points: NDArray[Any], cells: int = 11) -> NDArray[np.int64]:
    """Return one point per square of a coarse raster, so that arrows do not crowd."""
    low, width = points.min(axis=0), np.ptp(points, axis=0).max() or 1.0
    square = np.floor((points - low) / width * cells * 0.999).astype(int)
    return np.unique(square @ [1, cells + 1], return_index=True)[1]


def _frame(axes: Any, mesh: Mesh) -> None:
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    pad = 0.03 * float((high - low).max())
    axes.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad), aspect="equal")
    axes.set_axis_off()
