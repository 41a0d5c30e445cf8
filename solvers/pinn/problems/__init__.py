"""Boundary value problems that others defined, by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from .base import FemAnswer, NamedProblem, NoReference, Reference, reference_file

PROBLEMS: Mapping[str, str] = {
    "burgers1d-c": "burgers1d_c:BURGERS1D_C",
    "poisson2d-c": "poisson2d_c:POISSON2D_C",
    "poisson2d-cg": "poisson2d_cg:POISSON2D_CG",
    "heat2d-ms": "heat2d_ms:HEAT2D_MS",
    "heat2d-lt": "heat2d_lt:HEAT2D_LT",
    "ns2d-c": "ns2d_c:NS2D_C",
    "ns2d-cg": "ns2d_cg:NS2D_CG",
    "wave1d-c": "wave1d_c:WAVE1D_C",
    "pnd": "pnd:PND",
    "hnd": "hnd:HND",
    "pinv": "pinv:PINV",
    "hinv": "hinv:HINV",
    "helmholtz2d": "helmholtz2d:HELMHOLTZ2D",
}
"""Files and names in them, of the problems of the PINNacle benchmark that can be used."""


class NoSuchProblem(KeyError):
    """A name that no problem has."""

    def __str__(self) -> str:
        return str(self.args[0])


def problem_named(name: str) -> NamedProblem:
    """Return a problem by its name; only its file is imported.

    Raises:
        NoSuchProblem: there is none of this name.

    >>> problem_named("poisson2d-c").parameters["scale"]
    1.0
    """
    if name not in PROBLEMS:
        raise NoSuchProblem(f"there is no problem {name!r}: there are {', '.join(PROBLEMS)}")
    file, _, attribute = PROBLEMS[name].partition(":")
    return getattr(import_module(f".{file}", __package__), attribute)


__all__ = [
    "PROBLEMS",
    "FemAnswer",
    "NamedProblem",
    "NoReference",
    "NoSuchProblem",
    "Reference",
    "problem_named",
    "reference_file",
]
