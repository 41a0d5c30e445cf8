"""The Fourier basis differentiates, keeps states and cuts what would alias."""

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.pde.spectral import Fourier, check_periodic

BOXES = {
    "line": Grid((12,), upper=(3.0,), boundary="periodic"),
    "odd": Grid((9, 15), lower=(-1.0, 0.0), upper=(1.0, 5.0), boundary="periodic"),
    "space": Grid((8, 6, 10), upper=(1.0, 2.0, 0.5), boundary="periodic"),
}


def wave(grid, numbers):
    """sin(k . x + 0.3) and its gradient."""
    points = np.meshgrid(*grid.axes(), indexing="ij")
    k = [2 * np.pi * m / (b - a) for m, a, b in zip(numbers, grid.lower, grid.upper, strict=True)]
    phase = 0.3 + sum(w * x for w, x in zip(k, points, strict=True))
    value, slope = torch.from_numpy(np.sin(phase)), torch.from_numpy(np.cos(phase))
    return value, [w * slope for w in k], k


@pytest.mark.parametrize("name", BOXES)
def test_round_trip_and_shapes(name):
    grid = BOXES[name]
    basis = Fourier(grid)
    u = torch.rand(2, 3, *grid.shape, dtype=torch.float64)
    v = basis.to_modes(u)
    assert v.shape == (2, 3, *basis.modes)
    torch.testing.assert_close(basis.to_grid(v), u)
    one = basis.to_modes(torch.ones(1, 1, *grid.shape, dtype=torch.float64))
    assert float(one.flatten()[0].real) == basis.size == grid.size


@pytest.mark.parametrize("name", BOXES)
def test_derivatives_on_any_box(name):
    grid = BOXES[name]
    basis, numbers = Fourier(grid), [1, -2, 3][: grid.dim]
    u, gradient, k = wave(grid, numbers)
    for ik, slope in zip(basis.ik, gradient, strict=True):
        torch.testing.assert_close(basis.to_grid(ik * basis.to_modes(u)), slope)
    laplacian = basis.to_grid(-basis.k2 * basis.to_modes(u))
    torch.testing.assert_close(laplacian, -sum(w**2 for w in k) * u)


def test_nyquist_number_has_no_odd_derivative():
    basis = Fourier(Grid((8,), boundary="periodic"))
    saw = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    assert float(basis.to_grid(basis.ik[0] * basis.to_modes(saw)).abs().max()) == 0
    assert float(basis.k2[-1]) > 0


@pytest.mark.parametrize("n", [9, 12, 16, 32])
def test_square_is_free_of_aliases(n):
    """Against the product on a grid that is fine enough for every frequency of it."""
    coarse, fine = (Fourier(Grid((m,), boundary="periodic")) for m in (n, 4 * n))
    v = torch.fft.rfft(torch.from_numpy(np.random.default_rng(0).standard_normal(n)))
    kept = coarse.keep * v
    wide = torch.nn.functional.pad(kept, (0, fine.modes[0] - coarse.modes[0])) * 4
    exact = torch.fft.rfft(fine.to_grid(wide) ** 2)[: coarse.modes[0]] / 4 * coarse.keep
    torch.testing.assert_close(coarse.square(v), exact)
    aliased = coarse.to_modes(coarse.to_grid(v) ** 2)
    assert float((aliased - exact).abs().max()) > 0.1


def test_float32_and_gradient():
    basis = Fourier(BOXES["odd"], dtype=torch.float32)
    u = torch.rand(1, 1, 9, 15, requires_grad=True)
    square = basis.to_grid(basis.square(basis.to_modes(u)))
    assert square.dtype == torch.float32
    square.sum().backward()
    assert bool(torch.isfinite(u.grad).all())


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid((8,)), "needs periodic conditions on every axis"),
        (Grid((8, 8), boundary=("periodic", "neumann")), "needs periodic conditions on every axis"),
        (Grid((3,), boundary="periodic", mask=np.array([True, False, True])), "needs a full box"),
        (Grid((8,), boundary="periodic", centring="cell"), "is node-centred"),
    ],
)
def test_other_grids_are_rejected(grid, message):
    with pytest.raises(ValueError, match=message):
        Fourier(grid)


def test_dimension_is_named():
    with pytest.raises(ValueError, match="posed in 1 or 2 dimensions, the grid has 3"):
        check_periodic(BOXES["space"], (1, 2))
