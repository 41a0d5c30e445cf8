"""Datasets: made by recipes, checked, converted, loaded; linear systems in files.

The names used most are here. The rest is in `recipes` (what a sample is), `generation` (how files are made),
`formats` (whose files they are), `loading` (pairs for training, metrics), `checking` and `unstructured`.
"""

from .checking.check import check
from .checking.fault import Fault
from .formats.arrays import from_arrays
from .formats.convert import convert
from .formats.open import open_source
from .formats.well import WellFile, write_well
from .generation.generate import Options, generate
from .generation.manifest import Manifest, read_manifest
from .layout import Layout, Role, Variable
from .loading.folder import FolderSource
from .loading.load import FieldDataset, Loading
from .loading.window import Window
from .recipe import Recipe, Solved
from .recipes.registry import recipe_named
from .recipes.steady import Steady
from .recipes.trajectories import Trajectories
from .source import Source
from .systems import list_systems, load_system, made_solution, read_solution, read_system, write_systems
from .unstructured.mesh_data import MeshFile, MeshFolder, MeshSample

__all__ = [
    "Fault",
    "FieldDataset",
    "FolderSource",
    "Layout",
    "Loading",
    "Manifest",
    "MeshFile",
    "MeshFolder",
    "MeshSample",
    "Options",
    "Recipe",
    "Role",
    "Solved",
    "Source",
    "Steady",
    "Trajectories",
    "Variable",
    "WellFile",
    "Window",
    "check",
    "convert",
    "from_arrays",
    "generate",
    "list_systems",
    "load_system",
    "made_solution",
    "open_source",
    "read_manifest",
    "read_solution",
    "read_system",
    "recipe_named",
    "write_systems",
    "write_well",
]
