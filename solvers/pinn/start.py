"""The start of a training from the values that are prescribed at the first time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .errors import NotFinite
from .model import Model
from .problem import BoundaryProblem, Term
from .where import AtTime

COUNT = 4096  # points of the fit, several times the width of usual networks


@runtime_checkable
class FitsLast(Protocol):
    """A network whose last layer can be set by least squares, such as that of `PirateNet`."""

    def fit_last(self, points: Tensor, values: Tensor, columns: Sequence[int]) -> None:
        """Set the last layer such that some outputs at points (M, D) are values (M, C)."""
        ...


def start_from_initial_values(model: Model, seed: int) -> None:
    """Set the last layer of a network such that it equals the initial values at all times.

    The values of `Initial` conditions at points of the domain are repeated at random times. Networks that
    cannot be set so stay as they were built; so do outputs without initial values, or with initial values
    that depend on unknown coefficients, and those with a form that satisfies conditions exactly, `Hard`.

    Args:
        model: a problem and its network, which is changed.
        seed: draws the points, which are not those of the training.

    Raises:
        NotFinite: an initial value is NaN or infinite.

    Source: Wang, Li, Chen, Perdikaris (2024).
    """
    network, problem = model.network, model.problem
    terms = _starts(problem)
    if not isinstance(network, FitsLast) or not terms or problem.time is None:
        return
    generator = np.random.default_rng([2, seed])
    where = next(iter(terms.values())).block.where
    points = torch.as_tensor(where.draw(COUNT, generator).points)
    values = torch.stack([_values(problem, term, points) for term in terms.values()], dim=1)
    points[:, -1] = torch.as_tensor(generator.uniform(*problem.time, size=len(points)))
    like = model.start()
    network.fit_last(points.to(like), values.to(like), [problem.outputs.index(name) for name in terms])


def _starts(problem: BoundaryProblem) -> dict[str, Term]:
    """Return the terms that prescribe values at the start, by output."""
    found: dict[str, Term] = {}
    for term in problem.terms:
        block = term.block
        if isinstance(block.where, AtTime) and block.order == 0 and block.prescribed is not None:
            found |= {name: term for name in block.of if name not in problem.constraint}
    return found


def _values(problem: BoundaryProblem, term: Term, points: Tensor) -> Tensor:
    """Return the values of a term at points (N, D), (N,)."""
    prescribed = term.block.prescribed
    assert prescribed is not None
    given: dict[str, Any] = {name: points[:, i] for i, name in enumerate(problem.coordinates)}
    values = prescribed(given | {"points": points}, len(points)).detach().expand(len(points))
    if not torch.isfinite(values).all():
        at = points[~torch.isfinite(values)][0].tolist()
        said = ", ".join(f"{c} = {v:.4g}" for c, v in zip(problem.coordinates, at, strict=True))
        raise NotFinite(f"{term.block.name}: the value is not finite at {said}: mend its functions there")
    return values
