"""Pictures of a solution: the functions, their error, the residual of the equation, and the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .run import Known
from .solution import Solution

Floats = NDArray[np.float64]

_SIDE = 121  # points along an axis of a picture
_TIMES = (0.0, 0.5, 1.0)  # shares of the time span that are shown, for two axes and time
_NEAR = 0.02  # of the box: points that count as lying in a plane
_LEAST = 20  # points whose error is shown where fewer are that near: the nearest, and the title says how far
_FLOOR = 1e-16
_WORDS = 40  # letters of a name in the legend
_RANGE = 1e-6  # of the largest value: below, all has one colour


def draw(
    solution: Solution,
    path: str | Path,
    known: Known | None = None,
    history: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Draw a solution, and write a PNG.

    One row per function with two axes, space and time among them: what was found, its error where values are
    known (at their points near the plane), and the residuals of the equations. Further coordinates are held
    at the middle; with two axes of space and time, three times are shown. The last row shows the losses over
    the steps.

    Args:
        solution: what was found.
        path: of the PNG.
        known: values to compare with.
        history: rows of a training.
    """

    planes = _planes(solution)
    names = solution.outputs
    rows = len(planes) * len(names) + bool(history)
    columns = 2 + (known is not None)
    figure = Figure(figsize=(4.4 * columns, 3.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
    row = 0
    for plane in planes:
        values = plane.image(solution(plane.points).double().cpu().numpy())
        residual = solution.equation_residual(plane.points).double().cpu().numpy()
        size = plane.image(np.linalg.norm(residual, axis=1)[:, None])[0]
        for k, name in enumerate(names):
            _show(figure, axes[row, 0], plane, values[k], f"{name}{plane.title}", "viridis")
            _show(
                figure,
                axes[row, 1],
                plane,
                _log(size),
                f"log10 |residual|{plane.title}",
                "magma",
            )
            if known is not None:
                _errors(figure, axes[row, 2], plane, solution, known, name)
            row += 1
    if history:
        _losses(axes[row, 0], history)
        for axis in axes[row, 1:]:
            axis.set_axis_off()
        if any("error" in row for row in history):
            _curve(axes[row, 1], history, ["error"], "relative L2 error")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


@final
class _Plane:
    """A cut through space and time along two axes, or a line."""

    def __init__(
        self, solution: Solution, across: tuple[int, ...], fixed: Mapping[int, float], title: str
    ) -> None:
        problem = solution.model.problem
        lower, upper = np.array(problem.lower), np.array(problem.upper)
        self.across, self.fixed, self.title = across, fixed, title
        self.names = [problem.coordinates[i] for i in across]
        self.axes = [np.linspace(lower[i], upper[i], _SIDE) for i in across]
        grid = np.meshgrid(*self.axes, indexing="ij")
        self.span = upper - lower
        every = np.empty((grid[0].size, len(lower)))
        for i, value in fixed.items():
            every[:, i] = value
        for i, values in zip(across, grid, strict=True):
            every[:, i] = values.ravel()
        self.inside = problem.domain.contains(every[:, : problem.domain.dim])
        self.points = every[self.inside]

    def near(self, points: Floats) -> tuple[NDArray[np.bool_], float]:
        """Return which of the points (M, D) lie near the cut, and how far they do, as a share of the box."""
        away = np.zeros(len(points))
        for i, value in self.fixed.items():
            away = np.maximum(away, np.abs(points[:, i] - value) / self.span[i])
        reach = max(_NEAR, float(np.sort(away)[:_LEAST].max(initial=0.0)) + 1e-9)
        return away <= reach, reach

    def image(self, values: Floats) -> list[Floats]:
        """Return the columns of values (N, W) as images; NaN outside the domain."""
        images = []
        for column in values.T:
            whole = np.full(len(self.inside), np.nan)
            whole[self.inside] = column
            images.append(whole.reshape((_SIDE,) * len(self.across)))
        return images


def _planes(solution: Solution) -> list[_Plane]:
    problem = solution.model.problem
    count = len(problem.coordinates)
    if count <= 2:
        return [_Plane(solution, tuple(range(count)), {}, "")]
    if problem.time is not None and problem.domain.dim == 2:
        times = [problem.time[0] + s * (problem.time[1] - problem.time[0]) for s in _TIMES]
        return [_Plane(solution, (0, 1), {2: t}, f", t = {t:.3g}") for t in times]
    middle = {i: (problem.lower[i] + problem.upper[i]) / 2 for i in range(2, count)}
    return [_Plane(solution, (0, 1), middle, ", other coordinates in the middle")]


def _log(sizes: Floats) -> Floats:
    """Return log10 of sizes; what lies far below the rest does not stretch the colours."""
    return np.log10(np.maximum(sizes, max(np.nanmax(sizes, initial=0.0) * _RANGE, _FLOOR)))


def _show(figure: Any, axis: Any, plane: _Plane, image: Floats, title: str, colours: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(plane.names[0])
    if len(plane.axes) == 1:
        axis.plot(plane.axes[0], image)
        return
    axis.set_ylabel(plane.names[1])
    shown = axis.pcolormesh(plane.axes[0], plane.axes[1], image.T, cmap=colours, shading="nearest")
    figure.colorbar(shown, ax=axis)


def _errors(figure: Any, axis: Any, plane: _Plane, solution: Solution, known: Known, name: str) -> None:
    """Show the error of a function at the points where it is known, near the plane."""
    points, values = np.asarray(known.points), np.asarray(known.values)
    if name not in known.outputs:
        axis.set_axis_off()
        axis.text(0.5, 0.5, f"no values of {name} are known", ha="center", fontsize=9)
        return
    near, reach = plane.near(points)
    found = solution(points[near])[:, solution.outputs.index(name)].double().cpu().numpy()
    gap = np.abs(found - values[near, list(known.outputs).index(name)])
    far = "" if reach <= _NEAR else f"\nat points up to {reach:.0%} of the box from there"
    axis.set_title(f"log10 |error of {name}|{plane.title}{far}", fontsize=9)
    axis.set_xlabel(plane.names[0])
    if len(plane.axes) == 1:
        axis.semilogy(points[near, 0], gap + _FLOOR, ".")
        return
    axis.set_ylabel(plane.names[1])
    size = float(np.clip(4e4 / max(len(gap), 1), 1.0, 16.0))
    at = points[near][:, list(plane.across)]
    shown = axis.scatter(at[:, 0], at[:, 1], c=_log(gap), s=size, cmap="magma", linewidths=0)
    figure.colorbar(shown, ax=axis)


def _losses(axis: Any, history: Sequence[Mapping[str, Any]]) -> None:
    first = list(history[0])
    after = next((k for k in ("error", "evaluations") if k in first), None)
    end = first.index(after) if after is not None else len(first)
    names = [n for n in first[first.index("loss") : end] if isinstance(history[-1].get(n), float)]
    _curve(axis, history, names, "loss and mean squares")
    lines, said = axis.get_legend_handles_labels()
    axis.legend(lines, [n if len(n) <= _WORDS else f"{n[: _WORDS - 3]}..." for n in said], fontsize=6)


def _curve(axis: Any, history: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> None:
    axis.set_axis_on()
    for name in names:
        rows = [row for row in history if name in row]
        axis.semilogy(
            [row["step"] for row in rows], [max(abs(row[name]), _FLOOR) for row in rows], label=name
        )
    axis.set_xlabel("step")
    axis.set_title(title, fontsize=9)
