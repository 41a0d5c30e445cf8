"""The equations of `pinn_speed`, what all of its methods start from, and their loss by nested autograd.

  laplacian2d       u_xx + u_yy + 2 pi^2 sin(pi x) sin(pi y) = 0, u = 0 on the boundary
  navier-stokes2d   steady incompressible flow (u, v, p) at viscosity 0.01, driven by a lid
  fourth-order      u_t + u u_x + u_xx + u_xxxx = 0 (Kuramoto-Sivashinsky), u given at t = -1 and x = -1, 1

All live on [-1, 1]^2. The loss is the mean square of every residual over the points of the domain, plus the
mean square misfit of every output that the conditions name over theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import pi
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]
Residuals = Callable[[Tensor, Tensor], Sequence[Tensor]]  # of points (N, 2), outputs (N, C): (N,) each

VISCOSITY = 0.01
HIDDEN = (100,) * 5


@dataclass(frozen=True)
class Equation:
    """What is to be solved.

    Args:
        outputs: their names.
        given: how many of them, from the first on, the conditions name.
        sides: of the square on which they do: (axis, value).
        values: of the conditions at points (B, 2), as (B, given).
        nested: the residuals by nested `torch.autograd.grad`.
    """

    outputs: tuple[str, ...]
    given: int
    sides: tuple[tuple[int, float], ...]
    values: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    nested: Residuals


@dataclass(frozen=True)
class Start:
    """What all methods start from, in float32.

    Args:
        points: of the domain, (N, 2).
        edge: points of the conditions, (B, 2), B = N / 4.
        values: there, (B, given).
        weights: of the layers, (out, in) each.
        biases: (out,) each.
    """

    points: Floats
    edge: Floats
    values: Floats
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(w.size for w in (*self.weights, *self.biases))

    def save(self, path: Path) -> None:
        """Write everything to an .npz file."""
        arrays = {"points": self.points, "edge": self.edge, "values": self.values}
        arrays |= {f"weight{k}": w for k, w in enumerate(self.weights)}
        arrays |= {f"bias{k}": b for k, b in enumerate(self.biases)}
        np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> Start:
    """Read what `Start.save` wrote."""
    with np.load(path) as file:
        layers = range(sum(name.startswith("weight") for name in file.files))
        weights = tuple(file[f"weight{k}"] for k in layers)
        biases = tuple(file[f"bias{k}"] for k in layers)
        return Start(file["points"], file["edge"], file["values"], weights, biases)


def draw(name: str, n: int, seed: int = 0, hidden: tuple[int, ...] = HIDDEN) -> Start:
    """Draw points and weights: Glorot-normal matrices, biases of standard deviation 0.1."""
    equation, random = EQUATIONS[name], np.random.default_rng(seed)
    edge = random.uniform(-1, 1, (n // 4, 2))
    for k, point in enumerate(edge):
        axis, value = equation.sides[k % len(equation.sides)]
        point[axis] = value
    sizes = (2, *hidden, len(equation.outputs))
    pairs = list(pairwise(sizes))
    weights = [random.normal(0, (2 / (a + b)) ** 0.5, (b, a)) for a, b in pairs]
    biases = [random.normal(0, 0.1, b) for _, b in pairs]
    return Start(
        random.uniform(-1, 1, (n, 2)).astype(np.float32),
        edge.astype(np.float32),
        equation.values(edge).astype(np.float32),
        tuple(w.astype(np.float32) for w in weights),
        tuple(b.astype(np.float32) for b in biases),
    )


def tanh_network(start: Start, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return the network in plain torch."""
    layers: list[nn.Module] = []
    for weight in start.weights:
        layers += [nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype), nn.Tanh()]
    network = nn.Sequential(*layers[:-1])
    put_weights(network, start)
    return network


def put_weights(network: nn.Module, start: Start) -> None:
    """Copy the weights into a network whose parameters are weight and bias of one layer after the other."""
    pairs = zip(start.weights, start.biases, strict=True)
    given = [torch.from_numpy(item) for pair in pairs for item in pair]
    parameters = list(network.parameters())
    if [p.shape for p in parameters] != [g.shape for g in given]:
        raise ValueError(f"other layers: {[tuple(p.shape) for p in parameters]} in this network")
    with torch.no_grad():
        for parameter, item in zip(parameters, given, strict=True):
            parameter.copy_(item)


class NestedLoss:
    """The loss, with derivatives by nested autograd.

    Args:
        name: of the equation.
        start: points and conditions.
        like: their device and type.
    """

    def __init__(self, name: str, start: Start, like: Tensor) -> None:
        self.equation = EQUATIONS[name]
        self.points, self.edge, self.values = (
            torch.from_numpy(item).to(like) for item in (start.points, start.edge, start.values)
        )

    def __call__(self, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the loss of a network."""
        x = self.points.detach().requires_grad_()
        loss = sum((r.square().mean() for r in self.equation.nested(x, network(x))), x.new_zeros(()))
        misfit = network(self.edge)[:, : self.equation.given] - self.values
        return loss + misfit.square().mean(0).sum()


def reference(name: str, start: Start) -> tuple[float, NDArray[np.float64]]:
    """Return the loss and its gradient (P,) in float64."""
    network = tanh_network(start, torch.float64)
    loss = NestedLoss(name, start, next(network.parameters()))(network)
    loss.backward()
    return float(loss.detach()), flat_gradient(network)


def flat_gradient(network: nn.Module) -> NDArray[np.float64]:
    """Return the gradients of the parameters as one vector (P,)."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return torch.cat([p.reshape(-1) for p in parts]).double().cpu().numpy()


def _grad(u: Tensor, x: Tensor) -> Tensor:  # u (N,) -> (N, 2)
    (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return gradient


def _poisson(x: Tensor, y: Tensor) -> list[Tensor]:
    u = _grad(y[:, 0], x)
    laplacian = _grad(u[:, 0], x)[:, 0] + _grad(u[:, 1], x)[:, 1]
    return [laplacian + 2 * pi**2 * torch.sin(pi * x[:, 0]) * torch.sin(pi * x[:, 1])]


def _navier_stokes(x: Tensor, y: Tensor) -> list[Tensor]:
    u, v, p = (_grad(y[:, k], x) for k in range(3))
    out = []
    for k, w in enumerate((u, v)):
        laplacian = _grad(w[:, 0], x)[:, 0] + _grad(w[:, 1], x)[:, 1]
        out.append(y[:, 0] * w[:, 0] + y[:, 1] * w[:, 1] + p[:, k] - VISCOSITY * laplacian)
    return [*out, u[:, 0] + v[:, 1]]


def _kuramoto_sivashinsky(x: Tensor, y: Tensor) -> list[Tensor]:
    first = _grad(y[:, 0], x)
    second = _grad(first[:, 0], x)[:, 0]
    fourth = _grad(_grad(second, x)[:, 0], x)[:, 0]
    return [first[:, 1] + y[:, 0] * first[:, 0] + second + fourth]


def _lid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.where(x[:, 1] == 1, 1 - x[:, 0] ** 2, 0), np.zeros(len(x))], axis=1)


_ALL = ((0, -1.0), (0, 1.0), (1, -1.0), (1, 1.0))
EQUATIONS = {
    "laplacian2d": Equation(("u",), 1, _ALL, lambda x: np.zeros((len(x), 1)), _poisson),
    "navier-stokes2d": Equation(("u", "v", "p"), 2, _ALL, _lid, _navier_stokes),
    "fourth-order": Equation(("u",), 1, _ALL[:3], lambda x: -np.sin(pi * x[:, :1]), _kuramoto_sivashinsky),
}
