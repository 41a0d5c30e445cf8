"""Spectral convolution in one to three dimensions, and the multipliers that it takes.

A multiplier is a `SpectralWeight`. The convolution makes one by `weight(in_channels, out_channels, kept)`,
where `kept` are the numbers of kept frequencies per axis, for example (24, 12) for `modes=(12, 12)`, and
uses only its `contract`:

    contract(spectrum: (m, 2, B, in_channels)) -> (m, 2, B, out_channels),      m = prod(kept)

Frequencies come first (last axis fastest), in the order of `truncated_dft.signed_frequencies`; the axis of
two holds real and imaginary parts. The default `contract` multiplies by the dense weight that `forward()`
returns, (*kept, in_channels, out_channels, 2), real numbers. A compressed weight defines `forward` (rebuild
the dense weight) and, where that is cheaper, its own `contract`; both must give the same result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..base import WrongResolution, WrongSettings
from .branches import branches
from .channels import mix_channels, scale_channels
from .fused import fusible
from .separable import to_field, to_modes
from .truncated_dft import (
    analyse_by_fft,
    analysis_matrices,
    kept_frequencies,
    signed_frequencies,
    synthesis_matrices,
    synthesise_by_fft,
)

Path = Literal["auto", "fft", "matrix"]


class SpectralWeight(nn.Module, ABC):
    """A complex matrix per kept frequency, stored in real numbers; see the head of this file."""

    def __init__(self, in_channels: int, out_channels: int, kept: tuple[int, ...]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kept = kept

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the dense weight (*kept, in_channels, out_channels, 2)."""

    def contract(self, spectrum: Tensor) -> Tensor:
        """Multiply the coefficients (m, 2, B, in_channels) of every frequency by its matrix."""
        weight = self().to(spectrum.dtype).flatten(0, -4).flatten(2)  # (m, in, out 2)
        if fusible(spectrum, weight):
            return _Multiply.apply(spectrum, weight)
        return _multiply(spectrum, weight)


def _multiply(spectrum: Tensor, weight: Tensor) -> Tensor:
    """(m, 2, B, in), (m, in, out 2) -> (m, 2, B, out)."""
    m, _, batch, i = spectrum.shape
    # one product of the stacked parts gives all four terms, without a copy of the weight
    terms = torch.bmm(spectrum.reshape(m, 2 * batch, i), weight).reshape(m, 2, batch, -1, 2)
    from_real, from_imaginary = terms.unbind(1)
    rr, ri = from_real.unbind(-1)
    ir, ii = from_imaginary.unbind(-1)
    return torch.stack((rr - ii, ri + ir), dim=1)


class _Multiply(Function):
    """`_multiply` with a derivative that does not copy the weight either."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(spectrum, weight)
        return _multiply(spectrum, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        spectrum, weight = ctx.saved_tensors
        m, _, batch, i = spectrum.shape
        re, im = grads[0].unbind(1)
        pairs = torch.complex(grads[0], torch.stack((im, -re), dim=1))  # interleaves faster than a stack
        terms = torch.view_as_real(pairs).reshape(m, 2 * batch, -1)
        of_spectrum = of_weight = None
        if ctx.needs_input_grad[0]:
            of_spectrum = torch.bmm(terms, weight.mT).reshape(spectrum.shape)
        if ctx.needs_input_grad[1]:
            of_weight = torch.bmm(spectrum.reshape(m, 2 * batch, i).mT, terms)
        return of_spectrum, of_weight


WeightFactory = Callable[[int, int, tuple[int, ...]], SpectralWeight]


@final
class DenseWeight(SpectralWeight):
    """Keep a full matrix for every frequency.

    Both parts are drawn from U[0, 1) / (in_channels out_channels), as in the first FNO (Li et al., 2021), or,
    where `normal` is set, from a normal distribution with E|w|^2 = 2 / (in_channels + out_channels).

    >>> DenseWeight(3, 5, (24, 12))().shape
    torch.Size([24, 12, 3, 5, 2])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kept: tuple[int, ...], *, normal: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, kept)
        draw = torch.randn if normal else torch.rand
        scale = (in_channels + out_channels) ** -0.5 if normal else 1 / (in_channels * out_channels)
        self.values = nn.Parameter(scale * draw(*kept, in_channels, out_channels, 2))

    def forward(self) -> Tensor:
        return self.values


