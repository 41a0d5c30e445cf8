"""The numbers of an equation, as the parameters of a dataset."""

from __future__ import annotations

import dataclasses
from typing import Any


def parameters_of(equation: Any) -> dict[str, float]:
    """Return the numeric fields of a dataclass by name, those inside a dataclass or tuple as outer_inner.

    >>> from ...operators.pde import Helmholtz
    >>> parameters_of(Helmholtz(20.0))
    {'wavenumber': 20.0, 'structures': 4.0}
    """
    values = {field.name: getattr(equation, field.name) for field in dataclasses.fields(equation)}
    for name, value in list(values.items()):
        if isinstance(value, tuple):
            values |= {f"{name}_{i}": part for i, part in enumerate(value)}
    found: dict[str, float] = {}
    for outer, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= {f"{outer}_{name}": number for name, number in parameters_of(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[outer] = float(value)
    return found
