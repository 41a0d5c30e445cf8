"""Every stepper has the order that it states, keeps gradients and precision, and treats samples alone."""

from dataclasses import dataclass
from math import cos, exp, log2, pi, sin
from typing import ClassVar

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, ShapeMismatch
from solvus.operators.pde.burgers import Burgers
from solvus.operators.pde.evolution import Parabolic, Semilinear
from solvus.solvers import SolveError, Stop
from solvus.solvers.krylov import CG
from solvus.solvers.time import ETDRK4, RK4, CrankNicolson, IMEXEuler, IMEXHeun, TimeStepper, rollout

RATES = torch.tensor([-1.0, -0.3, 0.5], dtype=torch.float64)
COMPLEX_RATES = torch.tensor([-1.0 + 1j, -0.3 - 2j, 0.5j], dtype=torch.complex128)
START = torch.tensor([0.9, 0.5, 1.5], dtype=torch.float64)


def logistic(symbol):
    """v_t = L v - v^2 per entry."""
    return Semilinear(symbol, lambda v: -(v**2), lambda u: u, lambda v: v)


def logistic_solution(L, v, t):
    grown = torch.exp(L * t)
    return L * v * grown / (L - v * (1 - grown))


@dataclass(frozen=True)
class Rod(Parabolic):
    """u_t = (1 + t) u_xx + f with u = cos(3 t) times the first discrete sine: all error is that of time."""

    state: ClassVar = ()

    def sample(self, grid, n, generator):
        pytest.fail("a march draws no samples")

    def check(self, grid):
        pass

    def operator(self, grid, t, scale):
        return Diffusion(grid, scale * (1 + t), 1.0)

    def source(self, grid, t):
        h = grid.spacing[0]
        rate = (1 + t) * (2 - 2 * cos(pi * h)) / h**2
        return (-3 * sin(3 * t) + rate * cos(3 * t)) * self.shape(grid)

    def shape(self, grid):
        return torch.from_numpy(np.sin(pi * grid.axes()[0]))


ROD = Grid((31,))


def rod(dt):
    return (
        CrankNicolson(Rod(), ROD, dt),
        Rod().shape(ROD)[None, None],
        cos(3.0) * Rod().shape(ROD)[None, None],
    )


def on_logistic(stepper, symbol):
    def case(dt):
        start = START.to(symbol.dtype)[None, None]
        return stepper(logistic(symbol), dt), start, logistic_solution(symbol, start, 1.0)

    case.order = stepper.order
    return case


rod.order = CrankNicolson.order
CASES = {
    f"{stepper.__name__} {'complex' if symbol.is_complex() else 'real'}": on_logistic(stepper, symbol)
    for stepper in (ETDRK4, RK4, IMEXEuler, IMEXHeun)
    for symbol in (RATES, COMPLEX_RATES)
} | {"CrankNicolson": rod}


def measured_order(case, steps):
    errors = []
    for n in (steps, 2 * steps):
        stepper, start, exact = case(1 / n)
        errors.append(float((rollout(stepper, start, 1, every=n)[:, 1] - exact).abs().max()))
    return log2(errors[0] / errors[1])


@pytest.mark.parametrize("name", CASES)
def test_order(name):
    assert measured_order(CASES[name], 20) == pytest.approx(CASES[name].order, abs=0.2)


@pytest.mark.parametrize("wrong", ["_f2", "_q"])
def test_a_wrong_scheme_fails(wrong):
    """The factor 2 of the third weight, or the stages' weight, is easily lost."""

    def case(dt):
        stepper, start, exact = CASES["ETDRK4 real"](dt)
        setattr(stepper, wrong, getattr(stepper, wrong) * 0.5)
        return stepper, start, exact

    assert abs(measured_order(case, 20) - ETDRK4.order) > 0.2


