"""Weights from the neural tangent kernel: groups that learn slowly weigh more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...optim.base import State
from .base import View, Weighting, blend, check_every, check_keep, finite, of_kind


@final
@dataclass(frozen=True)
class NTK(Weighting):
    """Weight all groups such that their residuals decay at one mean rate.

    w_k = sum_j t_j / t_k,  t_k = tr(K_k) / N_k,  K_k = J_k J_k^T   (N_k, N_k), the tangent kernel of group k

    J_k is the Jacobian of the group's residuals. The trace is the mean of |J_k^T s|^2 over random signs s:
    exact in the mean, one backward pass for each, and a relative spread of at most sqrt(2 / probes), which
    `keep` averages out. A group without gradient keeps its weight.

    Args:
        every: steps between two updates.
        probes: vectors of random signs for each group.
        keep: share of the old weights.

    Source: Wang, Yu, Perdikaris (2022), "When and why PINNs fail to train: a neural tangent kernel
    perspective", algorithm 1; per point, so that the weights suit losses that are means.

    >>> NTK(probes=64).start(2, torch.empty(0))["weights"]
    tensor([1., 1.])
    """

    every: int = 100
    probes: int = 8
    keep: float = 0.9

    def __post_init__(self) -> None:
        check_every(self.every)
        check_keep(self.keep)
        if self.probes < 1:
            raise ValueError(f"the trace needs at least 1 probe, got {self.probes}")

    def update(self, state: State, view: View) -> Tensor:
        traces = finite(
            torch.stack([self._trace(view, k) for k in range(len(view.kinds))]), "the kernel's trace"
        )
        state["weights"] = blend(state["weights"], traces.sum() / traces, self.keep)
        return state["weights"]

    def _trace(self, view: View, k: int) -> Tensor:
        """Return an estimate of tr(K_k) / N_k."""
        like = view.residuals(k).detach()
        total = like.new_zeros(())
        for _ in range(self.probes):
            bits = torch.randint(0, 2, like.shape, generator=view.generator, device=view.generator.device)
            total += view.pull(k, 2 * bits.to(like) - 1).square().sum()
        return total / (self.probes * max(1, like.numel()))


@final
@dataclass(frozen=True)
class NTKPinnacle(Weighting):
    """Weight equations and conditions as the benchmark PINNacle codes NTK: by gradients of summed residuals.

    w_r = (t_r + t_b) / t_r,  w_b = (t_r + t_b) / t_b,  t = |grad sum of all residuals|^2

    Residuals of opposite sign cancel in t, which is no trace of the tangent kernel. For comparisons with that
    benchmark only; the published method is `NTK`.

    Source: Hao et al. (2024), code of PINNacle.

    >>> NTKPinnacle().every
    1
    """

    every: int = 1

    def __post_init__(self) -> None:
        check_every(self.every)

    def update(self, state: State, view: View) -> Tensor:
        equations, conditions = of_kind(view, "equation"), of_kind(view, "condition")
        if not equations or not conditions:
            raise ValueError(
                f"NTKPinnacle weights equations against conditions, the groups are {view.kinds}: use NTK"
            )
        pulled = [view.pull(k, torch.ones_like(view.residuals(k).detach())) for k in range(len(view.kinds))]
        rows = finite(torch.stack(pulled), "the gradient of the sum of the residuals")
        sizes = torch.stack([rows[equations].sum(0).square().sum(), rows[conditions].sum(0).square().sum()])
        new = sizes.sum() / sizes
        places = [0 if kind == "equation" else 1 for kind in view.kinds]
        state["weights"] = blend(state["weights"], new[places], 0.0)
        return state["weights"]
