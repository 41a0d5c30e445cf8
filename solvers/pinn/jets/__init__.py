"""Jets: values and derivatives carried together through a network, in place of nested differentiation."""

from .activations import ACTIVATIONS, Activation
from .jet import Affine, Jet, coordinates
from .nested import nested
from .plan import HIGHEST, Key, Plan
from .rules import activate, add, concatenate, layers, linear, product, scale, subtract

__all__ = [
    "ACTIVATIONS",
    "HIGHEST",
    "Activation",
    "Affine",
    "Jet",
    "Key",
    "Plan",
    "activate",
    "add",
    "concatenate",
    "coordinates",
    "layers",
    "linear",
    "nested",
    "product",
    "scale",
    "subtract",
]
