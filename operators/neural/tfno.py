"""Fourier neural operators with factorised spectral weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from .base import WrongSettings
from .fno import FNO, FNOConfig
from .layers.factorised import FORMS, Execution, Form, Rank, factorised
from .layers.spectral import WeightFactory


@dataclass(frozen=True)
class TFNOConfig(FNOConfig):
    """Settings of a tensorised Fourier neural operator: those of FNO, and how its spectral weights are kept.

    Attributes:
        form: "tucker", "cp" or "tt" (tensor train).
        rank: the fraction of the dense weight's numbers that the factors hold, above 0 up to 1; or explicit
            ranks, in the order (in, out, *frequencies): Tucker one per axis, CP one, tensor train one between
            axes.
        execution: "factorised" multiplies fields by the factors; "reconstructed" builds the dense weight
            first. The results are equal; which is faster depends on batch and ranks.
        separable: one number per channel and frequency, no mixing of channels.
    """

    form: Form = "tucker"
    rank: Rank = 0.1
    execution: Execution = "factorised"
    separable: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise WrongSettings(f"form is one of {', '.join(FORMS)}; got {self.form!r}")
        if self.execution not in ("factorised", "reconstructed"):
            raise WrongSettings(f"execution is factorised or reconstructed, got {self.execution!r}")
        if self.block == "factorised" and isinstance(self.rank, tuple):
            raise WrongSettings("the factorised block has weights of one axis each: give rank as a fraction")


@final
class TFNO(FNO):
    """Map fields to fields as FNO does, with spectral weights kept as products of small tensors.

    (B, in_channels, *space) -> (B, out_channels, *space). At equal memory it affords more modes.

    Source: Kossaifi et al. (2024), Multi-grid tensorized Fourier neural operator for high-resolution PDEs.
    Good values: `form="tucker"`, rank 0.05 to 0.2, as many modes as half the points; AdamW at 3e-4 with
    weight decay 1e-4.

    >>> import torch
    >>> model = TFNO(TFNOConfig(1, 1, (8, 8), width=16, rank=0.1))
    >>> model(torch.zeros(2, 1, 16, 17)).shape
    torch.Size([2, 1, 16, 17])
    """

    Config: ClassVar[type] = TFNOConfig

    def spectral_weight(self) -> WeightFactory:
        """Return what makes the factorised multipliers."""
        c = self.config
        assert isinstance(c, TFNOConfig)  # the base class has refused others
        return factorised(c.form, c.rank, c.execution, separable=c.separable)
