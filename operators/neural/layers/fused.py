"""When derivatives written by hand may stand in for those that torch derives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def fusible(*tensors: Tensor | None) -> bool:
    """Return whether an `autograd.Function` may be used on these tensors.

    Not while a graph is traced (compile, export, ONNX), inside transforms of `torch.func`, under autocast, or
    with a tangent of forward-mode differentiation, nor on devices that lack some operations: there the same
    result comes from plain ones.

    >>> fusible(torch.ones(2))
    True
    """
    given = [t for t in tensors if t is not None]
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or any(t.device.type not in ("cpu", "cuda") for t in given[:1])
        or any(torch.is_autocast_enabled(t.device.type) for t in given[:1])
        or any(forward_ad.unpack_dual(t).tangent is not None for t in given)
    )
