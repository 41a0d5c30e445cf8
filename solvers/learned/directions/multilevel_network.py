"""A linear U-net whose stencils vary from cell to cell: the multilevel successor of DCDM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

from torch import Tensor, nn
from torch.nn import functional

from .kernel_fields import kernel_fields
from .network import DirectionNetwork, with_ring, without_ring
from .stencils import CENTRE, smooth


@final
@dataclass(frozen=True)
class MultilevelConfig:
    """Settings of a `MultilevelNetwork`.

    Args:
        levels: coarsenings, 4 or 5 as published; boxes are padded to multiples of 2^levels.
        start: "additive": the untrained network is an additive multilevel preconditioner with Jacobi scaling;
            "random": the usual random weights, as published.

    Raises:
        ValueError: for no level, or another start.
    """

    levels: int = 4
    start: Literal["additive", "random"] = "additive"

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels is at least 1, got {self.levels}")
        if self.start not in ("additive", "random"):
            raise ValueError(f"start is 'additive' or 'random', got {self.start!r}")


@final
@dataclass(frozen=True)
class Kernels:
    """What the network made of an image: computed once per system.

    Attributes:
        pre, post: stencils per level, (B or 1, 27, *box); bottom: of the coarsest grid.
        keep, add: the fields c0, c1 per level, (B or 1, 1, *box).
    """

    pre: list[Tensor]
    post: list[Tensor]
    bottom: Tensor
    keep: list[Tensor]
    add: list[Tensor]


@final
class MultilevelNetwork(DirectionNetwork):
    """Propose directions by a U-net that is linear in the residual, with stencils made from the cells.

        y_i = K_pre_i x_{i-1},  x_i = pool(y_i)   (down);   x_l = K_bottom x_l
        x_{i-1} = c0_i y_i + c1_i K_post_i upsample(x_i)   (up)

    Every stencil K has 27 taps per cell, y[c] = sum_t K[t, c] x[c + t], and is a 3 x 3 x 3 convolution of the
    image of the cells (fluid, open, wall), which is averaged from grid to grid; so are the fields c0, c1. A
    direction costs some 60 multiplications per cell, a thousandth of `DCDMNetwork`. Not symmetric:
    for `ConjugateDirections` or `FlexibleCG`. (2 levels + 1) 2,214 + 164 levels parameters.

    Source: Lan et al., A neural-preconditioned Poisson solver for mixed Dirichlet and Neumann boundary
    conditions, ICML 2024, arXiv 2310.00177.

    >>> MultilevelNetwork().parameter_count, MultilevelNetwork(MultilevelConfig(5)).parameter_count
    (20582, 25174)
    """

    Config = MultilevelConfig
    linear = True

    def __init__(self, config: MultilevelConfig | None = None) -> None:
        config = config or MultilevelConfig()
        super().__init__(config)
        self.multiple = 2**config.levels

        def convolutions(count: int, taps: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv3d(3, taps, 3) for _ in range(count))

        self.pre, self.post = convolutions(config.levels, 27), convolutions(config.levels, 27)
        self.bottom = nn.Conv3d(3, 27, 3)
        self.keep, self.add = convolutions(config.levels, 1), convolutions(config.levels, 1)
        if config.start == "additive":
            self._start_additive()

    def _start_additive(self) -> None:
        """Make f(r) = sum_i 4^i / 6 P_i R_i r: R_i averages, P_i interpolates, 4 = (H / h)^2 per level."""
        for conv in [*self.pre, *self.post, self.bottom, *self.keep, *self.add]:
            assert isinstance(conv, nn.Conv3d)
            assert conv.bias is not None
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
            conv.bias.data[CENTRE if len(conv.bias) == 27 else 0] = 1.0
        for conv in [*self.keep, self.bottom]:
            conv.bias.data /= 6  # type: ignore[union-attr, operator]
        for conv in self.add:
            conv.bias.data *= 4  # type: ignore[union-attr, operator]

    def prepare(self, image: Tensor) -> Kernels:
        """Return the stencils and fields that belong to an image."""
        pre, post, keep, add = [], [], [], []
        for level in range(len(self.pre)):
            parts = (self.pre[level], self.post[level], self.keep[level], self.add[level])
            for fields, field in zip((pre, post, keep, add), kernel_fields(parts, image), strict=True):
                fields.append(field)
            inside, faces = without_ring(image)
            image = with_ring(functional.avg_pool3d(inside, 2), faces)
        (bottom,) = kernel_fields([self.bottom], image)
        return Kernels(pre, post, bottom, keep, add)

    def propose(self, r: Tensor, prepared: Any) -> Tensor:
        """Return directions (B, 1, X, Y, Z)."""
        kernels: Kernels = prepared
        x, fine = r, []
        for stencil in kernels.pre:
            fine.append(smooth(stencil, x))
            x = functional.avg_pool3d(fine[-1], 2)
        x = smooth(kernels.bottom, x)
        for level in reversed(range(len(fine))):
            up = functional.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
            x = kernels.keep[level] * fine[level] + kernels.add[level] * smooth(kernels.post[level], up)
        return x
