"""What every network for a physics-informed solution is: a function of points that gives its derivatives."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor, nn

from ..errors import BadProblem, NoDerivative, WrongShape
from ..jets import Affine, Jet, Plan, coordinates
from ..jets.jet import written_out

VALUE = Plan()

Box = tuple[Tensor, Tensor]
"""Lower and upper corner of what the points lie in, (D,) each."""


class WrongBox(BadProblem):
    """A box that is empty, or not finite."""


class WrongSettings(BadProblem):
    """Settings of a network that are unknown, or do not go together."""


class Network(nn.Module, ABC):
    """A function of D coordinates with W outputs, and its derivatives up to order 4.

    It works under `torch.func.functional_call`, `vmap(grad)`, `jacrev`, double backward and `torch.compile`.

    Attributes:
        inputs: coordinates, D.
        outputs: functions, W.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs

    @abstractmethod
    def propagate(self, x: Affine) -> Jet | Affine:
        """Return the outputs for the coordinates."""

    @overload
    def forward(self, x: Tensor, plan: None = None) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, plan: Plan) -> Jet: ...
    def forward(self, x: Tensor, plan: Plan | None = None) -> Tensor | Jet:
        """Return the outputs at points x (N, D): (N, W), or with the derivatives of a plan, a jet.

        Raises:
            WrongShape: x has not D columns.
            NoDerivative: the plan asks for a coordinate, or an order, that the network does not have.
        """
        check_points(x, self.inputs, plan, type(self).__name__)
        if plan is None:
            return written_out(self.propagate(coordinates(x, VALUE))).value
        return written_out(self.propagate(coordinates(x, plan)))


def check_points(x: Tensor, inputs: int, plan: Plan | None, name: str) -> None:
    """Raise WrongShape or NoDerivative for points or a plan that do not fit a network."""
    if x.ndim != 2 or x.shape[1] != inputs:
        raise WrongShape(
            f"{name} takes points (N, {inputs}), got {tuple(x.shape)}: give {inputs} coordinates per point, "
            "or build the network for these"
        )
    if plan is not None and plan.coordinates and plan.coordinates[-1] >= inputs:
        raise NoDerivative(
            f"the plan asks for a derivative by coordinate {plan.coordinates[-1]}, {name} has coordinates 0 "
            f"to {inputs - 1}"
        )


@dataclass(frozen=True)
class Architecture(ABC):
    """Settings of a network: plain values, from which it is built for a box of points."""

    def build(
        self,
        inputs: int,
        outputs: int,
        box: Box,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
    ) -> Network:
        """Return a network with weights drawn from the generator alone, on the device of the box.

        Args:
            inputs: coordinates, D.
            outputs: functions.
            box: lower and upper corner of the points, (D,) each.
            generator: draws the weights.
            dtype: of weights and points.

        Raises:
            WrongBox: the box is empty or not finite, or of another dimension.
            WrongSettings: the settings do not go together.
        """
        lower, upper = box
        for corner in box:
            if corner.shape != (inputs,):
                raise WrongBox(f"the corners of the box are ({inputs},), got {tuple(corner.shape)}")
        if not bool(torch.isfinite(lower).all() and torch.isfinite(upper).all()):
            raise WrongBox(f"the box must be finite, got {lower.tolist()} to {upper.tolist()}")
        if not bool((lower < upper).all()):
            raise WrongBox(
                f"the box from {lower.tolist()} to {upper.tolist()} is empty: every lower bound must be "
                "below its upper one"
            )
        if inputs < 1 or outputs < 1:
            raise WrongSettings(f"a network has inputs and outputs, got {inputs} and {outputs}")
        return self.make(inputs, outputs, (lower.to(dtype), upper.to(dtype)), generator)

    @abstractmethod
    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        """Return the network for a box that has been checked, with its dtype; `build` calls this."""

    def values(self) -> dict[str, Any]:
        """Return the settings as JSON values, from which `architecture_from` makes the same ones."""
        return plain(self)


def plain(settings: Any) -> Any:
    """Return settings as JSON values; a dataclass becomes a dict with its name under `kind`."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        fields = {f.name: plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
        return {"kind": type(settings).__name__, **fields}
    if isinstance(settings, list | tuple):
        return [plain(s) for s in settings]
    if isinstance(settings, dict):
        return {str(k): plain(v) for k, v in settings.items()}
    return settings


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers, drawn on the generator's device, of the dtype and device of `like`."""
    drawn = torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)
