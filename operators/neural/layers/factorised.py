"""Spectral weights kept as products of small tensors: Tucker, CP and tensor-train form.

A complex tensor of shape (n1, ..., nN), here (in, out, *kept frequencies), is stored by factors with real
numbers, the last axis of two holding real and imaginary parts. In the formulas * is the complex product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Literal, final

import torch
from torch import Tensor, nn

from ..base import WrongSettings
from .spectral import SpectralWeight, WeightFactory

Form = Literal["tucker", "cp", "tt"]
Execution = Literal["factorised", "reconstructed"]
Rank = float | tuple[int, ...]


def complex_einsum(equation: str, a: Tensor, b: Tensor) -> Tensor:
    """Return the einsum of two complex tensors in real storage; p is the letter of the axis of two parts.

    One real einsum: the smaller operand is written as matrices [[re, im], [-im, re]] that act on the parts.

    >>> a, b = torch.randn(3, 4, 2), torch.randn(4, 5, 2)
    >>> c = torch.view_as_complex(a) @ torch.view_as_complex(b)
    >>> torch.allclose(complex_einsum("ijp,jkp->ikp", a, b), torch.view_as_real(c), atol=1e-6)
    True
    """
    operands, _, out = equation.partition("->")
    first, _, second = operands.partition(",")
    if a.numel() < b.numel():
        a, b, first, second = b, a, second, first
    re, im = b.unbind(second.index("p"))
    turned = torch.stack((torch.stack((re, -im)), torch.stack((im, re))))  # (part out, part in, ...)
    return torch.einsum(f"{first},qp{second.replace('p', '')}->{out.replace('p', 'q')}", a, turned)


def scale_for(count: int, budget: float, sizes: Callable[[float], float]) -> float:
    """Return the c in (0, 1], or above, at which an increasing `sizes(c)` reaches a fraction of `count`."""
    low, high = 0.0, 1.0
    while sizes(high) < budget * count:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sizes(middle) < budget * count else (low, middle)
    return high


class FactorisedTensor(nn.Module, ABC):
    """A complex tensor (n1, ..., nN), N at least 2, as a product of smaller ones.

    Args:
        shape: of the tensor.
        rank: the fraction, above 0 up to 1, of its numbers that the factors may hold; or explicit ranks.
        std: standard deviation of the (complex) entries at the start, with independent normal factors.
    """

    def __init__(self, shape: Sequence[int], rank: Rank, std: float) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if isinstance(rank, tuple):
            wanted = len(self.ranks_for(self.shape, 1.0))
            if len(rank) != wanted or min(rank) < 1:
                raise WrongSettings(
                    f"{type(self).__name__} of shape {self.shape} has {wanted} rank{'s' * (wanted > 1)}, "
                    f"1 or more each, got {rank}"
                )
            self.ranks = rank
        elif 0 < rank <= 1:
            self.ranks = self.ranks_for(self.shape, rank)
        else:
            raise WrongSettings(
                f"rank is a fraction of the dense numbers, above 0 up to 1, or a tuple of ranks; got {rank}"
            )
        self.build(std)

    @staticmethod
    @abstractmethod
    def ranks_for(shape: tuple[int, ...], fraction: float) -> tuple[int, ...]:
        """Return the ranks with which the factors hold about a fraction of the numbers of the tensor."""

    @abstractmethod
    def build(self, std: float) -> None:
        """Make and draw the factors."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the dense tensor (*shape, 2)."""

    @abstractmethod
    def contract(self, x: Tensor) -> Tensor:
        """Multiply x (m, 2, B, n1) by the matrix (n1, n2) of each of the m = n3 ... nN frequencies."""

    def extra_repr(self) -> str:
        return f"{self.shape}, ranks={self.ranks}"


def _normal(*shape: int, std: float) -> nn.Parameter:
    return nn.Parameter(std * 0.5**0.5 * torch.randn(*shape, 2))


