"""POD-DeepONet: the trunk of a DeepONet replaced by the principal modes of the training outputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from .base import WrongResolution, WrongSettings
from .layers.branch import BranchSettings, FieldBranch
from .layers.multilayer import output_width
from .on_grid import FixedOnGrid


class NoBasis(RuntimeError):
    """A POD basis that has neither been computed from training outputs nor loaded."""


@final
class PODBasis(nn.Module):
    """Write fields on n fixed points as their mean plus q principal modes, per output.

    y = V a / q + mean, with V the first q right singular vectors of (Y - mean), times sqrt(n). Y holds the
    outputs of the TRAINING samples and no others: modes that have seen test outputs leak them.

    Source: Lu et al. (2022), CMAME 393, with the factor sqrt(n) and the division by q of their programs.

    Attributes:
        vectors: V, (outputs, n, q), a buffer saved with the model.
        mean: (outputs, n), likewise.

    >>> outputs = torch.randn(20, 1, 50, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    >>> basis = PODBasis.from_training(outputs, energy=0.99)
    >>> basis.modes, basis(basis.coefficients(outputs)).shape
    (9, torch.Size([20, 1, 50]))
    """

    vectors: Tensor
    mean: Tensor

    def __init__(self, modes: int, points: int, outputs: int = 1) -> None:
        super().__init__()
        if not 1 <= modes <= points or outputs < 1:
            raise WrongSettings(
                f"{modes} modes of {points} points for {outputs} outputs: modes are 1 to points"
            )
        self.modes, self.points, self.outputs, self.known = modes, points, outputs, False
        self.register_buffer("vectors", torch.zeros(outputs, points, modes))
        self.register_buffer("mean", torch.zeros(outputs, points))
        self.register_load_state_dict_pre_hook(note_loading)

    @classmethod
    def from_training(
        cls,
        outputs: Tensor,  # (K, C, n) or (K, C, *space)
        *,
        modes: int | None = None,
        energy: float | None = None,
    ) -> Self:
        """Return the basis of training outputs: so many modes, or the fewest that hold a share of the energy.

        Energy is the sum of squares about the mean; every output keeps at least the share.

        Raises:
            WrongSettings: for neither or both of modes and energy, or more modes than K samples can give.
        """
        if (modes is None) == (energy is None):
            raise WrongSettings(f"give either modes or energy, got modes={modes}, energy={energy}")
        if outputs.ndim < 3 or outputs.shape[0] < 2:
            raise WrongSettings(f"outputs are (K, C, *space) with K > 1, got {tuple(outputs.shape)}")
        Y = outputs.detach().flatten(2).movedim(0, 1).double()  # (C, K, n)
        mean = Y.mean(1)
        _, s, Vt = torch.linalg.svd(Y - mean[:, None], full_matrices=False)
        if modes is None:
            modes = modes_for(s, energy or 0.0)
        C, K, n = Y.shape
        if not 1 <= modes <= min(K - 1, n):
            raise WrongSettings(
                f"{K} samples on {n} points give at most {min(K - 1, n)} modes about their mean, "
                f"asked for {modes}"
            )
        basis = cls(modes, n, C).to(outputs)
        basis.fill(Vt[:, :modes].mT * n**0.5, mean)
        return basis

    def fill(
        self,
        vectors: Tensor,  # (outputs, n, q)
        mean: Tensor,  # (outputs, n)
    ) -> None:
        """Set the modes and the mean.

        Raises:
            WrongResolution: for other points, modes or outputs.
        """
        if vectors.shape != self.vectors.shape or mean.shape != self.mean.shape:
            raise WrongResolution(
                f"the basis has (outputs, points, modes) = {tuple(self.vectors.shape)}, "
                f"got {tuple(vectors.shape)} with a mean of {tuple(mean.shape)}"
            )
        self.vectors.copy_(vectors)
        self.mean.copy_(mean)
        self.known = True

    def coefficients(
        self,
        fields: Tensor,  # (B, outputs, *space)
    ) -> Tensor:
        """Return the coefficients (B, outputs q) of the best approximation of fields in this basis."""
        centred = fields.flatten(2) - self.mean
        return torch.einsum("bcn,cnq->bcq", centred, self.vectors).flatten(1) * (self.modes / self.points)

    def forward(
        self,
        coefficients: Tensor,  # (B, outputs q)
    ) -> Tensor:
        """Return the fields (B, outputs, n) of coefficients.

        Raises:
            NoBasis: before the basis has been computed or loaded.
        """
        if not self.known:
            raise NoBasis("the POD basis is empty: call fit_basis(training outputs), or load a saved model")
        a = coefficients.unflatten(-1, (self.outputs, self.modes))
        return torch.einsum("bcq,cnq->bcn", a, self.vectors) / self.modes + self.mean


def note_loading(basis: PODBasis, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Note that a basis is known when its modes come with a state."""
    basis.known = basis.known or f"{prefix}vectors" in state


def modes_for(
    singular: Tensor,  # (C, min(K, n)), falling
    energy: float,
) -> int:
    """Return the fewest modes with which every output keeps a share of the sum of squares.

    >>> modes_for(torch.tensor([[3.0, 1.0, 0.0]]), 0.95)
    2
    """
    if not 0 < energy <= 1:
        raise WrongSettings(f"energy is a share between 0 and 1, got {energy}")
    total = singular.square().cumsum(-1)
    short = total < energy * total[:, -1:] * (1 - 1e-12)
    return max(1, min(int(short.sum(-1).max()) + 1, singular.shape[-1]))


@final
class PODDeepONet(nn.Module):
    """Map an input function to an output function on fixed points: out = V branch(u) / q + mean.

    There is no trunk, so no other points can be asked for. With `MergedBranches` as branch: POD-MIONet.

    Args:
        branch: what gives (B, outputs q), with an attribute `outputs`.
        basis: from training outputs; see `PODBasis`.

    >>> from solvus.operators.neural.layers.multilayer import Multilayer
    >>> basis = PODBasis.from_training(torch.randn(20, 1, 50), modes=8)
    >>> PODDeepONet(Multilayer((30, 64, 8)), basis)(torch.ones(4, 30)).shape
    torch.Size([4, 50])
    """

    def __init__(self, branch: nn.Module, basis: PODBasis) -> None:
        super().__init__()
        if output_width(branch) != basis.outputs * basis.modes:
            raise WrongSettings(
                f"the branch gives {output_width(branch)} numbers, "
                f"the basis takes {basis.outputs} x {basis.modes}"
            )
        self.branch, self.basis = branch, basis

    def by_channel(self, sensors: Any) -> Tensor:
        """Return the outputs channels first, (B, outputs, n)."""
        return self.basis(self.branch(sensors))

    def forward(
        self,
        sensors: Any,  # (B, m), or what the branch takes
    ) -> Tensor:
        """Return the outputs on the points of the basis: (B, n), or (B, n, outputs) for several."""
        values = self.by_channel(sensors)
        return values.movedim(1, -1) if self.basis.outputs > 1 else values.squeeze(1)


@final
@dataclass(frozen=True)
class PODDeepONetConfig(BranchSettings):
    """Settings of `PODDeepONetOnGrid`.

    Args:
        modes: q, per output; `PODBasis.from_training(outputs, energy=...).modes` finds one by energy.
    """

    modes: int = 32


class PODOnGrid(FixedOnGrid):
    """An operator on a grid that writes its output in a POD basis."""

    net: PODDeepONet

    @final
    def fit_basis(
        self,
        outputs: Tensor,  # (K, out_channels, *size)
    ) -> None:
        """Compute mean and modes from the outputs of the TRAINING samples, as the network is to give them.

        A network inside normalisers gives encoded outputs: give the encoded ones here.

        Raises:
            WrongResolution: for outputs on another grid, or with other channels.
        """
        wanted = (self.config.out_channels, *self.config.size)
        if tuple(outputs.shape[1:]) != wanted:
            raise WrongResolution(f"training outputs are (K, {wanted}), got {tuple(outputs.shape)}")
        basis = PODBasis.from_training(outputs, modes=self.config.modes)
        self.net.basis.fill(basis.vectors, basis.mean)

    @abstractmethod
    def inputs(self, x: Tensor) -> Any:
        """Return what the branch takes."""

    @final
    def forward(self, x: Tensor) -> Tensor:
        """Map fields (B, in_channels, *size) to fields (B, out_channels, *size)."""
        self.check(x)
        return self.net.by_channel(self.inputs(x)).unflatten(-1, self.config.size)


@final
class PODDeepONetOnGrid(PODOnGrid):
    """Map fields to fields by a POD-DeepONet on one grid; `fit_basis` comes before training.

    >>> net = PODDeepONetOnGrid(PODDeepONetConfig(1, 1, (8, 8), modes=4))
    >>> net.fit_basis(torch.randn(20, 1, 8, 8))
    >>> net(torch.ones(3, 1, 8, 8)).shape
    torch.Size([3, 1, 8, 8])
    """

    Config = PODDeepONetConfig

    def __init__(self, config: PODDeepONetConfig) -> None:
        super().__init__(config)
        branch = FieldBranch(config, config.in_channels, config.out_channels * config.modes)
        self.net = PODDeepONet(branch, PODBasis(config.modes, prod(config.size), config.out_channels))

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the branch takes."""
        return x
