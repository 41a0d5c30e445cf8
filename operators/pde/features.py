"""Smooth random fields that can be evaluated at any point: no grid is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class PointField:
    """g(x) = F^(-1/2) sum_i a_i cos(w_i . x) + b_i sin(w_i . x).

    Args:
        waves: w, (F, d). cos: a, (F,). sin: b, (F,).
    """

    waves: Floats
    cos: Floats
    sin: Floats

    def __call__(
        self,
        points: Floats,  # (n, d)
    ) -> Floats:
        """Return the values at points, (n,)."""
        phase = points @ self.waves.T
        return (np.cos(phase) @ self.cos + np.sin(phase) @ self.sin) / np.sqrt(len(self.waves))


@final
@dataclass(frozen=True)
class FourierFeatures:
    """Draw smooth random fields of mean 0 and variance 1, with covariance exp(-|x - y|^2 / (2 length^2)).

    Wave vectors are normal with standard deviation 1 / length, amplitudes standard normal: the covariance
    holds exactly on average over draws, and a field is Gaussian given its waves.
    Source: Rahimi and Recht (2007).

    Args:
        length: over which values are alike; 0.1 to 1 times the size of the domain.
        features: F; with few, fields look like waves.

    Raises:
        ValueError: length <= 0 or no features.

    >>> g = FourierFeatures(0.3).draw(np.random.default_rng(0), 2)
    >>> g(np.zeros((4, 2))).shape
    (4,)
    """

    length: float = 0.3
    features: int = 128

    def __post_init__(self) -> None:
        if not self.length > 0 or self.features < 1:
            raise ValueError(f"needs length > 0 and features >= 1, got {self.length} and {self.features}")

    def draw(self, generator: np.random.Generator, dim: int) -> PointField:
        """Draw a field over `dim` dimensions."""
        waves = generator.standard_normal((self.features, dim)) / self.length
        cos, sin = generator.standard_normal((2, self.features))
        return PointField(waves, cos, sin)
