"""What can be wrong with a boundary value problem, by name."""

from __future__ import annotations


class BadProblem(ValueError):
    """A boundary value problem that cannot be posed as it is given."""


class UnknownName(BadProblem):
    """An argument or an output that the problem does not have."""


class WrongShape(BadProblem):
    """A residual or a value of another shape than one number per point."""


class NotFinite(BadProblem):
    """NaN or infinity from a function of the problem, or during training."""


class NoDerivative(BadProblem):
    """A derivative that the network cannot give."""


class NoPoints(BadProblem):
    """A condition that holds nowhere, or a domain without interior."""


class Contradiction(BadProblem):
    """Two conditions that demand different values at the same place."""
