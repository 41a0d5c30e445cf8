"""The numbers of an equation, as the parameters of a dataset."""

from __future__ import annotations

import dataclasses
from typing import Any


def parameters_of(equation: Any) -> dict[str, float]:
    """Return the numeric fields of a dataclass by name.

    >>> from ...operators.pde import Poisson
    >>> "structures" in parameters_of(Poisson())
    True
    """
    values = {f.name: getattr(equation, f.name) for f in dataclasses.fields(equation)}
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
