"""Fast transforms: direct solver of constant-coefficient diffusion on boxes, preconditioner for the rest."""

from .preconditioner import fast_transform
from .solver import FastTransform
from .transforms import Backend

__all__ = ["Backend", "FastTransform", "fast_transform"]
