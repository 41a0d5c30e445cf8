"""What a training found: a function, with its derivatives and its residuals."""

from __future__ import annotations

import copy
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
from .networks import Architecture, Network, WrongSettings, architecture_from
from .problem import BoundaryProblem
from .where import Drawn

_AT_ONCE = 1 << 14  # points
_CHECKED = 16  # points whose values are saved
_SAME = (
    1e-3  # relative difference of values on two devices, in float32 and with lowered precision of products
)


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

    def module(self) -> Network:
        """Return the network as trained, a copy: points (N, D) to (N, W), without the form of `Hard`."""
        network = copy.deepcopy(self.model.network)
        pieces = zip(self.model.names, self.theta.split(self.model.sizes), self.model.shapes, strict=False)
        with torch.no_grad():
            for name, piece, shape in pieces:
                network.get_parameter(name).copy_(piece.view(shape))
        return network

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
        """Write `solution.json` and `solution.safetensors` into a folder; nothing in them is code.

        Of a network that is code itself, `Custom`, the weights are saved.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        problem = self.model.problem
        tensors = {"theta": self.theta.cpu().contiguous()}
        tensors |= {f"buffer.{k}": v.detach().cpu().contiguous() for k, v in self.model.fixed().items()}
        record = {
            "architecture": _settings(self.architecture),
            "parameters": _parameters(self.model),
            "outputs": list(problem.outputs),
            "coordinates": list(problem.coordinates),
            "lower": list(problem.lower),
            "upper": list(problem.upper),
            "unknowns": self.unknowns,
            "check": self._check_values(),
            "meta": self.meta,
        }
        write_whole(folder / "solution.safetensors", safetensors.torch.save(tensors))
        write_whole(folder / "solution.json", (json.dumps(record, indent=2) + "\n").encode())
        return folder

    @classmethod
    def load(cls, folder: str | Path, problem: BoundaryProblem, network: Architecture | None = None) -> Self:
        """Read a solution of a problem; the problem itself is code and is not saved.

        Args:
            folder: where it was saved.
            problem: its problem.
            network: its network; needed for `Custom` alone, which is code, too.

        Raises:
            BadProblem: the solution belongs to another problem (other outputs, coordinates, box or unknowns),
                to another network, or the function is another one than was saved: another form of `Hard`,
                say. Equations and conditions are not compared.
            WrongSettings: the network is code, and was not given.
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
        saved, here = list(record["unknowns"]), list(problem.unknowns)
        if sorted(saved) != sorted(here):
            raise BadProblem(
                f"the solution in {folder} has unknowns {saved}, the problem has {here}: load it with its "
                "own problem"
            )
        tensors = safetensors.torch.load((folder / "solution.safetensors").read_bytes())
        theta = tensors.pop("theta")
        first = len(theta) - len(saved)
        theta = torch.cat([theta[:first], *(theta[first + saved.index(n)].reshape(1) for n in here)])
        architecture = _architecture(record["architecture"], network, folder)
        model = Model(problem, build(architecture, problem, 0, theta))
        if record.get("parameters", _parameters(model)) != _parameters(model) or model.size != len(theta):
            raise BadProblem(
                f"the solution in {folder} has {len(theta)} parameters, {record.get('parameters', '')}, the "
                f"network has {model.size}, {_parameters(model)}: load it with its own network"
            )
        _fill(model.fixed(), {k.removeprefix("buffer."): v for k, v in tensors.items()}, folder)
        found = cls(model, theta, architecture, record["meta"])
        found._refuse_another(record.get("check"), folder)
        return found

    def _check_values(self) -> dict[str, Any]:
        """Return some points, and the values there: what tells one function from another."""
        inside = self.model.problem.terms[0].block.where
        points = inside.draw(_CHECKED, np.random.default_rng(0)).points
        return {"points": points.tolist(), "values": self(points).tolist()}

    def _refuse_another(self, check: dict[str, Any] | None, folder: Path) -> None:
        """Raise BadProblem unless the values are those that were saved, if they were."""
        if check is None:
            return
        wanted = np.array(check["values"])
        gap = np.abs(self(check["points"]).double().cpu().numpy() - wanted).max()
        if not gap <= _SAME * np.abs(wanted).max():  # NaN is another value, too
            raise BadProblem(
                f"the functions in {folder} are others with this problem: they differ by {gap:.1e} from the "
                f"values that were saved, at {len(wanted)} points. Their forms, the `constraint` of the "
                "problem (`hard` of a named one), or the module of `Custom` are those of another training"
            )

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


def _settings(architecture: Architecture) -> dict[str, Any] | None:
    """Return the settings of a network as plain values, None where it is code."""
    try:
        return architecture.values()
    except WrongSettings:
        return None


def _architecture(saved: dict[str, Any] | None, given: Architecture | None, folder: Path) -> Architecture:
    if given is not None:
        if _settings(given) != saved:
            raise BadProblem(
                f"the solution in {folder} has the network {saved or 'Custom'}, got {given}: leave it out, "
                "or give the one it was trained with"
            )
        return given
    if saved is None:
        raise WrongSettings(
            f"the network in {folder} is code, its weights alone were saved: pass it, "
            "Solution.load(folder, problem, Custom(module)), with a module of the same form"
        )
    return architecture_from(saved)


def _parameters(model: Model) -> dict[str, list[int]]:
    """Return the shapes of a network's parameters by name."""
    return {name: list(shape) for name, shape in zip(model.names, model.shapes, strict=False)}


def _fill(fixed: dict[str, Tensor], saved: dict[str, Tensor], folder: Path) -> None:
    """Copy saved values into what a network holds beside its trained parameters."""
    shapes = [{name: tuple(t.shape) for name, t in part.items()} for part in (saved, fixed)]
    if shapes[0] != shapes[1]:
        raise BadProblem(
            f"the solution in {folder} has the fixed tensors {shapes[0]}, the network has {shapes[1]}: load "
            "it with its own network"
        )
    with torch.no_grad():
        for name, tensor in fixed.items():
            tensor.copy_(saved[name])


def build(architecture: Architecture, problem: BoundaryProblem, seed: int, like: Tensor) -> Any:
    """Return a new network for a problem, its weights drawn with a seed, on the device of a tensor."""
    box = (torch.tensor(problem.lower, dtype=like.dtype), torch.tensor(problem.upper, dtype=like.dtype))
    generator = torch.Generator().manual_seed(seed)
    network = architecture.build(len(problem.coordinates), len(problem.outputs), box, generator, like.dtype)
    return network.to(like.device)
