"""Smooth activation functions with their derivatives, as polynomials of a few basis functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import NoDerivative

ORDERS = 5  # derivatives known: the four of a plan, and one more for the gradient in the parameters


class Activation(ABC):
    """A function s of one variable with its derivatives s_0 ... s_n.

    Attributes:
        name: by which settings call it.
        order: highest derivative for which the function can be used in a plan.
        code: by which the compiled passes (`kernels.py`) know its polynomials; 0 where they do not.
    """

    name: str
    order: int = 4
    code: int = 0

    @abstractmethod
    def value(self, z: Tensor) -> Tensor:
        """Return s(z) by an operation of torch that it can differentiate as often as needed."""

    @abstractmethod
    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the functions of z of which all derivatives are polynomials."""

    @abstractmethod
    def polynomials(self, basis: Any, order: int) -> list[Any]:
        """Return s_0 ... s_order from the basis; numbers, arrays and tensors alike."""

    @final
    def derivatives(self, z: Tensor, order: int) -> list[Tensor]:
        """Return s_0 ... s_order at z, each of the shape of z."""
        return self.polynomials(self.basis(z), order)

    @final
    def check(self, order: int) -> None:
        """Raise NoDerivative if a plan of this order cannot use the function."""
        if order > self.order:
            raise NoDerivative(
                f"{self.name} has no derivative of order {order} of any use, only up to {self.order}: "
                "use a smooth activation, for example tanh"
            )


@final
class Tanh(Activation):
    """tanh z: s_1 = 1 - s^2, s_2 = -2 s s_1, ..."""

    name = "tanh"
    code = 1

    def value(self, z: Tensor) -> Tensor:
        return torch.tanh(z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return (torch.tanh(z),)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        (t,) = basis
        if order == 0:
            return [t]
        q = t * t
        d = 1 - q
        found = [t, d]
        if order >= 2:
            found.append(-2 * t * d)
        if order >= 3:
            found.append(d * (6 * q - 2))
        if order >= 4:
            found.append(t * d * (16 - 24 * q))
        if order >= 5:
            found.append(d * (16 + q * (120 * q - 120)))
        return found


@final
class Sin(Activation):
    """sin z."""

    name = "sin"
    code = 2

    def value(self, z: Tensor) -> Tensor:
        return torch.sin(z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return torch.sin(z), torch.cos(z)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        s, c = basis
        return [(s, c, -s, -c)[k % 4] for k in range(order + 1)]


@final
class Cos(Activation):
    """cos z."""

    name = "cos"

    def value(self, z: Tensor) -> Tensor:
        return torch.cos(z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return torch.cos(z), torch.sin(z)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        c, s = basis
        return [(c, -s, -c, s)[k % 4] for k in range(order + 1)]


def _logistic(p: Any, order: int) -> list[Any]:
    """Return p and its derivatives for the logistic function p = 1 / (1 + exp(-z))."""
    if order == 0:
        return [p]
    d, c = p * (1 - p), 1 - 2 * p
    found = [p, d]
    if order >= 2:
        found.append(d * c)
    if order >= 3:
        found.append(d * (1 - 6 * d))
    if order >= 4:
        found.append(d * c * (1 - 12 * d))
    if order >= 5:
        found.append(d * (1 - d * (30 - 120 * d)))
    return found


@final
class SiLU(Activation):
    """z / (1 + exp(-z)), also called swish."""

    name = "silu"
    code = 3

    def value(self, z: Tensor) -> Tensor:
        return functional.silu(z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return z, torch.sigmoid(z)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        z, p = basis
        s = _logistic(p, order)
        return [z * p, *(z * s[k] + k * s[k - 1] for k in range(1, order + 1))]


@final
class Softplus(Activation):
    """log(1 + exp z)."""

    name = "softplus"
    code = 4

    def value(self, z: Tensor) -> Tensor:
        return functional.softplus(z, threshold=40.0)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return self.value(z), torch.sigmoid(z)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        value, p = basis
        return [value, *_logistic(p, order - 1)] if order else [value]


@final
class Gaussian(Activation):
    """exp(-z^2 / 2); s_(k + 1) = -(z s_k + k s_(k - 1)), Hermite's polynomials."""

    name = "gaussian"
    code = 5

    def value(self, z: Tensor) -> Tensor:
        return torch.exp(-0.5 * z * z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return z, self.value(z)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        z, value = basis
        found = [value]
        for k in range(order):
            found.append(-(z * found[k] + k * found[k - 1]) if k else -z * value)
        return found


@final
class Exp(Activation):
    """exp z."""

    name = "exp"

    def value(self, z: Tensor) -> Tensor:
        return torch.exp(z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return (torch.exp(z),)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        return [basis[0]] * (order + 1)


@final
class ReLU(Activation):
    """max(z, 0): it has a first derivative, none that is of use beyond."""

    name = "relu"
    order = 1

    def value(self, z: Tensor) -> Tensor:
        return torch.relu(z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return torch.relu(z), (z > 0).to(z)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        value, step = basis
        return [value, step, *([step * 0] * (order - 1))][: order + 1]


TANH, SIN, COS, SILU, SOFTPLUS, GAUSSIAN, EXP, RELU = (
    Tanh(),
    Sin(),
    Cos(),
    SiLU(),
    Softplus(),
    Gaussian(),
    Exp(),
    ReLU(),
)
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {a.name: a for a in (TANH, SIN, COS, SILU, SOFTPLUS, GAUSSIAN, RELU)}
)