@final
class SpectralConvolution(nn.Module):
    """Multiply the low frequencies of a field by a matrix per frequency: K v = synthesis(M analysis(v)).

    (B, in_channels, *space) -> (B, out_channels, *size), `size` = `space` unless given. `modes` = (k1, ...,
    kd) keeps the frequencies -k, ..., k-1 of every axis but the last, and 0, ..., k-1 of the last. On
    another grid the result is the same function at other points. Computes in float32 at least, also under
    autocast.

    Source: Li et al. (2021), Fourier neural operator, eq. 4 and 5. Good values of `modes`: a third to two
    thirds of half the points (Kovachki et al., 2023).

    Args:
        weight: makes the multiplier.
        path: "fft", or "matrix" (products with truncated DFT matrices: no complex numbers, any size equally
            fast, cost in proportion to modes x points), or "auto" (the faster one for the grid and device).

    Raises:
        WrongResolution: when a grid has fewer points than the modes need.

    >>> layer = SpectralConvolution(2, 3, (4, 4))
    >>> layer(torch.randn(5, 2, 16, 15)).shape, layer(torch.randn(5, 2, 16, 15), (32, 30)).shape
    (torch.Size([5, 3, 16, 15]), torch.Size([5, 3, 32, 30]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        *,
        weight: WeightFactory = DenseWeight,
        path: Path = "auto",
    ) -> None:
        super().__init__()
        if not 1 <= len(modes) <= 3 or min(modes) < 1:
            raise WrongSettings(f"modes needs one to three numbers above 0, got {tuple(modes)}")
        if path not in ("auto", "fft", "matrix"):
            raise WrongSettings(f"path is one of auto, fft, matrix; got {path!r}")
        self.modes = tuple(modes)
        self.path: Path = path
        self.weight = weight(in_channels, out_channels, kept_frequencies(modes))

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Return K x on a grid of `size`."""
        source = x.shape[2:]
        size = source if size is None else size
        check_modes(self.modes, source)
        if size is not source:
            check_modes(self.modes, size)
        with _whole_precision(x):
            product = self.weight.contract(self._analyse(x))
            return self._synthesise(product, source, size).to(x.dtype)

    def beside(
        self,
        x: Tensor,  # (B, in_channels, *space)
        W: Tensor,  # (out, in_channels)
        b: Tensor,  # (out,)
        *,
        then: Tensor | None = None,  # (out, out_channels)
        gate: tuple[Tensor, Tensor] | None = None,  # (in_channels,) each
    ) -> tuple[Tensor, Tensor | None]:  # (B, out, *space), (B, in_channels, points)
        """Return then K x + W x + b and, for gate = (g, c), g x + c: less work than one after the other.

        `then` multiplies the channels of coefficients, and b is added to those of frequency 0. Both fields
        are new: they may be overwritten.
        """
        space = x.shape[2:]
        check_modes(self.modes, space)
        by_matrix = not self._by_fft(x)
        if by_matrix and x.dtype in (torch.float32, torch.float64) and fusible(x, W, *(gate or ())):
            spectrum, mixed, gated = branches(x, W, gate, analysis_matrices(self.modes, x))
        else:
            mixed, gated = mix_channels(W, x), None if gate is None else scale_channels(x.flatten(2), *gate)
            with _whole_precision(x):
                spectrum = self._analyse(x)
        with _whole_precision(x):
            product = self.weight.contract(spectrum)
            if then is not None:
                product = product @ then.to(product.dtype).mT
            product[0, 0] += b
            onto = mixed.to(product.dtype)
            return self._synthesise(product, space, space, onto=onto).to(x.dtype), gated

    def _by_fft(self, x: Tensor) -> bool:
        return self.path == "fft" or (self.path == "auto" and fft_is_faster(self.modes, x.device))

    def _analyse(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self._by_fft(x):
            return analyse_by_fft(x, self.modes)
        return to_modes(x, analysis_matrices(self.modes, x))

    def _synthesise(
        self, Y: Tensor, source: Sequence[int], size: Sequence[int], onto: Tensor | None = None
    ) -> Tensor:
        if not self._by_fft(Y):
            return to_field(Y, synthesis_matrices(self.modes, source, size, Y), onto=onto)
        field = synthesise_by_fft(Y, self.modes, source, size)
        return field if onto is None else field.add_(onto)

    def extra_repr(self) -> str:
        return f"modes={self.modes}, path={self.path!r}"


def _whole_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Switch autocast off where it is on."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def check_modes(modes: Sequence[int], space: Sequence[int]) -> None:
    """Raise WrongResolution when a grid has fewer points than the modes need: 2k, on the last axis 2k - 2."""
    needed = [*(2 * k for k in modes[:-1]), max(1, 2 * modes[-1] - 2)]
    if len(space) != len(needed):
        raise WrongResolution(f"modes {tuple(modes)} need {len(needed)} axes of space, got {tuple(space)}")
    for n, least in zip(space, needed, strict=True):
        if n < least:
            raise WrongResolution(
                f"modes {tuple(modes)} need a grid of at least {tuple(needed)} points, got {tuple(space)}: "
                "use a finer grid, or make the network with fewer modes"
            )


def fft_is_faster(modes: Sequence[int], device: torch.device) -> bool:
    """Return whether "auto" takes the FFT: on a CPU the matrices win up to about 32 modes per axis.

    A graph that is exported has no complex numbers, and some devices have none.
    """
    if torch.compiler.is_exporting() or device.type == "mps":
        return False
    return device.type != "cpu" or max(modes) > 32


def weight_from_blocks(blocks: Sequence[Tensor]) -> Tensor:
    """Return the real storage of complex weights (in, out, *modes), one block per sign of the leading axes.

    Blocks come as in the first FNO programs: one in 1D; [k1 >= 0, k1 < 0] in 2D; [++, -+, +-, --] in 3D.

    >>> weight_from_blocks([torch.ones(3, 5, 4, 4, dtype=torch.complex64)] * 2).shape
    torch.Size([8, 4, 3, 5, 2])
    """
    dim = blocks[0].ndim - 2
    if len(blocks) != 2 ** (dim - 1):
        raise WrongSettings(f"a weight in {dim}D has {2 ** (dim - 1)} blocks, got {len(blocks)}")
    joined = list(blocks)
    for axis in range(2, dim + 1):  # the first axis changes sign fastest
        joined = [torch.cat(pair, dim=axis) for pair in zip(joined[::2], joined[1::2], strict=True)]
    return _real_storage(joined[0])


def weight_from_centred(weight: Tensor) -> Tensor:
    """Return the real storage of one complex weight (in, out, *kept) with frequencies -k, ..., k-1 in order.

    This is the layout of neuraloperator, whose even `n_modes` are 2k, and k + 1 on the last axis.

    >>> weight_from_centred(torch.ones(3, 5, 8, 5, dtype=torch.complex64)).shape
    torch.Size([8, 5, 3, 5, 2])
    """
    for axis in range(2, weight.ndim - 1):
        n = weight.shape[axis]
        if n % 2:
            raise WrongSettings(f"the leading axes need an even number of frequencies, got {n}")
        k = n // 2
        order = torch.tensor([f + k for f in signed_frequencies(k)], device=weight.device)
        weight = weight.index_select(axis, order)
    return _real_storage(weight)


def _real_storage(weight: Tensor) -> Tensor:
    if not weight.is_complex():
        raise WrongSettings(f"a complex weight is needed, got {weight.dtype}")
    return torch.view_as_real(weight.movedim((0, 1), (-2, -1)).contiguous()).contiguous()
