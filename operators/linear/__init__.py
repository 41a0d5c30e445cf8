"""Linear operators: sparse, matrix-free, and what is made of them."""

from .algebra import Diagonal, Identity, Product, Scaled, Sum
from .base import SPD, SYMMETRIC, LinearOperator, Tag
from .csr import CSR, infer_tags, sparse
from .diffusion import Diffusion
from .errors import (
    DisconnectedDomain,
    IncompatibleSystem,
    MixedDevices,
    MixedDtypes,
    NonFinite,
    NotSupported,
    ShapeMismatch,
    ZeroDiagonal,
)
from .nullspace import Constants, NullSpace, Span
from .queries import dense, diagonal, to_petsc, to_scipy, to_scipy_operator

__all__ = [
    "CSR",
    "SPD",
    "SYMMETRIC",
    "Constants",
    "Diagonal",
    "Diffusion",
    "DisconnectedDomain",
    "Identity",
    "IncompatibleSystem",
    "LinearOperator",
    "MixedDevices",
    "MixedDtypes",
    "NonFinite",
    "NotSupported",
    "NullSpace",
    "Product",
    "Scaled",
    "ShapeMismatch",
    "Span",
    "Sum",
    "Tag",
    "ZeroDiagonal",
    "dense",
    "diagonal",
    "infer_tags",
    "sparse",
    "to_petsc",
    "to_scipy",
    "to_scipy_operator",
]