def test_published_errors_of_etdrk4():
    """Specification of the Burgers generator, section 8.2: u0 = sin x + cos(2 x) / 2, nu = 0.1."""
    grid = Grid((256,), upper=(2 * pi,), boundary="periodic")
    x = torch.from_numpy(grid.axes()[0])
    system = Burgers(0.1).semilinear(grid)
    v0 = system.to_modes((torch.sin(x) + torch.cos(2 * x) / 2)[None, None])

    def at_one(n):
        return rollout(ETDRK4(system, 1 / n), v0, 1, every=n, observe=system.to_grid)[:, 1]

    reference = at_one(1280)
    errors = [float((at_one(n) - reference).norm() / reference.norm()) for n in (10, 20, 40, 80)]
    assert errors == pytest.approx([1.90e-4, 1.41e-5, 9.89e-7, 6.57e-8], rel=4e-3)
    assert float(reference.mean()) == pytest.approx(float(system.to_grid(v0).mean()), abs=1e-14)


def test_linear_part_is_exact_in_etdrk4_whatever_the_step():
    stiff = torch.tensor([-1e6, -3.0, 2j], dtype=torch.complex128)
    system = Semilinear(stiff, None, lambda u: u, lambda v: v)
    v = torch.ones(2, 1, 3, dtype=torch.complex128)
    torch.testing.assert_close(ETDRK4(system, 0.7)(v)[0, 0], torch.exp(0.7 * stiff))
    with_zero = Semilinear(stiff, torch.zeros_like, lambda u: u, lambda v: v)
    torch.testing.assert_close(ETDRK4(with_zero, 0.7)(v)[0, 0], torch.exp(0.7 * stiff))


@pytest.mark.parametrize("stepper", [ETDRK4, RK4, IMEXEuler, IMEXHeun])
def test_no_nonlinear_part_equals_a_zero_one(stepper):
    v = START[None, None]
    nothing = Semilinear(RATES, None, lambda u: u, lambda v: v)
    zero = Semilinear(RATES, torch.zeros_like, lambda u: u, lambda v: v)
    torch.testing.assert_close(stepper(nothing, 0.1)(v), stepper(zero, 0.1)(v), rtol=1e-15, atol=0)


def test_rk4_takes_any_function():
    assert float(RK4(lambda u: -u, 0.1)(torch.ones(1))) == pytest.approx(exp(-0.1), abs=1e-7)


@pytest.mark.parametrize(("axis", "limit"), [(-1.0, 2.785), (1j, 2.828)])
def test_stated_limit_of_rk4(axis, limit):
    symbol = torch.tensor([axis * 0.999, axis * 1.01], dtype=torch.complex128)
    linear = Semilinear(symbol, None, lambda u: u, lambda v: v)
    inside, outside = RK4(linear, limit)(torch.ones(1, 1, 2, dtype=torch.complex128))[0, 0].abs().tolist()
    assert inside < 1 < outside


