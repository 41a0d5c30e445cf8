"""Functions of tensors for arrays, that a formula is written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def in_numpy(function: Callable[..., Tensor]) -> Callable[..., Floats]:
    """Return the function for arrays instead of tensors, in float64; keyword arguments are passed on.

    >>> in_numpy(torch.sin)(np.zeros(2)).tolist()
    [0.0, 0.0]
    """

    def of_arrays(*arrays: Floats, **settings: Any) -> Floats:
        tensors = [torch.tensor(a, dtype=torch.float64) for a in arrays]
        return function(*tensors, **settings).numpy()

    return of_arrays
