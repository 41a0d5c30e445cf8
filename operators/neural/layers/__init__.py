"""Layers of neural operators."""

from .boundary_convolution import BoundaryConvolution, Prolongation, boundary_sides
from .channels import ChannelMLP, PointwiseLinear
from .coordinates import append_coordinates
from .padding import DomainPadding
from .spectral import (
    DenseWeight,
    SpectralConvolution,
    SpectralWeight,
    weight_from_blocks,
    weight_from_centred,
)
from .vcycle import CycleSettings, VCycle

__all__ = [
    "BoundaryConvolution",
    "ChannelMLP",
    "CycleSettings",
    "DenseWeight",
    "DomainPadding",
    "PointwiseLinear",
    "Prolongation",
    "SpectralConvolution",
    "SpectralWeight",
    "VCycle",
    "append_coordinates",
    "boundary_sides",
    "weight_from_blocks",
    "weight_from_centred",
]
