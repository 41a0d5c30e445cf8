"""MultiAdam for training loops of one's own: a `torch.optim.Optimizer` whose step takes the losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from .first_order import Betas, refuse_infinite
from .multiadam import MultiAdamRule, multiadam_update


@final
class MultiAdamTorch(Optimizer):
    """Step along the normalised directions of several losses: `step([loss_1, ..., loss_n])`.

    The update is that of `MultiAdam`. Compute every loss from its own batch: then the graphs are disjoint and
    all gradients cost one backward pass; losses that share a graph work too, at n backward passes. There is
    no `backward()` to call and no `.grad` to clear. A parameter that a loss does not depend on gets a zero
    gradient from it; one with requires_grad=False stays where it is. State is on the device and in the
    type of the parameters.

    Args:
        params: parameters, or dictionaries of parameters and settings, as for every optimiser of torch.
        lr: learning rate; schedulers of torch may change it.
        betas, eps, weight_decay, amsgrad: see `MultiAdam`.
        group_weights: of the losses; None is 1 / n.
        agg_betas: decays of a second Adam over the sum of the groups; None is without. The first steps are
            then 100, 48, 31, ... times `lr` long (see `MultiAdam`): warm up, by a scheduler of torch that
            starts from `lr` / 100.

    Raises:
        ValueError: settings out of range; parameters of several types or devices in one group.

    Source: Yao et al. (2023), arXiv 2306.02816.

    >>> model = torch.nn.Linear(2, 1)
    >>> optimiser = MultiAdamTorch(model.parameters(), lr=1e-2)
    >>> x, y = torch.ones(4, 2), torch.zeros(3, 2)
    >>> for _ in range(500):
    ...     losses = optimiser.step([100 * (model(x) - 1).square().mean(), model(y).square().mean()])
    >>> bool((model(x) - 1).abs().max() < 0.2)
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Betas = (0.99, 0.99),
        *,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        group_weights: Sequence[float] | None = None,
        agg_betas: Betas | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "group_weights": None if group_weights is None else tuple(group_weights),
                "agg_betas": agg_betas,
            },
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own, checked."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _rule(group)
            if not group["lr"] >= 0:
                raise ValueError(f"lr is at least 0, got {group['lr']}")
            kinds = {(p.dtype, p.device) for p in group["params"]}
            if len(kinds) > 1:
                raise ValueError(
                    "the parameters of one group have one type and one device, got "
                    f"{', '.join(sorted(f'{t} on {d}' for t, d in kinds))}: give a group for each"
                )
        except ValueError:
            self.param_groups.pop()
            raise

    def step(self, losses: Sequence[Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step and return the losses (n,), detached.

        Args:
            losses: scalars with their graphs, always as many and in the same order.

        Raises:
            ValueError: a loss is not a scalar, or depends on no parameter; their number has changed.
            FloatingPointError: a loss or its gradient is not finite; no parameter has been changed then.
        """
        values = self._checked(losses)
        rows = [self._gradients(loss, last=k + 1 == len(losses)) for k, loss in enumerate(losses)]
        flat = [torch.stack([_flatten(row[j]) for row in rows]) for j in range(len(self.param_groups))]
        for group, gradients in zip(self.param_groups, flat, strict=True):
            state = self.state[group["params"][0]] if group["params"] else {}
            refuse_infinite(values, gradients, int(state.get("t", 0)))
        for group, gradients in zip(self.param_groups, flat, strict=True):
            if group["params"]:
                self._advance(group, gradients)
        return values

    def _checked(self, losses: Sequence[Tensor]) -> Tensor:
        if isinstance(losses, Tensor) or callable(losses) or not losses:
            raise ValueError(
                "step takes the losses of the groups as a list of scalars: step([loss_1, loss_2])"
            )
        for k, loss in enumerate(losses):
            if loss.numel() != 1:
                raise ValueError(f"every loss is a scalar, that of group {k} has shape {tuple(loss.shape)}")
            if not loss.requires_grad:
                raise ValueError(
                    f"the loss of group {k} depends on no parameter: leave it out, or look for a detach"
                )
        return torch.stack([loss.detach().reshape(()) for loss in losses])

    def _gradients(self, loss: Tensor, last: bool) -> list[list[Tensor]]:
        """Return the gradient of one loss by groups of parameters, zeros where it does not depend on one."""
        wanted = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        found = torch.autograd.grad(loss, wanted, retain_graph=not last, allow_unused=True)
        given = dict(zip(map(id, wanted), found, strict=True))
        rows: list[list[Tensor]] = []
        for group in self.param_groups:
            row = [given.get(id(p)) for p in group["params"]]
            rows.append(
                [torch.zeros_like(p) if g is None else g for p, g in zip(group["params"], row, strict=True)]
            )
        return rows

    @torch.no_grad()
    def _advance(self, group: dict[str, Any], gradients: Tensor) -> None:
        parameters: list[Tensor] = group["params"]
        state = self.state[parameters[0]]
        state.setdefault("t", 0)
        theta, moments = multiadam_update(
            _flatten(parameters), gradients, state, _rule(group), float(group["lr"])
        )
        state.update(moments)
        for p, new in zip(parameters, theta.split([p.numel() for p in parameters]), strict=True):
            if p.requires_grad:
                p.copy_(new.view_as(p))


def _rule(group: dict[str, Any]) -> MultiAdamRule:
    names = ("betas", "eps", "weight_decay", "amsgrad", "group_weights", "agg_betas")
    given: dict[str, Any] = {name: group[name] for name in names}
    return MultiAdamRule(**given)


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])
