"""Pictures of grid data: fields of some samples, the distribution of their values, their spectra."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..meshes.grid import Boundary
from .layout import Layout, Role, Variable
from .source import Source

WIDTH = 9.6  # inches
ARROWS, FRAMES, ROWS, COLUMNS = 9, 5, 4, 4
INK, QUIET = "#222222", "#777777"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # told apart by all eyes
Drawn = Mapping[tuple[int, str], NDArray[np.float64]]


@final
@dataclass(frozen=True, eq=False)
class Scale:
    """Colours of a field: diverging around zero where it has both signs, else sequential."""

    low: float
    high: float
    colours: str

    @property
    def norm(self) -> Normalize:
        """Map of values to colours."""
        return Normalize(self.low, self.high)


def scale_of(values: Iterable[NDArray[Any]]) -> Scale:
    """Return the colours of arrays that are drawn together; what is not finite does not count."""
    finite = [a[np.isfinite(a)] for a in values]
    finite = [a for a in finite if a.size]
    low = min((float(a.min()) for a in finite), default=0.0)
    high = max((float(a.max()) for a in finite), default=1.0)
    if low < 0 < high and min(-low, high) > 0.2 * max(-low, high):
        bound = max(-low, high)
        return Scale(-bound, bound, "RdBu_r")
    if high - low > 1e-9 * max(-low, high):
        return Scale(low, high, "viridis")
    return Scale(low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0), "viridis")


def picture(source: Source, samples: Sequence[int] = (0, 1, 2)) -> Figure:
    """Draw some samples of grid data as a figure, not shown anywhere: `picture(source).savefig("a.png")`.

    Lines or space-time images in 1D, images in 2D, images of the middle plane in 3D; trajectories at several
    times with one range of colours each; vectors as length and arrows, tensors as Frobenius norm. Below, the
    distribution of the values and the power spectrum of what was solved for.

    Args:
        source: of the data.
        samples: which ones; as many as fit are drawn.

    Raises:
        IndexError: there is no such sample.
        ValueError: none is named.
    """
    wrong = [i for i in samples if not 0 <= i < source.samples]
    if wrong:
        raise IndexError(f"there is no sample {wrong[0]}: {source.layout.name} has 0 to {source.samples - 1}")
    if not samples:
        raise ValueError("no sample is named: name one at least, for example samples=(0,)")
    layout = source.layout
    fields = list(layout.variables)[:COLUMNS]
    kept = list(samples)[: max(1, ROWS // len(fields)) if not layout.steady else COLUMNS]
    drawn = {i: source.read(i, i + 1) for i in kept}
    data = {
        (i, v.name): _full(values[v.name][0] if v.sample_varying else values[v.name], v, layout)
        for i, values in drawn.items()
        for v in fields
    }
    if layout.dim == 1:
        heights = 2.4 if layout.steady else 2.0 * len(kept) * len(fields)
        draw = _steady_lines if layout.steady else _space_time
    else:
        rows = len(fields) if layout.steady else len(kept) * len(fields)
        columns = len(kept) if layout.steady else len(_frames(layout))
        heights = rows * max(1.3, 8.2 / max(columns, 3) / _aspect(layout)) + 0.4
        draw = _steady_images if layout.steady else _moving_images
    figure = Figure((WIDTH, 0.8 + heights + 2.1), layout="constrained", dpi=150)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.06, h_pad=0.05, wspace=0.02, hspace=0.03)  # pyright: ignore[reportCallIssue]
    parts: Any = figure.subfigures(3, 1, height_ratios=(0.8, heights, 2.1))
    head, body, foot = parts
    _title(head, source, len(fields))
    draw(body, layout, fields, kept, data)
    _statistics(foot, layout, fields, kept, data)
    return figure


def in_words(value: float) -> str:
    """Return a number in few digits."""
    return f"{value:.4g}"


def label(v: Variable) -> str:
    """Return name and meaning of a field, on two lines where there is a meaning."""
    name = v.name if v.rank == 0 else f"|{v.name}|"
    return f"{name}\n{_short(v.meaning)}" if v.meaning else name


def header(figure: Any, name: str, facts: Sequence[str]) -> None:
    """Write name and facts above a figure, as many as fit on two lines."""
    lines = [""]
    for fact in facts:
        if lines[-1] and len(lines[-1]) + len(fact) > 110:
            lines.append("")
        lines[-1] += ("   ·   " if lines[-1] else "") + fact
    figure.text(0.012, 0.90, name, fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.012, 0.50, "\n".join(lines[:2]), fontsize=8, color=QUIET, va="top", linespacing=1.5)


def _title(figure: Any, source: Source, shown: int) -> None:
    layout = source.layout
    size = " × ".join(map(str, layout.resolution))
    facts = [f"{source.samples} samples", f"{size} points"]
    if not layout.steady:
        facts.append(
            f"{len(layout.times)} times, {in_words(layout.times[0])} to {in_words(layout.times[-1])}"
        )
    if len(layout.variables) > shown:
        facts.append(f"not drawn: {', '.join(v.name for v in layout.variables[shown:])}")
    facts += [f"{k} = {in_words(v)}" for k, v in layout.parameters.items()]
    named = layout.dim > 1 and not layout.steady  # where panels leave no room for meanings
    facts += [f"{v.name}: {_short(v.meaning, 50)}" for v in layout.variables if v.meaning and named]
    header(figure, layout.name, facts)


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _full(array: NDArray[Any], v: Variable, layout: Layout) -> NDArray[np.float64]:
    """Return ([T,] *space[, D...]) with all axes of space, the middle plane of three."""
    array = np.asarray(array, dtype=np.float64)
    shape = tuple(
        n if not v.axes or a in v.axes else 1 for a, n in zip(layout.axes, layout.resolution, strict=True)
    )
    lead = array.shape[: int(v.time_varying)]
    tail = (layout.dim,) * v.rank
    array = np.broadcast_to(array.reshape(*lead, *shape, *tail), (*lead, *layout.resolution, *tail))
    return array.take(layout.resolution[2] // 2, axis=len(lead) + 2) if layout.dim == 3 else array


def sizes(array: NDArray[Any], v: Variable) -> NDArray[Any]:
    """Return what is coloured: the value, the length of a vector, the norm of a tensor."""
    return np.sqrt((array**2).sum(axis=tuple(range(-v.rank, 0)))) if v.rank else array


def _extent(layout: Layout) -> tuple[float, float, float, float]:
    """Return where an image lies: half a cell beyond the outer points."""
    edges = []
    for c in layout.coordinates[:2]:
        half = 0.5 * (c[-1] - c[0]) / max(1, len(c) - 1) if len(c) > 1 else 0.5
        edges += [float(c[0] - half), float(c[-1] + half)]
    return edges[0], edges[1], edges[2], edges[3]


def _image(axes: Axes, array: NDArray[Any], v: Variable, layout: Layout, scale: Scale) -> None:
    """Draw a plane, x to the right and y up, with arrows for a vector."""
    axes.imshow(
        sizes(array, v).T, origin="lower", extent=_extent(layout), cmap=scale.colours, norm=scale.norm,
        interpolation="nearest",
    )  # fmt: skip
    left, right, bottom, top = _extent(layout)
    axes.set_aspect((right - left) / (top - bottom) / _aspect(layout))
    if v.rank == 1:
        steps = [slice(n // (2 * ARROWS), None, max(1, n // ARROWS)) for n in layout.resolution[:2]]
        x, y = (c[s] for c, s in zip(layout.coordinates[:2], steps, strict=True))
        points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
        draw_arrows(axes, points.reshape(-1, 2), array[steps[0], steps[1], :2].reshape(-1, 2))
    axes.tick_params(labelsize=7, colors=QUIET, length=2)


def draw_arrows(axes: Axes, points: NDArray[Any], vectors: NDArray[Any]) -> None:
    """Draw vectors (n, 2) at points (n, 2), the longest an eighth of the panel, the shortest not at all."""
    lengths = np.nan_to_num(np.linalg.norm(vectors, axis=1))
    longest = float(lengths.max(initial=0.0))
    seen = lengths > 0.05 * longest
    if seen.any():
        axes.quiver(
            *points[seen].T, *vectors[seen].T, color="white", ec=INK, lw=0.3, width=0.009, pivot="mid",
            angles="xy", scale_units="width", scale=8 * longest,
        )  # fmt: skip


def _aspect(layout: Layout) -> float:
    """Return width over height of an image: true where that is at most 3, else 1."""
    left, right, bottom, top = _extent(layout)
    true = (right - left) / (top - bottom)
    return true if 1 / 3 < true < 3 else 1.0


def _outer(axes: Axes, layout: Layout, *, left: bool, bottom: bool) -> None:
    """Label an axis only where no other panel does."""
    axes.tick_params(labelleft=left, labelbottom=bottom)
    if bottom:
        axes.set_xlabel(layout.axes[0], fontsize=8, color=QUIET, labelpad=1)
    if left:
        axes.set_ylabel(layout.axes[1], fontsize=8, color=QUIET, labelpad=1)


def colour_bar(figure: Any, scale: Scale, panels: Any, own: Axes | None = None) -> None:
    """Draw the colours of panels on their right, or in a panel of its own."""
    place = {"cax": own} if own is not None else {"ax": panels, "fraction": 0.05, "pad": 0.02, "aspect": 28}
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colours), **place)
    bar.ax.tick_params(labelsize=7, colors=QUIET, length=2)
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=4)


def _steady_images(
    figure: Any, layout: Layout, fields: list[Variable], samples: list[int], data: Drawn
) -> None:
    panels = figure.subplots(len(fields), len(samples), squeeze=False)
    for row, v in enumerate(fields):
        scale = scale_of(sizes(data[i, v.name], v) for i in samples)
        for column, i in enumerate(samples):
            axes = panels[row, column]
            _image(axes, data[i, v.name], v, layout, scale)
            _outer(axes, layout, left=column == 0, bottom=row == len(fields) - 1)
            if row == 0:
                axes.set_title(f"sample {i}", fontsize=8.5, color=INK)
        _beside(panels[row, 0], label(v))
        colour_bar(figure, scale, list(panels[row]))
    _plane(figure, layout)


def _beside(axes: Axes, text: str) -> None:
    """Write what a row shows to its left."""
    axes.annotate(
        text, (0, 0.5), (-36, 0), "axes fraction", "offset points",
        rotation=90, va="center", ha="right", multialignment="center", fontsize=8.5, color=INK,
    )  # fmt: skip


def _plane(figure: Any, layout: Layout) -> None:
    if layout.dim == 3:
        z = layout.coordinates[2][layout.resolution[2] // 2]
        figure.supylabel(f"plane {layout.axes[2]} = {in_words(z)}", fontsize=8, color=QUIET)


def _moving_images(
    figure: Any, layout: Layout, fields: list[Variable], samples: list[int], data: Drawn
) -> None:
    frames = _frames(layout)
    rows = [(i, v) for i in samples for v in fields]
    scales = {v.name: scale_of(sizes(data[i, v.name], v) for i in samples) for v in fields}
    panels = figure.subplots(len(rows), len(frames), squeeze=False)
    for row, (i, v) in enumerate(rows):
        array, last = data[i, v.name], row == len(rows) - 1
        scale = scales[v.name]
        for column, frame in enumerate(frames):
            axes = panels[row, column]
            if not v.time_varying and column:
                axes.set_axis_off()
                continue
            _image(axes, array[frame] if v.time_varying else array, v, layout, scale)
            _outer(axes, layout, left=column == 0, bottom=last)
            if row == 0:
                axes.set_title(f"t = {in_words(layout.times[frame])}", fontsize=8.5, color=INK)
        _beside(panels[row, 0], f"{_short(label(v).splitlines()[0], 16)}\nsample {i}")
        colour_bar(figure, scale, list(panels[row]))
    _plane(figure, layout)


def _frames(layout: Layout) -> list[int]:
    n = len(layout.times)
    return sorted({round(i) for i in np.linspace(0, n - 1, min(FRAMES, n))})


def _space_time(figure: Any, layout: Layout, fields: list[Variable], samples: list[int], data: Drawn) -> None:
    rows = [(i, v) for i in samples for v in fields]
    x, times, frames = layout.coordinates[0], layout.times, _frames(layout)
    image = len(times) >= FRAMES  # fewer times say nothing as an image
    panels = figure.subplots(len(rows), 1 + image, squeeze=False)
    for row, (i, v) in enumerate(rows):
        array, last, right = sizes(data[i, v.name], v), row == len(rows) - 1, panels[row, -1]
        if image and v.time_varying:
            scale = scale_of([array])
            panels[row, 0].pcolormesh(
                x, times, array, cmap=scale.colours, norm=scale.norm, shading="nearest", rasterized=True
            )
            panels[row, 0].set_ylim(times[0], times[-1])
            panels[row, 0].set_ylabel("t", fontsize=8, color=QUIET, labelpad=1)
            colour_bar(figure, scale, panels[row, 0])
        elif image:
            panels[row, 0].set_axis_off()
        if v.time_varying:
            for k, frame in enumerate(frames):
                colour = colormaps["viridis"](0.88 * k / max(1, len(frames) - 1))
                right.plot(x, array[frame], color=colour, lw=1.2, label=f"t = {in_words(times[frame])}")
        else:
            right.plot(x, array, color=INK, lw=1.2)
        if v.time_varying and not any(before.time_varying for _, before in rows[:row]):
            _legend(right)
        panels[row, 0].set_title(
            f"{label(v)}, sample {i}".replace("\n", ": "), fontsize=8.5, color=INK, loc="left"
        )
        right.margins(x=0)
        for axes in panels[row]:
            _plain(axes)
            axes.tick_params(labelbottom=last)
            if last:
                axes.set_xlabel(layout.axes[0], fontsize=8, color=QUIET, labelpad=1)


def _steady_lines(
    figure: Any, layout: Layout, fields: list[Variable], samples: list[int], data: Drawn
) -> None:
    panels = figure.subplots(1, len(fields), squeeze=False)[0]
    for axes, v in zip(panels, fields, strict=True):
        for k, i in enumerate(samples):
            line = sizes(data[i, v.name], v)
            axes.plot(layout.coordinates[0], line, color=COLOURS[k], lw=1.2, label=f"sample {i}")
        axes.set_title(label(v), fontsize=9, color=INK)
        axes.set_xlabel(layout.axes[0], fontsize=8, color=QUIET, labelpad=1)
        axes.margins(x=0)
        _plain(axes)
    _legend(panels[-1])


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")
    axes.tick_params(which="both", labelsize=7, colors=QUIET, length=2)


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.03), labelcolor=INK)


def _statistics(figure: Any, layout: Layout, fields: list[Variable], samples: list[int], data: Drawn) -> None:
    """Draw the distribution of the values of each field, and the spectra of what was solved for."""
    *left, right = figure.subplots(1, len(fields) + 1, width_ratios=[1] * len(fields) + [1.3])
    for k, (axes, v) in enumerate(zip(left, fields, strict=True)):
        values = np.concatenate([sizes(data[i, v.name], v).ravel() for i in samples])
        heights, edges = np.histogram(values[np.isfinite(values)], bins=50)
        axes.stairs(heights / max(1, heights.max()), edges, color=COLOURS[k], fill=True, alpha=0.75)
        axes.set_title(f"values of {label(v).splitlines()[0]}", fontsize=8.5, color=INK, loc="left")
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
        axes.set_ylim(0, 1.05)
        axes.spines["left"].set_visible(False)
        _plain(axes)
    scalars = [(k, v) for k, v in enumerate(fields) if v.rank == 0]
    for k, v in [(k, v) for k, v in scalars if v.role is not Role.INPUT] or scalars:
        for frame, line in ({0: "--", -1: "-"} if v.time_varying else {None: "-"}).items():
            arrays = [data[i, v.name] if frame is None else data[i, v.name][frame] for i in samples]
            power = np.mean([spectrum(np.nan_to_num(a), layout) for a in arrays], axis=0)
            time = "" if frame is None else f", t = {in_words(layout.times[frame])}"
            if power.any():
                right.loglog(
                    np.arange(1, len(power) + 1), power, line, color=COLOURS[k], lw=1.2, label=v.name + time
                )
    right.set_title("power spectrum", fontsize=8.5, color=INK, loc="left")
    right.set_xlabel("waves per length of the domain", fontsize=8, color=QUIET, labelpad=1)
    _plain(right)
    if right.lines:
        top = max(line.get_ydata().max() for line in right.lines)
        right.set_ylim(max(right.get_ylim()[0], top * 1e-14), None)
        _legend(right)


def spectrum(array: NDArray[Any], layout: Layout) -> NDArray[np.float64]:
    """Return the power of a field by whole wave numbers 1, 2, ..., summed over directions.

    The mean is removed; without periodic conditions a Hann window hides the jump at the faces. The powers sum
    to the variance where the field is periodic and no wave is finer than the coarsest axis resolves.

    >>> from .layout import Layout, Variable
    >>> x = np.arange(8) / 8
    >>> layout = Layout("w", ("x",), (x,), np.zeros(1), (Variable("u"),), ((Boundary.PERIODIC,) * 2,))
    >>> spectrum(np.sin(2 * np.pi * 2 * x), layout).round(12).tolist()
    [0.0, 0.5, 0.0, 0.0]
    """
    array = array - array.mean()
    axes = list(range(array.ndim))
    for axis in axes:
        pair = None if layout.boundary is None else layout.boundary[axis]
        if pair is None or Boundary.PERIODIC not in pair:
            n = array.shape[axis]
            window = np.hanning(n + 2)[1:-1]
            array = array * (window / np.sqrt(np.mean(window**2))).reshape(
                [-1 if a == axis else 1 for a in axes]
            )
    power = np.abs(np.fft.fftn(array) / array.size) ** 2
    waves = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in array.shape), indexing="ij")
    shell = np.rint(np.sqrt(sum(k**2 for k in waves))).astype(int)
    binned = np.bincount(shell.ravel(), power.ravel()).astype(np.float64)
    return binned[1 : max(2, min(array.shape) // 2 + 1)]
