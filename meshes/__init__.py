"""Grids and meshes."""

from .grid import Boundary, Centring, Grid

__all__ = ["Boundary", "Centring", "Grid"]
