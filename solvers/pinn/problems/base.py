"""What a named problem is: its definition, a reference, a recipe, and the classical method beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..problem import BoundaryProblem
from ..solver import PINN

Floats = NDArray[np.float64]


class NoReference(FileNotFoundError):
    """Reference data that are not there."""


@final
@dataclass(frozen=True)
class Reference:
    """Values to compare with.

    Attributes:
        points: (M, D), the coordinates, time last.
        values: (M, C), the outputs that are known.
        outputs: their names, C of them.
        floor: relative L2 error of the reference itself; 0 where it is exact up to rounding, NaN where it has
            not been measured.
        source: where it comes from, in a line.
    """

    points: Floats
    values: Floats
    outputs: tuple[str, ...]
    floor: float
    source: str


@final
@dataclass(frozen=True)
class FemAnswer:
    """What a classical method answers.

    Attributes:
        at: values (M, C) of the outputs of the reference at points (M, D).
        unknowns: of the discretisation (times steps, where there is time).
        seconds: mesh, assembly and solve.
        method: in a line.
    """

    at: Callable[[Floats], Floats]
    unknowns: int
    seconds: float
    method: str


@final
@dataclass(frozen=True)
class NamedProblem:
    """A boundary value problem that others defined.

    Attributes:
        says: what it is, in a line.
        make: the problem, from keyword parameters with defaults.
        reference: values to compare with, from the same parameters.
        recipe: how we train it best.
        fem: the classical method: (n, **parameters), n the resolution; its default is `fem_n`.
        published: best published relative L2 error; None where there is none.
        goal: ours.
        parameters: what may be set, with defaults. `hard`, where it is one of them, says whether conditions
            are built into the form of the functions, as the recipe wants it, or all in the loss.
    """

    says: str
    make: Callable[..., BoundaryProblem]
    reference: Callable[..., Reference]
    recipe: Callable[[], PINN]
    fem: Callable[..., FemAnswer]
    fem_n: int
    published: float | None
    goal: float
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def defaults(self, *, recipe: bool) -> dict[str, Any]:
        """Return the parameters; trainings other than the recipe have all conditions in the loss."""
        soft = {} if recipe or "hard" not in self.parameters else {"hard": False}
        return {**self.parameters, **soft}


def reference_file(name: str) -> Path:
    """Return the path of a file of the PINNacle references.

    It is looked for in the folder pinnacle/ of SOLVUS_REFERENCE, if that is set, else of shared/reference in
    every folder above this file.

    Raises:
        NoReference: it is not there; the message says where it was looked for.
    """
    given = os.environ.get("SOLVUS_REFERENCE")
    if given:
        place = Path(given) / "pinnacle" / name
        if place.is_file():
            return place
        raise NoReference(
            f"{name} was not found in {place.parent}, where SOLVUS_REFERENCE={given} says to look: put the "
            "file there, or set SOLVUS_REFERENCE to the folder that holds pinnacle/ with it"
        )
    above = Path(__file__).parents
    for folder in above:
        place = folder / "shared" / "reference" / "pinnacle" / name
        if place.is_file():
            return place
    raise NoReference(
        f"{name} was not found: SOLVUS_REFERENCE is not set, and shared/reference/pinnacle/{name} is in none "
        f"of {', '.join(map(str, above))}: set SOLVUS_REFERENCE to the folder that holds pinnacle/"
    )
