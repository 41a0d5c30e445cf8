"""Fast transforms: direct solves of constant-coefficient diffusion on boxes, and a preconditioner for the rest."""

from .preconditioner import fast_transform
from .solver import FastTransform
from .transforms import Backend

__all__ = ["Backend", "FastTransform", "fast_transform"]
