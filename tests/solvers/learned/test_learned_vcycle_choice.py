"""The compiled cycle with chosen settings: SPD for every choice, classical by default, never wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.linear.algebra import Identity
from solvus.operators.linear.errors import NotSupported
from solvus.operators.pde.fields import log_normal, two_phase
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.learned.vcycle import (
    CANDIDATES,
    ChooserConfig,
    CycleChooser,
    CycleSettings,
    LearnedCycle,
    Systems,
    chosen_cost,
    costs,
    features,
    fit,
    learned_cycle,
)
from solvus.solvers.learned.vcycle.chooser import FEATURES
from solvus.solvers.learned.vcycle.hierarchy import boxed, dense, first_coarse, padded
from solvus.solvers.learned.vcycle.packed import Packed, Plain, coarsen, geometry, plain
from solvus.solvers.multigrid import Islands, multigrid
from solvus.solvers.multigrid.galerkin import galerkin
from solvus.solvers.multigrid.islands import find
from solvus.solvers.multigrid.stencil import ArrayStencil
from solvus.solvers.multigrid.transfer import OperatorTransfer

WIDE = torch.float64
MIXED = (("neumann", "dirichlet"), ("dirichlet", "neumann"))
DISC = np.add.outer((np.arange(32) - 15.5) ** 2, (np.arange(32) - 15.5) ** 2) > 36


def jumping(n=31, contrast=1e4, seed=0, **options):
    grid = Grid((n, n) if isinstance(n, int) else n, **options)
    return Diffusion(grid, two_phase(grid, contrast, seed))


OPERATORS = {
    "two-phase": lambda: jumping(),
    "log-normal": lambda: Diffusion(Grid((31, 31)), log_normal(Grid((31, 31)), 2.0, 3)),
    "even": lambda: jumping(24, seed=1),
    "mixed faces": lambda: jumping((21, 26), boundary=MIXED),
    "cells": lambda: jumping(32, centring="cell"),
    "obstacle": lambda: jumping(32, centring="cell", mask=DISC),
    "wall": lambda: jumping(32, centring="cell", mask=DISC, obstacle="dirichlet"),
    "one axis": lambda: jumping((400,)),
    "three axes": lambda: jumping((9, 10, 11), seed=2),
}


@pytest.fixture(params=OPERATORS)
def A(request):
    return OPERATORS[request.param]()


def matrix(M):
    return M.matvec(torch.eye(M.shape[0], dtype=M.dtype)).T


def right_side(A, seed=0):
    return torch.randn(A.shape[0], dtype=A.dtype, generator=torch.Generator().manual_seed(seed))


def check_spd(matrix):
    """Symmetric to 1e-12 of the largest entry, and positive definite."""
    assert (matrix - matrix.T).abs().max() < 1e-12 * matrix.abs().max()
    assert float(torch.linalg.eigvalsh((matrix + matrix.T) / 2).min()) > 0


def chooser(seed=0, size=1.0):
    """A chooser with random weights everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CycleChooser(ChooserConfig(width=8))
        for p in net.parameters():
            torch.nn.init.normal_(p, std=size)
    return net


def test_the_compiled_cycle_is_that_of_multigrid(A):
    b = right_side(A)
    M = LearnedCycle(A, CycleChooser(), bottom=30, dtype=WIDE)
    assert M.fallback is None
    assert M.settings == CANDIDATES[0] == CycleSettings((2, 2, 1), 1.0)
    same = multigrid(cycle="W", bottom=30, dtype=WIDE)(A) @ b
    assert float((M @ b - same).norm()) < 1e-10 * float(same.norm())


def test_other_settings_make_another_cycle():
    A = jumping()
    b = right_side(A)
    classical, other = (LearnedCycle(A, None, settings=s, bottom=30) @ b for s in CANDIDATES[:2])
    assert float((classical - other).norm()) > 1e-3 * float(other.norm())


def test_without_a_network_it_is_the_classical_cycle_to_the_last_bit(A):
    M = learned_cycle(None)(A)
    assert M.fallback == "no network was given"
    assert torch.equal(M @ right_side(A), multigrid(cycle="W")(A) @ right_side(A))


