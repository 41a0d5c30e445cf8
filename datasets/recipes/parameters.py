"""The numbers of an equation, as the parameters of a dataset."""

from __future__ import annotations

import dataclasses
from typing import Any


def parameters_of(equation: Any) -> dict[str, float]:
    """Return the numeric fields of a dataclass by name, those of dataclasses inside it as outer_inner.

    >>> from ...operators.pde import Helmholtz
    >>> parameters_of(Helmholtz(20.0))
    {'wavenumber': 20.0, 'structures': 4.0}
    """
    found: dict[str, float] = {}
    for field in dataclasses.fields(equation):
        value = getattr(equation, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= {f"{field.name}_{name}": number for name, number in parameters_of(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[field.name] = float(value)
    return found
