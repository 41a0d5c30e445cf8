"""Gaussian random fields: variances, spectra, boundary behaviour, refinement, errors."""

from dataclasses import replace
from math import pi, sqrt

import numpy as np
import pytest
import torch
from scipy import fft

from solvus.meshes import Grid
from solvus.operators.pde.random_fields import GaussianField, _order

TORUS = Grid((64, 64), boundary="periodic")


def draw(field, grid, n, seed=0):
    return field.sample(grid, n, np.random.default_rng(seed)).numpy()


def check_pointwise_variance(field, grid, samples, expected):
    """Compare the mean square of fields at fixed points with the stated variance, within four per cent."""
    u = draw(field, grid, samples)
    assert abs((u**2).mean() / expected - 1) < 0.04
    assert abs(field.variance(grid) / expected - 1) < 1e-3


def test_the_published_variance_of_a_torus():
    check_pointwise_variance(GaussianField(2.5, 7.0), TORUS, 600, 0.03431)


@pytest.mark.parametrize(
    "wrong", [GaussianField(2.5, 7.0, 7**0.75), GaussianField(2.5, 7.0, 7**1.5 * sqrt(2))]
)
def test_the_variance_check_can_fail(wrong):
    with pytest.raises(AssertionError):
        check_pointwise_variance(wrong, TORUS, 200, 0.03431)


@pytest.mark.parametrize(
    ("shape", "upper"), [((21,), (2 * pi,)), ((12, 9), (1.0, 1.5)), ((6, 5, 4), (1.0, 0.8, 0.6))]
)
@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("normalised", [True, False])
def test_each_mode_of_a_torus_has_its_eigenvalue(shape, upper, centring, normalised):
    grid = Grid(shape, upper=upper, boundary="periodic", centring=centring)
    field = GaussianField(1.5, 2.0, 3.0, normalised=normalised)
    lam = field.eigenvalues(grid)
    k = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij")
    square = sum((2 * pi * i / side) ** 2 for i, side in zip(k, upper, strict=True))
    stated = np.where(square == 0, 0, 9.0 * (square + 4.0) ** -1.5)
    np.testing.assert_allclose(lam, stated, rtol=1e-12)
    u = draw(field, grid, 1500)
    power = np.abs(np.fft.fftn(u, axes=range(1, u.ndim), norm="forward")) ** 2
    volume = np.prod(upper) if normalised else 1.0
    # a mode and its mirror image share the field's energy
    mirrored = stated[np.ix_(*((-np.arange(n)) % n for n in shape))]
    expected = (stated + mirrored) / 2 / volume
    ratio = (power.mean(0) / np.where(expected > 0, expected, 1))[expected > 0]
    assert abs(ratio.mean() - 1) < 0.04
    assert ratio.max() < 1.4
    assert ratio.min() > 0.65
    assert power[(slice(None), *(0,) * len(shape))].max() < 1e-28


@pytest.mark.parametrize("boundary", ["neumann", "dirichlet"])
def test_each_mode_of_a_box_has_its_eigenvalue(boundary):
    grid, field = (
        Grid((12, 10), upper=(1.0, 1.3), centring="cell"),
        GaussianField(2.0, 3.0, boundary=boundary),
    )
    u = draw(field, grid, 2000)
    transform = fft.dctn if boundary == "neumann" else fft.dstn
    volume_mean = transform(u, axes=(1, 2), norm="ortho") / sqrt(120)
    power = (volume_mean**2).mean(0)
    lam = field.eigenvalues(grid) / 1.3
    power = power if boundary == "neumann" else power[:-1, :-1]
    kept = lam > 0
    assert abs((power[kept] / lam[kept]).mean() - 1) < 0.03
    assert (power[kept] / lam[kept]).max() < 1.25
    assert power[~kept].max(initial=0) < 1e-28