@pytest.mark.parametrize("choice", CANDIDATES)
@pytest.mark.parametrize("name", ["two-phase", "mixed faces", "obstacle", "three axes"])
def test_spd_for_every_candidate(name, choice):
    A = OPERATORS[name]()
    check_spd(matrix(LearnedCycle(A, None, settings=choice, bottom=8, dtype=WIDE)))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    exponent=st.floats(0.1, 7),
    n=st.tuples(st.integers(7, 17), st.integers(7, 17)),
    visits=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    interval=st.floats(0.25, 1),
)
def test_spd_for_random_coefficients_and_settings(seed, exponent, n, visits, interval):
    try:
        choice = CycleSettings(tuple(visits), interval)
    except ValueError:  # refused: not positive definite
        reject()
    check_spd(
        matrix(LearnedCycle(jumping(n, 10**exponent, seed), None, settings=choice, bottom=4, dtype=WIDE))
    )


@pytest.mark.parametrize("wrong", ["weights", "interval"])
def test_the_check_of_spd_can_fail(wrong):
    A = jumping(n=31, contrast=1e6)
    M = LearnedCycle(A, None, settings=CycleSettings((2, 2, 2), 0.25), bottom=4, dtype=WIDE)
    check_spd(matrix(M))
    if wrong == "weights":
        M.weights = -M.weights
    else:
        M.factors = 2 * M.factors
    with pytest.raises(AssertionError):
        check_spd(matrix(M))


@pytest.mark.parametrize(
    "name", ["two-phase", "even", "mixed faces", "cells", "obstacle", "one axis", "three axes"]
)
def test_coarse_operators_are_those_of_multigrid(name):
    A = OPERATORS[name]()
    first, stencil, level = first_coarse(A), padded(A), plain(A)
    for _ in range(2):  # star, then full stencil
        stencil = galerkin(stencil, OperatorTransfer(stencil, first))
        level = coarsen(level, geometry(level.layout, first))[1]
        assert isinstance(stencil, ArrayStencil)
        inside = stencil.layout.inside
        scale = float(stencil.centre.max())
        torch.testing.assert_close(
            inside(torch.as_tensor(level.centre)), inside(stencil.centre), rtol=1e-10, atol=1e-12 * scale
        )
        for mine, theirs in zip(level.w, stencil.sides.values(), strict=True):
            torch.testing.assert_close(torch.as_tensor(mine), theirs, rtol=1e-9, atol=1e-12 * scale)


def surrounded(a):
    """Return a copy of an array that lies between others in memory, which hold no numbers."""
    wide = np.full((3, *a.shape), np.nan)
    wide[1] = a
    return wide[1]


@pytest.mark.parametrize("shape", [(11, 11), (8, 9), (5, 7, 9)])
def test_nothing_beside_the_arrays_counts(shape):
    """Next to a Neumann face neighbours of ghosts are asked for, which lie outside the arrays."""
    grid = Grid(shape, centring="cell", boundary="neumann")
    A = Diffusion(grid, two_phase(grid, 10.0, 0))
    level, first = plain(A), first_coarse(A)
    for _ in range(2):  # star, then full stencil
        bare = Plain(level.layout, surrounded(level.centre), surrounded(level.w), level.d)
        shape_of = geometry(level.layout, first)
        (p, level), (q, other) = coarsen(level, shape_of), coarsen(bare, shape_of)
        assert np.array_equal(p, q)
        assert np.array_equal(level.centre, other.centre)
        assert np.array_equal(level.w, other.w)


def test_dense_bottom():
    A = jumping(24)
    packed = Packed(A, 300, None, np.float64)
    last = packed.stencils[-1]
    full = dense(boxed(_stencil(last)))[0]
    torch.testing.assert_close(torch.as_tensor(packed.inverse) @ full, torch.eye(len(full), dtype=WIDE))