@pytest.mark.parametrize("name", CASES)
def test_float32(name):
    stepper, start, _ = CASES[name](0.1)
    if isinstance(stepper, CrankNicolson):
        low = stepper
    else:
        symbol = COMPLEX_RATES if "complex" in name else RATES
        low = type(stepper)(
            logistic(symbol.to(torch.complex64 if symbol.is_complex() else torch.float32)), 0.1
        )
    lowered = start.to(torch.complex64 if start.is_complex() else torch.float32)
    value = low(lowered)
    assert value.dtype == lowered.dtype
    torch.testing.assert_close(value.to(start.dtype), stepper(start), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradient_and_untouched_state(name):
    stepper, start, _ = CASES[name](0.1)
    before = start.clone()
    u = start.clone().requires_grad_()
    stepper(start)
    assert torch.equal(start, before)
    assert torch.autograd.gradcheck(lambda u: rollout(stepper, u, 2), u, atol=1e-6)


def test_gradient_for_what_a_nonlinear_part_holds():
    factor = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def end(c, stepper):
        system = Semilinear(RATES, lambda v: -c * v**2, lambda u: u, lambda v: v)
        return stepper(system, 0.1)(START[None, None])

    for stepper in (ETDRK4, RK4, IMEXEuler, IMEXHeun):
        assert torch.autograd.gradcheck(lambda c, s=stepper: end(c, s), factor)


@pytest.mark.parametrize(
    "make", [lambda dt: ETDRK4(logistic(RATES), dt), lambda dt: CrankNicolson(Rod(), ROD, dt)]
)
@pytest.mark.parametrize("dt", [0.0, -0.1, float("nan")])
def test_step_must_be_positive(make, dt):
    with pytest.raises(ValueError, match="must be positive"):
        make(dt)


def test_divergence_is_left_to_the_caller():
    system = logistic(torch.tensor([1e3], dtype=torch.float64))
    end = rollout(RK4(system, 1.0), torch.ones(1, 1, 1, dtype=torch.float64), 1, every=9)
    assert not torch.isfinite(end).all()


# Crank-Nicolson

PLATE = Grid((24, 31))


@dataclass(frozen=True)
class Plate(Rod):
    def source(self, grid, t):
        return torch.full(grid.shape, t, dtype=torch.float64)


@pytest.mark.parametrize("solver", [None, CG()])
def test_sample_does_not_depend_on_its_batch(solver):
    settings = {} if solver is None else {"solver": solver}
    stepper = CrankNicolson(Plate(), PLATE, 0.01, **settings)
    u = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 1, *PLATE.shape)))
    whole = stepper.step(u, 0.3)
    for size in (1, 2, 3):
        parts = torch.cat([stepper.step(u[i : i + size], 0.3) for i in range(0, 5, size)])
        assert torch.equal(whole, parts)


def test_crank_nicolson_solves_the_system_of_the_equation():
    u = torch.rand(2, 1, *PLATE.shape, dtype=torch.float64)
    A, b = Plate().system(PLATE, 0.3, 0.01, u[:, 0])
    value = CrankNicolson(Plate(), PLATE, 0.01).step(u, 0.3)
    torch.testing.assert_close(A @ value.flatten(1), b)


def test_unsolved_system_is_an_error():
    stepper = CrankNicolson(Plate(), PLATE, 0.1, solver=CG(), stop=Stop(rtol=1e-10, max_steps=2))
    with pytest.raises(SolveError, match="MAX_STEPS"):
        stepper(torch.rand(1, 1, *PLATE.shape, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(2, 24, 31), (2, 2, 24, 31), (2, 1, 31, 24)])
def test_state_must_fit(shape):
    with pytest.raises(ShapeMismatch, match="this grid needs"):
        CrankNicolson(Plate(), PLATE, 0.1)(torch.zeros(shape, dtype=torch.float64))


# rollout


def test_rollout_passes_the_time():
    class Clock(TimeStepper):
        order = 1

        def step(self, u, t):
            return torch.full_like(u, t)

    times = rollout(Clock(0.5), torch.zeros(1, 1), 2, every=3, t0=10.0)
    assert times[0, :, 0].tolist() == [0.0, 11.0, 12.5]


def test_rollout_observes_and_steps():
    record = rollout(lambda u: u + 1, torch.zeros(2, 3), 2, every=2, observe=lambda u: 10 * u[:, :1])
    assert record.shape == (2, 3, 1)
    assert record[0, :, 0].tolist() == [0.0, 20.0, 40.0]


@pytest.mark.parametrize(("frames", "every"), [(-1, 1), (1, 0)])
def test_rollout_rejects(frames, every):
    with pytest.raises(ValueError, match="frames must be >= 0"):
        rollout(lambda u: u, torch.zeros(1), frames, every=every)


def test_every_stepper_is_in_the_contract():
    covered = {type(case(0.1)[0]) for case in CASES.values()}
    found, queue = set(), [TimeStepper]
    while queue:
        for kind in queue.pop().__subclasses__():
            queue.append(kind)
            if kind.__module__.startswith("solvus.") and hasattr(kind, "order"):
                found.add(kind)
    assert found == covered
