"""A trained network as a solver of discretised equations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ...meshes.grid import Grid
from ...operators.linear.errors import NotSupported, ShapeMismatch
from ...operators.neural.base import WrongChannels, WrongResolution
from ...operators.pde.base import Equation, Fields
from ...operators.pde.boundary import FaceData
from ..base import Iterate, Solver
from ..system import LinearSystem
from ..training.surrogate import Surrogate


@final
class FieldSystem(LinearSystem):
    """The linear system of an equation on a grid, which remembers the fields that it was made of.

    Args:
        equation: what is discretised.
        grid: where.
        fields: one tensor per input of the equation, (*shape) or (B, *shape).
        boundary: values on faces that are not homogeneous.

    Raises:
        KeyError, ShapeMismatch, MixedDtypes: as `Equation.problem`; and what `LinearSystem` raises.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.pde import Poisson
    >>> FieldSystem(Poisson(), Grid((8, 8)), {"source": torch.ones(8, 8, dtype=torch.float64)}).n
    64
    """

    def __init__(
        self, equation: Equation, grid: Grid, fields: Fields, boundary: FaceData | None = None
    ) -> None:
        super().__init__(*equation.problem(grid, fields, boundary))
        self.equation, self.grid = equation, grid
        self.fields = {spec.name: torch.as_tensor(fields[spec.name]) for spec in equation.inputs}


@final
@dataclass(frozen=True)
class Neural(Solver):
    """Predict the solution by a network, in one step, and report its true residual.

    x = surrogate(fields). A prediction does not converge by itself: put it in front of a method that does,
    `Chain(Neural(surrogate), CG(multigrid()))`, or pass throw=False and read `result.residual`.

    The network must have been trained on the same equation, conditions and, for most networks, spacing: what
    is trained on `generate`d data of a recipe knows its input fields by the names that the equation has.

    Args:
        surrogate: maps the input fields, channels in the order of `signature.inputs`, to the one output.

    Raises:
        NotSupported: the problem is no `FieldSystem`.
        WrongChannels: the problem has not the fields of the surrogate.
        WrongResolution: the fields do not all sit at the unknowns, or the grid does not suit the network.
        ShapeMismatch: the network gives something else than one value per unknown.
    """

    surrogate: Surrogate

    def check(self, problem: Any) -> None:
        """Reject problems that carry no fields, or others than the surrogate takes."""
        if not isinstance(problem, FieldSystem):
            raise NotSupported(
                "Neural predicts from the input fields of an equation, which "
                f"{type(problem).__name__} does not carry: pose FieldSystem(equation, grid, fields), or use "
                "CG or another method that needs the matrix alone"
            )
        missing = [name for name in self.surrogate.signature.inputs if name not in problem.fields]
        if missing or not self.surrogate.signature.inputs:
            wanted = ", ".join(self.surrogate.signature.inputs) or "channels without names"
            raise WrongChannels(
                f"the surrogate takes {wanted}; the problem has {', '.join(problem.fields)}: train one on "
                "data of this equation, or name its channels in Signature(inputs=...)"
            )

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield the start, then the prediction."""
        yield x, problem.residual_norm(x)
        u = self._solution(problem, x)
        yield u, problem.residual_norm(u)

    def _solution(self, problem: FieldSystem, x: Tensor) -> Tensor:
        """Return the prediction as a vector of unknowns, (..., n)."""
        shape = problem.grid.shape
        channels = []
        for name in self.surrogate.signature.inputs:
            field = problem.fields[name].detach().to(x)
            if tuple(field.shape[-len(shape) :]) != shape:
                raise WrongResolution(
                    f"the field {name} has the shape {tuple(field.shape)}, the unknowns {shape}: a network "
                    "takes fields on one set of points, so use a cell-centred grid"
                )
            channels.append(field.expand(*problem.batch_shape, *shape).reshape(-1, *shape))
        inputs = torch.stack(channels, dim=1)  # (B, C, *shape)
        u = self.surrogate.predict(inputs)
        if tuple(u.shape) != (len(inputs), 1, *shape):
            raise ShapeMismatch(
                f"the network gives {tuple(u.shape)} for inputs {tuple(inputs.shape)}, needed is "
                f"{(len(inputs), 1, *shape)}, one value per unknown: use a network with one output"
            )
        return u.reshape(x.shape).contiguous()