def _stencil(level: Plain):
    keys = [(0, 1), (1, -1), (1, 0), (1, 1)]
    w = {k: torch.as_tensor(v) for k, v in zip(keys, level.w, strict=True)}
    return ArrayStencil(level.layout, torch.as_tensor(level.centre), w)


def test_islands_are_those_of_multigrid():
    A = jumping(63, 1e6)
    packed, found = Packed(A, 300, Islands(), np.float64), find(padded(A), Islands())
    group = packed.groups[0]
    assert found is not None
    assert group is not None
    np.testing.assert_allclose(
        group.inverse, found.inverse[0], rtol=1e-9, atol=1e-12 * abs(group.inverse).max()
    )
    assert int((group.run[:, 1] - group.run[:, 0]).sum()) == found.ZT.nnz


def test_the_limit_of_islands_holds():
    packed = Packed(jumping(63, 1e6), 300, Islands(limit=5), np.float32)
    assert packed.groups[0].inverse.shape == (5, 5)


def test_features_do_not_see_the_scale():
    grid = Grid((63, 63))
    k = two_phase(grid, 1e4, 0)
    small, large = (features(Packed(Diffusion(grid, s * k), 300, Islands(), np.float64)) for s in (1, 1e4))
    assert small.shape == (FEATURES,)
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-4)


def test_features_leave_the_cycle_alone():
    A = jumping(63)
    b = right_side(A)
    M = LearnedCycle(A, CycleChooser())
    before = M @ b
    features(M.packed)
    assert torch.equal(M @ b, before)


def test_weights_of_the_visits():
    assert CycleSettings((2, 1), 1.0).weights(0) == [1.0, 1.0]
    assert CycleSettings((2, 1), 0.5).weights(5) == [1.0]
    first, second = CycleSettings((2,), 0.5).weights(0)
    error = (1 - first) * (1 - second)  # the polynomial at 1 and at 1/2 is 1 / T_2(3)
    assert error == pytest.approx(1 / 17)
    assert (1 - first / 2) * (1 - second / 2) == pytest.approx(1 / 17)


def test_every_parameter_gets_a_gradient():
    net, seen = chooser(), torch.randn(16, FEATURES, generator=torch.Generator().manual_seed(0))
    net(seen)[:, 1:].square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_costs_and_fit():
    systems = Systems(sizes=(31, 47), seed=1)
    rows = [costs(systems.draw(k), CANDIDATES[:4]) for k in range(6)]
    seen, table = torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])
    assert all(1 < steps < 60 for r in rows for steps in r[2])
    net = CycleChooser(ChooserConfig(choices=4))
    assert chosen_cost(net, seen, table) == 1.0
    best = float((table.min(1).values - table[:, 0]).mean().exp())
    assert best <= fit(net, seen, table, epochs=300) < 1.0


def test_fit_learns_a_rule_that_is_there():
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(1000, FEATURES, generator=generator)
    seen[:, 4] += (
        0.5 * seen[:, 4].sign()
    )  # a margin: a rule with a jump has no smooth approximation at the jump
    table = torch.zeros(1000, 3)
    table[:, 1], table[:, 2] = 0.2 * seen[:, 4].sign(), 0.1
    net = CycleChooser(ChooserConfig(choices=3))
    fit(net, seen[:800], table[:800], epochs=300)
    assert chosen_cost(net, seen[800:], table[800:]) < 0.92
    assert chosen_cost(CycleChooser(ChooserConfig(choices=3)), seen, table) == 1.0


def test_systems_are_repeatable_and_mixed():
    systems = Systems(sizes=(31,))
    drawn = [systems.draw(k) for k in range(12)]
    assert torch.equal(drawn[3].b, systems.draw(3).b)
    masks = [s.A.grid.mask is not None for s in drawn]
    assert 0 < sum(masks) < 12


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_leave_the_classical_cycle(value):
    A, net = jumping(), chooser()
    with torch.no_grad():
        net.skip.bias[0] = value
    M = LearnedCycle(A, net)
    assert M.fallback == "the network gave NaN or infinite numbers"
    assert "classical: the network gave NaN" in repr(M)
    assert torch.equal(M @ right_side(A), multigrid(cycle="W")(A) @ right_side(A))


