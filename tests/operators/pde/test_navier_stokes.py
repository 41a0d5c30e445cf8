"""Vorticity on a torus: an independent advection term, invariants, exact flows, order, amplitudes."""

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.pde.navier_stokes import NavierStokes
from solvus.solvers.time import ETDRK4, rollout

TORUS = Grid((24, 24), boundary="periodic")
OBLONG = Grid((24, 30), lower=(0.5, -1.0), upper=(2.5, 0.0), boundary="periodic")


def start(equation, grid, n=1, seed=0):
    return equation.stack(equation.sample(grid, n, np.random.default_rng(seed)))


def roll(equation, grid, u0, time, dt, frames=1):
    system = equation.semilinear(grid)
    every = round(time / frames / dt)
    return rollout(ETDRK4(system, dt), system.to_modes(u0), frames, every=every, observe=system.to_grid)[
        :, 1:
    ]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def advection(w, grid):
    """-u . grad w of a band-limited field, in NumPy, on a grid three times as fine, cut to |m| < n / 3."""
    shape = grid.shape
    fine = [3 * n for n in shape]
    m = [np.rint(np.fft.fftfreq(n, 1 / n)).astype(int) for n in shape]
    w_hat = np.zeros(fine, dtype=complex)
    w_hat[np.ix_(*m)] = np.fft.fft2(w) * 9
    numbers = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in fine), indexing="ij")
    sides = [b - a for a, b in zip(grid.lower, grid.upper, strict=True)]
    kx, ky = (2 * np.pi * number / side for number, side in zip(numbers, sides, strict=True))
    k2 = kx**2 + ky**2
    psi = np.where(k2 > 0, w_hat / np.where(k2 > 0, k2, 1), 0)
    back = lambda v: np.fft.ifft2(v).real  # noqa: E731
    u, v = back(1j * ky * psi), back(-1j * kx * psi)
    term = np.fft.fft2(-u * back(1j * kx * w_hat) - v * back(1j * ky * w_hat))
    inside = np.ones(fine, dtype=bool)
    for number, n in zip(numbers, shape, strict=True):
        inside &= 3 * np.abs(number) < n
    return back(term * inside)[::3, ::3]


def check_advection(term, w, grid):
    """The discrete term is the advection term, to rounding."""
    reference = torch.as_tensor(advection(w.numpy(), grid))
    assert relative(term, reference) < 1e-12


def smooth_field(grid, seed=0):
    system = NavierStokes().semilinear(grid)
    return system.to_grid(system.to_modes(start(NavierStokes(), grid, seed=seed)))


@pytest.mark.parametrize("grid", [TORUS, OBLONG], ids=["square", "oblong"])
def test_advection_against_an_independent_form(grid):
    w = smooth_field(grid)
    system = NavierStokes(forcing=0.0).semilinear(grid)
    check_advection(system.to_grid(system.nonlinear(system.to_modes(w)))[0, 0], w[0, 0], grid)


@pytest.mark.parametrize("wrong", ["sign", "aliased", "swapped"])
def test_a_wrong_advection_is_caught(wrong):
    w = smooth_field(TORUS)
    system = NavierStokes(forcing=0.0).semilinear(TORUS)
    v = system.to_modes(w)
    term = system.to_grid(system.nonlinear(v))[0, 0]
    if wrong == "sign":
        term = -term
    elif wrong == "swapped":
        term = term.T
    else:
        h = 2j * torch.pi * torch.fft.fftfreq(24, 1 / 24, dtype=torch.float64)
        w_hat = torch.fft.fft2(w[0, 0])
        psi = w_hat / torch.where((h[:, None] ** 2 + h**2).abs() > 0, -(h[:, None] ** 2 + h**2), torch.inf)
        back = lambda c: torch.fft.ifft2(c).real  # noqa: E731
        term = -back(h * psi) * back(h[:, None] * w_hat) + back(h[:, None] * psi) * back(h * w_hat)
    with pytest.raises(AssertionError):
        check_advection(term, w[0, 0], TORUS)


def test_forcing_is_the_published_one():
    system = NavierStokes(forcing=0.1).semilinear(TORUS)
    x, y = (
        torch.as_tensor(c).reshape(shape) for c, shape in zip(TORUS.points().T, [(24, 24)] * 2, strict=True)
    )
    s = 2 * torch.pi * (x + y)
    at_rest = system.to_modes(torch.zeros(1, 1, 24, 24, dtype=torch.float64))
    value = system.to_grid(system.nonlinear(at_rest))[0, 0]
    assert torch.allclose(value, 0.1 * (torch.sin(s) + torch.cos(s)), atol=1e-15)


def test_a_cell_flow_decays():
    grid = Grid((64, 64), boundary="periodic")
    equation = NavierStokes(viscosity=1e-3, forcing=0.0)
    case = equation.exact(grid, [1.0])
    end = roll(equation, grid, case.initial["vorticity"][None, None], 1.0, 1e-3)[0, 0, 0]
    assert relative(end, np.exp(-8 * np.pi**2 * 1e-3) * case.initial["vorticity"]) < 4e-11
    assert relative(end, case.values["vorticity"][0]) < 4e-11