def test_the_published_neumann_form():
    s, alpha, tau = 32, 2.0, 3.0
    grid = Grid((s, s), centring="cell")
    k = np.arange(s)
    coefficient = tau ** (alpha - 1) * (pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** (-alpha / 2)
    coefficient[0, 0] = 0
    field = GaussianField(alpha, tau, boundary="neumann")
    np.testing.assert_allclose(np.sqrt(field.eigenvalues(grid)), coefficient, rtol=1e-12)
    assert abs(field.variance(grid) - (coefficient**2).sum()) < 1e-12
    (u,) = draw(field, grid, 1)
    xi = fft.dctn(u, norm="ortho") / s / np.where(coefficient > 0, coefficient, np.inf)
    assert abs((xi**2).sum() / (s * s - 1) - 1) < 0.2  # the numbers that were drawn
    mean_square = (draw(field, grid, 800) ** 2).mean()
    assert abs(mean_square / field.variance(grid) - 1) < 0.05


@pytest.mark.parametrize("centring", ["node", "cell"])
def test_what_fields_do_at_the_boundary(centring):
    grid = Grid((201, 201), centring=centring, boundary="neumann")
    outwards = {}
    for boundary in ("neumann", "dirichlet", "periodic"):
        u = draw(GaussianField(3.0, 3.0, 1.0, boundary=boundary, terms=30), grid, 1)[0]
        outwards[boundary] = abs(u[1] - u[0]).max() / abs(u).max(), abs(u[0]).max() / abs(u).max()
    slope, value = {b: v[0] for b, v in outwards.items()}, {b: v[1] for b, v in outwards.items()}
    assert slope["neumann"] < 0.003 < 0.01 < slope["dirichlet"]
    assert value["dirichlet"] < (1e-12 if centring == "node" else 0.05)
    assert min(value["neumann"], value["periodic"]) > 0.2
    if centring == "node":
        torus = draw(GaussianField(3.0, 3.0), grid, 1)[0]
        np.testing.assert_array_equal(torus[0], torus[-1])


def test_nodes_and_centres_carry_the_same_function():
    for boundary in ("neumann", "dirichlet", "periodic"):
        field = GaussianField(2.0, 3.0, 1.0, boundary=boundary, terms=20)
        nodes = draw(field, Grid((33, 33), boundary="neumann"), 1)[0]
        centres = draw(field, Grid((16, 16), centring="cell"), 1)[0]
        np.testing.assert_allclose(nodes[1::2, 1::2], centres, atol=1e-14)
        inner = draw(field, Grid((31, 31)), 1)[0]
        np.testing.assert_array_equal(nodes[1:-1, 1:-1], inner)


@pytest.mark.parametrize("boundary", ["neumann", "dirichlet", "periodic"])
@pytest.mark.parametrize("n", [12, 15])
def test_a_finer_grid_adds_terms_to_the_same_field(boundary, n):
    """The mean over the finer cells of a field without high terms is that field, so compare coefficients."""
    field, sides = GaussianField(2.0, 3.0, 1.0, boundary=boundary), (1.0, 2.0)
    coarse = draw(field, Grid((n, 2 * n), upper=sides, centring="cell"), 1)[0]
    fine = draw(field, Grid((3 * n, 6 * n), upper=sides, centring="cell"), 1)[0]
    transform = {"neumann": fft.dctn, "dirichlet": fft.dstn, "periodic": fft.fftn}[boundary]
    low, high = transform(coarse, norm="forward"), transform(fine, norm="forward")
    if boundary == "periodic":
        k = n // 2  # modes below the Nyquist frequency; centres lie elsewhere, which turns phases
        keep = np.ix_(np.r_[0:k, 1 - k : 0], np.r_[0 : 2 * k, 1 - 2 * k : 0])
        np.testing.assert_allclose(abs(high[keep]), abs(low[keep]), atol=1e-13)
    else:
        np.testing.assert_allclose(high[: n - 1, : 2 * n - 1], low[: n - 1, : 2 * n - 1], atol=1e-13)


def test_a_given_number_of_terms_is_the_same_function_everywhere():
    field = GaussianField(2.0, 3.0, 1.0, boundary="neumann", terms=100)
    coarse = draw(field, Grid((21, 21), boundary="neumann"), 2, seed=4)
    fine = draw(field, Grid((81, 81), boundary="neumann"), 2, seed=4)
    np.testing.assert_allclose(fine[:, ::4, ::4], coarse, atol=1e-14)
    lam = np.sort(field.eigenvalues(Grid((40, 40), centring="cell")).ravel())[::-1]
    assert abs(field.variance(Grid((20, 20), centring="cell")) - lam[:100].sum()) < 1e-14


def test_one_at_a_time_or_together():
    field = GaussianField(2.5, 7.0)
    one = np.random.default_rng(3)
    together = draw(field, TORUS, 3, seed=3)
    singles = [field.sample(TORUS, 1, one).numpy()[0] for _ in range(3)]
    np.testing.assert_array_equal(np.stack(singles), together)
    assert field.sample(TORUS, 0, one).shape == (0, 64, 64)
    assert field.sample(TORUS, 1, one).dtype == torch.float64


def test_the_constant_term():
    grid = Grid((16,), upper=(2.0,), boundary="periodic")
    field = GaussianField(1.0, 0.5, 3.0, constant=True)
    means = draw(field, grid, 4000).mean(-1)
    assert abs(means.var() / (9.0 / 0.25 / 2.0) - 1) < 0.1
    assert abs(draw(replace(field, constant=False), grid, 5).mean(-1)).max() < 1e-14


def test_errors_name_what_is_needed():
    with pytest.raises(ValueError, match="alpha must be positive"):
        GaussianField(0.0, 1.0)
    with pytest.raises(ValueError, match="sigma is a standard deviation"):
        GaussianField(2.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="tau = 0 leaves the constant term without bound"):
        GaussianField(2.0, 0.0, 1.0, constant=True)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        GaussianField(2.0, 1.0, terms=0)
    with pytest.raises(ValueError, match="'robin' is not a valid Boundary"):
        GaussianField(2.0, 1.0, boundary="robin")
    with pytest.raises(ValueError, match=r"of \(9, 9\) cells does not carry the 100 terms"):
        draw(GaussianField(2.0, 1.0, boundary="neumann", terms=100), Grid((9, 9), centring="cell"), 1)
    for boundary in ("neumann", "dirichlet", "periodic"):
        with pytest.raises(ValueError, match=r"of \(1,\) cells carries no"):
            draw(GaussianField(2.0, 1.0, boundary=boundary), Grid((1,), centring="cell"), 1)


def test_tau_zero_leaves_a_power_law():
    field = GaussianField(1.0, 0.0, 1.0, boundary="neumann")
    lam = field.eigenvalues(Grid((8,), centring="cell"))
    np.testing.assert_allclose(lam[1:], (pi * np.arange(1, 8)) ** -2.0)
    assert lam[0] == 0


@pytest.mark.parametrize("boundary", ["neumann", "dirichlet", "periodic"])
@pytest.mark.parametrize("n", [6, 7])
def test_a_coarse_grid_draws_the_first_terms_of_a_finer_one(boundary, n):
    """To the Nyquist frequency of an even torus, which stands there with one sign only."""
    field = GaussianField(2.0, 3.0, 1.0, boundary=boundary)

    def modes(n):
        grid = Grid((n, 2 * n), upper=(1.0, 2.0), centring="cell")
        numbers = np.stack([k.ravel() for k in np.meshgrid(*field._numbers(grid), indexing="ij")], axis=-1)
        return numbers[_order(field, grid.cells, grid.upper)]

    coarse, fine = modes(n), modes(2 * n + 1)
    np.testing.assert_array_equal(coarse, fine[: len(coarse)])