def test_a_cycle_that_fails_the_probe_is_not_used(monkeypatch):
    A = jumping()
    monkeypatch.setattr(LearnedCycle, "_positive", lambda self: False)
    M = LearnedCycle(A, chooser())
    assert M.fallback == "r.Mr > 0 failed for a random r"
    assert M.settings is None
    assert torch.equal(M @ right_side(A), multigrid(cycle="W")(A) @ right_side(A))


def test_the_probe_sees_an_indefinite_cycle():
    M = LearnedCycle(jumping(), chooser())
    assert M._positive()
    M.weights = -M.weights
    assert not M._positive()


UNFIT = {
    "the compiled cycle treats one system on the CPU": lambda: Diffusion(
        Grid((31, 31)), np.stack([two_phase(Grid((31, 31)), 1e2, s) for s in (0, 1)])
    ),
    "the compiled cycle does not know periodic axes": lambda: jumping(32, boundary="periodic"),
    "constant coefficients on a full box: nothing to choose": lambda: Diffusion(Grid((31, 31))),
    "too small for levels": lambda: jumping(11),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_where_it_does_not_apply_the_classical_cycle_stands_in(reason):
    A = UNFIT[reason]()
    M = LearnedCycle(A, chooser())
    assert M.fallback == reason
    b = torch.randn(*A.batch_shape, A.shape[0], dtype=WIDE, generator=torch.Generator().manual_seed(1))
    if A.nullspace is None:
        result = solve(LinearSystem(A, b), CG(learned_cycle(chooser())), stop=Stop(rtol=1e-8))
        assert bool((result.status.name == "CONVERGED") if isinstance(result.steps, int) else True)
    assert torch.equal(M @ b, multigrid(cycle="W")(A) @ b)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.3, 3.0, 1e4, float("inf"), float("nan")]))
def test_broken_networks_never_give_a_wrong_answer(seed, size):
    A = jumping(24, 1e3, seed)
    net = chooser(seed)
    with torch.no_grad():
        net.head.weight.mul_(size)
    b = right_side(A, seed)
    result = solve(LinearSystem(A, b), CG(learned_cycle(net)), stop=Stop(rtol=1e-9, max_steps=200))
    assert float((b - A @ result.value).norm()) <= 1.01e-9 * float(b.norm())


def test_singular_systems():
    A = jumping(48, boundary="neumann", centring="cell")
    assert A.nullspace is not None
    b = right_side(A)
    b -= b.mean()
    M = LearnedCycle(A, CycleChooser())
    assert M.fallback is None
    result = solve(LinearSystem(A, b), CG(lambda _: M), stop=Stop(rtol=1e-8, max_steps=60))
    assert result.status.name == "CONVERGED"


def test_as_many_steps_as_multigrid():
    A = jumping(127, 1e6, seed=4)
    problem, stop = LinearSystem(A, right_side(A)), Stop(rtol=1e-8)
    mine = solve(problem, CG(learned_cycle(CycleChooser())), stop=stop).steps
    assert abs(mine - solve(problem, CG(multigrid(cycle="W")), stop=stop).steps) <= 1


def test_save_and_load(tmp_path):
    net, A = chooser(), jumping(63)
    net.save(tmp_path / "part")
    b = right_side(A)
    M = learned_cycle(tmp_path / "part")(A)
    assert torch.equal(M @ b, LearnedCycle(A, net) @ b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CycleSettings((4,)), "visited 1 to 3 times, got"),
        (lambda: CycleSettings(()), "visited 1 to 3 times, got"),
        (lambda: CycleSettings((2,), 0.1), "begins between 0.25 and 1, got 0.1"),
        (lambda: CycleSettings((2, 3), 0.25), "may give an operator that is not positive definite: end in 1"),
        (lambda: ChooserConfig(choices=1), "2 to 14 choices, got 24 and 1"),
        (
            lambda: learned_cycle(None)(Identity(3, WIDE, torch.device("cpu"))),
            "needs a Diffusion, got Identity",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises((ValueError, NotSupported), match=message):
        make()