@pytest.mark.parametrize("viscosity", [0.0, 0.02])
@pytest.mark.parametrize("forcing", [0.0, 0.1])
def test_exact_flows_on_an_oblong_box(viscosity, forcing):
    equation = NavierStokes(viscosity=viscosity, forcing=forcing)
    case = equation.exact(OBLONG, [1.0, 2.0])
    end = roll(equation, OBLONG, case.initial["vorticity"][None, None], 2.0, 0.05, frames=2)[0, :, 0]
    assert relative(end, case.values["vorticity"]) < 1e-11


def test_forced_flow_reaches_its_equilibrium():
    equation = NavierStokes(viscosity=0.05, forcing=0.1)
    case = equation.exact(TORUS, [20.0])
    balance = 0.1 / (0.05 * 8 * np.pi**2) * case.initial["vorticity"]
    end = roll(equation, TORUS, start(equation, TORUS), 20.0, 0.1)[0, 0, 0]
    assert relative(end, balance) < 1e-10
    assert relative(case.values["vorticity"][0], balance) < 1e-10


def test_invariants_without_viscosity():
    equation = NavierStokes(viscosity=0.0, forcing=0.0)
    grid = Grid((32, 32), boundary="periodic")
    system = equation.semilinear(grid)
    w0 = system.to_grid(system.to_modes(start(equation, grid) + 0.25))
    w1 = roll(equation, grid, w0, 1.0, 0.02)[:, 0]

    def energy(w):
        k = 2 * torch.pi * torch.fft.fftfreq(32, 1 / 32, dtype=torch.float64)
        k2 = k[:, None] ** 2 + k**2
        w_hat = torch.fft.fft2(w)
        return float((w_hat.abs().square() / torch.where(k2 > 0, k2, torch.inf)).sum())

    assert relative(w1, w0) > 0.05
    assert abs(float(w1.mean()) - 0.25) < 1e-14
    assert abs(float(w1.square().mean() / w0.square().mean()) - 1) < 1e-9
    assert abs(energy(w1) / energy(w0) - 1) < 1e-9


def test_order_in_time():
    equation = NavierStokes()
    w0 = 4 * start(equation, TORUS)
    coarse, middle, fine = (roll(equation, TORUS, w0, 1.0, dt) for dt in (0.05, 0.025, 0.0125))
    assert abs(np.log2(relative(coarse, fine) / relative(middle, fine) - 1) - 4) < 0.3
    assert relative(middle, fine) < 1e-7


def test_gradients_pass():
    equation = NavierStokes()
    grid = Grid((6, 6), boundary="periodic")
    system = equation.semilinear(grid)
    w = start(equation, grid)

    def act(u):
        return system.to_grid(system.nonlinear(system.to_modes(u)))

    assert torch.autograd.gradcheck(act, (w.clone().requires_grad_(),))
    assert torch.allclose(act(w.clone().requires_grad_()), act(w), atol=1e-14)


@pytest.mark.parametrize(("sigma", "spread"), [(7**1.5, 0.185), (7**0.75, 0.043), (2**0.5 * 7**1.5, 0.262)])
def test_amplitudes_of_the_published_readings(sigma, spread):
    grid = Grid((64, 64), boundary="periodic")
    w = NavierStokes(sigma=sigma).sample(grid, 200, np.random.default_rng(1))["vorticity"]
    assert abs(float(w.std()) / spread - 1) < 0.04
    assert float(w.mean((1, 2)).abs().max()) < 1e-12


def test_a_finer_grid_draws_the_same_flow():
    coarse, fine = (start(NavierStokes(), Grid((n, n), boundary="periodic")) for n in (32, 64))
    system = NavierStokes().semilinear(Grid((32, 32), boundary="periodic"))
    cut = torch.fft.rfft2(fine)[..., [*range(16), *range(-16, 0)], :11] / 4
    kept = system.to_modes(coarse)
    inside = kept.abs() > 0
    assert torch.allclose(kept[inside], cut[inside], atol=1e-10)


def test_what_cannot_be_posed():
    with pytest.raises(ValueError, match="posed in 2 dimensions, the grid has 1"):
        NavierStokes().check(Grid((8,), boundary="periodic"))
    with pytest.raises(ValueError, match="periodic"):
        NavierStokes().semilinear(Grid((8, 8)))
    with pytest.raises(ValueError, match="viscosity must not be negative, got -1"):
        NavierStokes(viscosity=-1.0)
    with pytest.raises(ValueError, match="sigma"):
        NavierStokes(sigma=-1.0)


@pytest.mark.slow
def test_refinement_of_the_published_set():
    """64^2 to t = 50 against 128^2 with half the step, at the common points."""
    equation, ends = NavierStokes(viscosity=1e-3), []
    for n, dt in ((64, 0.04), (128, 0.02)):
        grid = Grid((n, n), boundary="periodic")
        ends.append(
            roll(equation, grid, start(equation, grid), 50.0, dt, frames=50)[0, :, 0, :: n // 64, :: n // 64]
        )
    errors = [relative(a, b) for a, b in zip(*ends, strict=True)]
    assert max(errors) < 1e-6
