"""What a training found: a function, with its derivatives and its residuals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import safetensors.torch
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...meshes.whole import write_whole
from .constraint import Constrained
from .errors import BadProblem, WrongShape
from .fields import derivative
from .jets.plan import Plan
from .model import Model
from .networks import Architecture, architecture_from
from .problem import BoundaryProblem
from .where import Drawn

_AT_ONCE = 1 << 14  # points


@final
class Solution:
    """Functions u, ... of space and time, found by training a network.

    Args:
        model: problem and network.
        theta: parameters, (P,).
        architecture: what the network was built from.
        meta: how it was trained, plain values.
    """

    def __init__(
        self, model: Model, theta: Tensor, architecture: Architecture, meta: dict[str, Any] | None = None
    ) -> None:
        self.model, self.theta, self.architecture = model, theta.detach().clone(), architecture
        self.meta = dict(meta or {})

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the functions."""
        return self.model.problem.outputs

    @property
    def unknowns(self) -> dict[str, float]:
        """The coefficients found, by name."""
        return {name: float(value) for name, value in self.model.coefficients(self.theta).items()}

    def __call__(self, points: ArrayLike | Tensor) -> Tensor:
        """Return all functions at points (N, D), (N, W)."""
        with torch.no_grad():
            parts = [self.model.outputs(self.theta, part) for part in self._points(points).split(_AT_ONCE)]
        return torch.cat(parts)

    def derivatives(self, points: ArrayLike | Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Return derivatives by name, such as "u.x" or "v.xt", at points (N, D).

        Raises:
            BadProblem: a name that is no derivative.
        """
        problem, wanted = self.model.problem, {}
        for name in names:
            output, _, way = name.partition(".")
            key = derivative(way, problem.coordinates)
            if output not in problem.outputs or key is None:
                raise BadProblem(
                    f"{name!r} is no derivative: write an output of {', '.join(problem.outputs)}, a dot, and "
                    f"coordinates of {', '.join(problem.coordinates)}"
                )
            wanted[name] = (problem.outputs.index(output), key)
        plan = Plan({key for _, key in wanted.values()})
        found: dict[str, list[Tensor]] = {name: [] for name in wanted}
        with torch.no_grad():
            for part in self._points(points).split(_AT_ONCE):
                values = self._values(part, plan)
                for name, (column, key) in wanted.items():
                    found[name].append(values.of(key)[:, column])
        return {name: torch.cat(parts) for name, parts in found.items()}

    def residuals(self, n: int = 2000, seed: int = 1) -> dict[str, float]:
        """Return the root mean square of every residual of the problem, at n fresh points per term."""
        generator, found = np.random.default_rng(seed), {}
        with torch.no_grad():
            for term in self.model.problem.terms:
                cloud = self.model.cloud(term, term.block.where.draw(n, generator), self.theta)
                rows = self.model.residuals(self.theta, term, cloud)
                found |= {
                    label: float(row.square().mean().sqrt())
                    for label, row in zip(term.labels, rows, strict=True)
                }
        return found

    def equation_residual(self, points: ArrayLike | Tensor) -> Tensor:
        """Return the residuals of the equations at points (N, D), (N, number of them)."""
        columns = []
        with torch.no_grad():
            for part in self._points(points).split(_AT_ONCE):
                rows: list[Tensor] = []
                for term in self.model.problem.terms:
                    if term.block.kind == "equation":
                        cloud = self.model.cloud(term, Drawn(part.cpu().numpy()), self.theta)
                        rows.extend(self.model.residuals(self.theta, term, cloud))
                columns.append(torch.stack(rows, dim=1))
        return torch.cat(columns)

    def error(self, points: ArrayLike, values: ArrayLike, outputs: Sequence[str] | None = None) -> float:
        """Return the relative L2 error against values (M, C) of some outputs, all stacked.

        sqrt(mean |u - v|^2) / sqrt(mean |v|^2). Rows of `values` with NaN do not count.
        """
        names = list(outputs or self.outputs)
        wanted = torch.as_tensor(np.asarray(values), dtype=torch.float64).reshape(-1, len(names))
        columns = [self.outputs.index(name) for name in names]
        found = self(points)[:, columns].double().cpu()
        good = torch.isfinite(wanted).all(dim=1)
        return float((found - wanted)[good].norm() / wanted[good].norm())

    def save(self, folder: str | Path) -> Path:
        """Write `solution.json` and `solution.safetensors` into a folder; nothing in them is code."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        problem = self.model.problem
        tensors = {"theta": self.theta.cpu().contiguous()}
        tensors |= {
            f"buffer.{k}": v.detach().cpu().contiguous() for k, v in self.model.network.named_buffers()
        }
        record = {
            "architecture": self.architecture.values(),
            "outputs": list(problem.outputs),
            "coordinates": list(problem.coordinates),
            "lower": list(problem.lower),
            "upper": list(problem.upper),
            "unknowns": self.unknowns,
            "meta": self.meta,
        }
        write_whole(folder / "solution.safetensors", safetensors.torch.save(tensors))
        write_whole(folder / "solution.json", (json.dumps(record, indent=2) + "\n").encode())
        return folder

    @classmethod
    def load(cls, folder: str | Path, problem: BoundaryProblem) -> Self:
        """Read a solution of a problem; the problem itself is code and is not saved.

        Raises:
            BadProblem: the solution belongs to another problem: other outputs, coordinates or domain.
            FileNotFoundError: there is none in the folder.
        """
        folder = Path(folder)
        record = json.loads((folder / "solution.json").read_text(encoding="utf-8"))
        for name in ("outputs", "coordinates", "lower", "upper"):
            if list(getattr(problem, name)) != record[name]:
                raise BadProblem(
                    f"the solution in {folder} has {name} {record[name]}, the problem has "
                    f"{list(getattr(problem, name))}: load it with its own problem"
                )
        tensors = safetensors.torch.load((folder / "solution.safetensors").read_bytes())
        theta = tensors.pop("theta")
        architecture = architecture_from(record["architecture"])
        network = build(architecture, problem, 0, theta)
        network.load_state_dict({k.removeprefix("buffer."): v for k, v in tensors.items()}, strict=False)
        return cls(Model(problem, network), theta, architecture, record["meta"])

    def _points(self, points: ArrayLike | Tensor) -> Tensor:
        found = points if isinstance(points, Tensor) else torch.as_tensor(np.asarray(points))
        found = found.to(self.theta)
        wanted = len(self.model.problem.coordinates)
        if found.ndim != 2 or found.shape[1] != wanted:
            raise WrongShape(
                f"points are (N, {wanted}), columns {', '.join(self.model.problem.coordinates)}, got "
                f"{tuple(found.shape)}"
            )
        return found

    def _values(self, points: Tensor, plan: Plan) -> Any:
        values = self.model.values(self.theta, points, plan)
        if self.model.shape is None:
            return values
        return Constrained(values, plan, *self.model.shape.jets(points, plan))

    def __repr__(self) -> str:
        problem = self.model.problem
        said = f"{', '.join(problem.outputs)}({', '.join(problem.coordinates)})"
        return f"Solution({said}, {self.model.size} parameters)"


def build(architecture: Architecture, problem: BoundaryProblem, seed: int, like: Tensor) -> Any:
    """Return a new network for a problem, its weights drawn with a seed, on the device of a tensor."""
    box = (torch.tensor(problem.lower, dtype=like.dtype), torch.tensor(problem.upper, dtype=like.dtype))
    generator = torch.Generator().manual_seed(seed)
    network = architecture.build(len(problem.coordinates), len(problem.outputs), box, generator, like.dtype)
    return network.to(like.device)
