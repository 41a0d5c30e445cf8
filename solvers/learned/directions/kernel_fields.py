"""Numbers per cell from the image of the cells: several convolutions at once, most cells for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import FLUID
from .stencils import OFFSETS


def kernel_fields(convolutions: Iterable[nn.Module], image: Tensor) -> list[Tensor]:
    """Return conv(image) for 3 x 3 x 3 convolutions of one image (B, 3, X + 2, Y + 2, Z + 2).

    Far from walls and obstacles the image does not vary, so the outputs do not either. Without gradients
    the convolutions are evaluated once for all such cells of fluid, and one by one for the others.
    """
    convs = [cast(nn.Conv3d, conv) for conv in convolutions]
    weight = torch.cat([conv.weight for conv in convs])
    bias = torch.cat([cast(Tensor, conv.bias) for conv in convs])
    tracked = torch.is_grad_enabled() and weight.requires_grad
    out = (
        functional.conv3d(image, weight, bias) if tracked or len(image) > 1 else _by_kind(weight, bias, image)
    )
    return [part.contiguous() for part in out.split([conv.out_channels for conv in convs], dim=1)]


def _by_kind(weight: Tensor, bias: Tensor, image: Tensor) -> Tensor:
    shape = [n - 2 for n in image.shape[2:]]
    open_water = image[0, FLUID] == 1
    for axis in range(3):
        n = shape[axis]
        left, middle, right = (open_water.narrow(axis, start, n) for start in range(3))
        open_water = left & middle & right
    others = (~open_water).nonzero()  # (k, 3), of the box
    _, ny, nz = image.shape[2:]
    strides = torch.tensor([ny * nz, nz, 1], device=image.device)
    taps = torch.tensor(OFFSETS, device=image.device) @ strides  # (27,)
    patches = image[0].flatten(1)[:, (others @ strides)[:, None] + taps]  # (3, k, 27)
    values = torch.addmm(bias, patches.transpose(0, 1).flatten(1), weight.flatten(1).T)
    out = (bias + weight[:, FLUID].sum((1, 2, 3)))[:, None].repeat(1, open_water.numel())
    out[:, (~open_water).flatten().nonzero()[:, 0]] = values.T
    return out.view(1, -1, *shape)