@final
class Tucker(FactorisedTensor):
    """T[j1, ..., jN] = sum over r of G[r1, ..., rN] * U1[j1, r1] * ... * UN[jN, rN].

    The ranks of a fraction f: r_i = round(c n_i) with the c at which c^N prod n + c sum n^2 = f prod n.

    >>> Tucker((64, 64, 64, 33), 0.1, 1.0).ranks
    (36, 36, 36, 19)
    """

    @staticmethod
    def ranks_for(shape: tuple[int, ...], fraction: float) -> tuple[int, ...]:
        full, squares = prod(shape), sum(n * n for n in shape)
        c = scale_for(full, fraction, lambda c: c ** len(shape) * full + c * squares)
        return tuple(max(1, round(c * n)) for n in shape)

    def build(self, std: float) -> None:
        self.core = _normal(*self.ranks, std=std)
        self.factors = nn.ParameterList(
            _normal(n, r, std=r**-0.5) for n, r in zip(self.shape, self.ranks, strict=True)
        )

    def _expand(self, T: Tensor, factors: Sequence[Tensor]) -> Tensor:
        """Multiply the leading axes of T (r, ..., 2) by factors; their axes go in front of the parts."""
        for U in factors:
            tail = T.shape[1:-1]
            T = complex_einsum("rzp,nrp->znp", T.reshape(T.shape[0], -1, 2), U).reshape(*tail, U.shape[0], 2)
        return T

    def forward(self) -> Tensor:
        return self._expand(self.core, list(self.factors))

    def contract(self, x: Tensor) -> Tensor:
        U_in, U_out, *others = self.factors
        core = self.core.permute(*range(2, self.core.ndim - 1), 0, 1, -1)  # (u, v, ..., r, s, 2)
        matrices = self._expand(core, others).flatten(2, -2)  # (r, s, m, 2)
        x = complex_einsum("mpbi,irp->mpbr", x, U_in)
        x = complex_einsum("mpbr,rsmp->mpbs", x, matrices)
        return complex_einsum("mpbs,osp->mpbo", x, U_out)


@final
class CP(FactorisedTensor):
    """T[j1, ..., jN] = sum over r of l[r] * A1[j1, r] * ... * AN[jN, r].

    The rank of a fraction f: round(f prod n / sum n). It is high for weights with many frequencies, and so is
    the cost of a step.

    >>> CP((64, 64, 64, 33), 0.1, 1.0).ranks
    (3845,)
    """

    @staticmethod
    def ranks_for(shape: tuple[int, ...], fraction: float) -> tuple[int, ...]:
        return (max(1, round(fraction * prod(shape) / sum(shape))),)

    def build(self, std: float) -> None:
        (r,) = self.ranks
        share = (std / r**0.5) ** (1 / len(self.shape))
        self.scale = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(r, 1))
        self.factors = nn.ParameterList(_normal(n, r, std=share) for n in self.shape)

    def _frequencies(self) -> Tensor:
        """Return (m, r, 2): the product of all factors but the first two, and of the scale."""
        M = self.scale[None]
        for A in self.factors[2:]:
            M = complex_einsum("mrp,krp->mkrp", M, A).flatten(0, 1)
        return M

    def forward(self) -> Tensor:
        A, B = self.factors[0], self.factors[1]
        AB = complex_einsum("irp,orp->iorp", A, B)
        return complex_einsum("iorp,mrp->iomp", AB, self._frequencies()).reshape(*self.shape, 2)

    def contract(self, x: Tensor) -> Tensor:
        A, B = self.factors[0], self.factors[1]
        x = complex_einsum("mpbi,irp->mpbr", x, A)
        x = complex_einsum("mpbr,mrp->mpbr", x, self._frequencies())
        return complex_einsum("mpbr,orp->mpbo", x, B)


@final
class TensorTrain(FactorisedTensor):
    """T[j1, ..., jN] = g1[j1] * g2[j2] ... gN[jN], a product of matrices (r_{i-1}, r_i), r_0 = r_N = 1.

    The ranks of a fraction f: r_i = round(c (n_i + n_{i+1}) / 2) with the c at which the numbers of the
    cores, before rounding, are f prod n.

    >>> TensorTrain((64, 64, 64, 33), 0.1, 1.0).ranks
    (87, 87, 66)
    """

    @staticmethod
    def ranks_for(shape: tuple[int, ...], fraction: float) -> tuple[int, ...]:
        means = [(a + b) / 2 for a, b in pairwise(shape)]

        def numbers(c: float) -> float:
            ranks = [1.0, *(c * m for m in means), 1.0]
            return sum(a * n * b for a, n, b in zip(ranks, shape, ranks[1:], strict=False))

        c = scale_for(prod(shape), fraction, numbers)
        return tuple(max(1, round(c * m)) for m in means)

    def build(self, std: float) -> None:
        ranks = (1, *self.ranks, 1)
        share = std ** (1 / len(self.shape))
        self.cores = nn.ParameterList(
            _normal(a, n, b, std=share * a**-0.5)
            for a, n, b in zip(ranks, self.shape, ranks[1:], strict=False)
        )

    def _frequencies(self) -> Tensor:
        """Return (r2, m, 2): the product of all cores but the first two."""
        T = self.cores[-1][..., 0, :]  # (r, n, 2)
        for core in reversed(self.cores[2:-1]):
            T = complex_einsum("anbp,bzp->anzp", core, T).flatten(1, 2)
        return T

    def forward(self) -> Tensor:
        first, second = self.cores[0][0], self.cores[1]
        if len(self.shape) == 2:
            return complex_einsum("iap,aop->iop", first, second[:, :, 0])
        head = complex_einsum("iap,aobp->iobp", first, second)
        return complex_einsum("iobp,bmp->iomp", head, self._frequencies()).reshape(*self.shape, 2)

    def contract(self, x: Tensor) -> Tensor:
        x = complex_einsum("mpbi,iap->mpba", x, self.cores[0][0])
        matrices = complex_einsum("aocp,cmp->aomp", self.cores[1], self._frequencies())
        return complex_einsum("mpba,aomp->mpbo", x, matrices)


