"""Datasets: linear systems and fields in files."""

from .systems import list_systems, load_system, made_solution, read_solution, read_system, write_systems

__all__ = ["list_systems", "load_system", "made_solution", "read_solution", "read_system", "write_systems"]