FORMS: dict[str, type[FactorisedTensor]] = {"tucker": Tucker, "cp": CP, "tt": TensorTrain}


@final
class FactorisedWeight(SpectralWeight):
    """Keep the multiplier of a spectral convolution as a factorised tensor (in, out, *kept).

    "factorised" multiplies by the factors one after the other, "reconstructed" builds the dense weight first:
    the same result. Entries start with standard deviation sqrt(2 / (in + out)).

    Source: Kossaifi et al. (2024), Multi-grid tensorized Fourier neural operator.

    >>> weight = FactorisedWeight(8, 8, (6, 4), form="tt", rank=0.2)
    >>> weight().shape, weight.tensor.ranks
    (torch.Size([6, 4, 8, 8, 2]), (5, 4, 3))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kept: tuple[int, ...],
        *,
        form: Form = "tucker",
        rank: Rank = 0.1,
        execution: Execution = "factorised",
    ) -> None:
        super().__init__(in_channels, out_channels, kept)
        self.execution: Execution = execution
        std = (2 / (in_channels + out_channels)) ** 0.5
        self.tensor = FORMS[form]((in_channels, out_channels, *kept), rank, std)

    def forward(self) -> Tensor:
        return self.tensor().movedim((0, 1), (-3, -2))

    def contract(self, spectrum: Tensor) -> Tensor:
        if self.execution == "reconstructed":
            return super().contract(spectrum)
        return self.tensor.contract(spectrum)


@final
class SeparableWeight(SpectralWeight):
    """Keep one complex number per channel and frequency, as a factorised tensor (channels, *kept).

    No channels are mixed. "reconstructed" multiplies by the dense weight, with its zeros: the same result.

    >>> SeparableWeight(8, 8, (6, 4), form="cp", rank=0.5)().shape
    torch.Size([6, 4, 8, 8, 2])

    Raises:
        WrongSettings: for other output than input channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kept: tuple[int, ...],
        *,
        form: Form = "tucker",
        rank: Rank = 0.1,
        execution: Execution = "factorised",
    ) -> None:
        super().__init__(in_channels, out_channels, kept)
        if in_channels != out_channels:
            raise WrongSettings(
                f"a separable weight needs equal channels in and out, got {in_channels} and {out_channels}"
            )
        self.execution: Execution = execution
        self.tensor = FORMS[form]((in_channels, *kept), rank, (2 / (in_channels + out_channels)) ** 0.5)

    def forward(self) -> Tensor:
        return torch.diag_embed(self.tensor().movedim(0, -1), dim1=-3, dim2=-2)

    def contract(self, spectrum: Tensor) -> Tensor:
        if self.execution == "reconstructed":
            return super().contract(spectrum)
        return complex_einsum("mpbi,imp->mpbi", spectrum, self.tensor().flatten(1, -2))


def factorised(form: Form, rank: Rank, execution: Execution, *, separable: bool = False) -> WeightFactory:
    """Return what makes factorised weights for `SpectralConvolution(weight=...)`.

    >>> from .spectral import SpectralConvolution
    >>> layer = SpectralConvolution(8, 8, (4, 4), weight=factorised("cp", 0.1, "factorised"))
    >>> layer(torch.zeros(1, 8, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    """
    return partial(
        SeparableWeight if separable else FactorisedWeight, form=form, rank=rank, execution=execution
    )
