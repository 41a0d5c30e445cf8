"""The learned V-cycle: classical to the last bit at first, SPD whatever the network says, never wrong."""

import json

import numpy as np
import pytest
import scipy.sparse.linalg as spla
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.linear.algebra import Identity
from solvus.operators.linear.errors import NotSupported
from solvus.operators.pde.fields import log_normal, two_phase
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.learned.vcycle import (
    Group,
    LearnedVCycle,
    Trainer,
    Training,
    VCycleConfig,
    VCycleNetwork,
    amend,
    iterations,
    learned_vcycle,
)
from solvus.solvers.learned.vcycle.features import from_blocks, level_features, to_blocks
from solvus.solvers.learned.vcycle.hierarchy import (
    apply_cycle,
    basis,
    boxed,
    coarsened,
    dense,
    first_coarse,
    interpolation,
    padded,
    set_up,
)
from solvus.solvers.learned.vcycle.levels import learned_levels
from solvus.solvers.learned.vcycle.training import contraction, draw_coefficient, reduction
from solvus.solvers.multigrid import Islands, multigrid

WIDE = torch.float64


def network(seed=0, size=0.5, **settings):
    """A network with random weights, head included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = VCycleNetwork(VCycleConfig(**{"width": 8, "start": 0, **settings}))
        torch.nn.init.normal_(net.head.weight, std=size)
        torch.nn.init.normal_(net.head.bias, std=size)
    return net


def jumping(n=31, contrast=1e4, seed=0, **options):
    grid = Grid((n, n) if isinstance(n, int) else n, **options)
    return Diffusion(grid, two_phase(grid, contrast, seed))


def matrix(M):
    return M.matvec(torch.eye(M.shape[0], dtype=M.dtype)).T


def right_side(A, seed=0):
    return torch.randn(
        *A.batch_shape, A.shape[0], dtype=A.dtype, generator=torch.Generator().manual_seed(seed)
    )


MIXED = (("neumann", "dirichlet"), ("dirichlet", "neumann"))
DISC = np.add.outer((np.arange(32) - 15.5) ** 2, (np.arange(32) - 15.5) ** 2) > 36
OPERATORS = {
    "two-phase": lambda: jumping(),
    "even": lambda: jumping(24, seed=1),
    "mixed faces": lambda: jumping((21, 26), boundary=MIXED),
    "cells": lambda: jumping(32, centring="cell"),
    "obstacle": lambda: jumping(32, centring="cell", mask=DISC),
    "constant": lambda: Diffusion(Grid((31, 31))),
    "one axis": lambda: jumping((400,)),
    "three axes": lambda: jumping((9, 10, 11), seed=2),
}


@pytest.fixture(params=OPERATORS)
def A(request):
    return OPERATORS[request.param]()


def check_spd(matrix):
    """Symmetric to 1e-12 of the largest entry, and positive definite."""
    assert (matrix - matrix.T).abs().max() < 1e-12 * matrix.abs().max()
    assert float(torch.linalg.eigvalsh((matrix + matrix.T) / 2).min()) > 0


def test_an_untrained_network_leaves_the_classical_cycle_to_the_last_bit(A):
    net = VCycleNetwork(VCycleConfig(dim=A.grid.dim, width=4, start=0))
    b = right_side(A)
    assert torch.equal(LearnedVCycle(A, net) @ b, LearnedVCycle(A, None) @ b)


@pytest.mark.parametrize("cycle", ["V", "W"])
def test_the_classical_cycle_is_that_of_multigrid(cycle):
    A = jumping(63)
    b = right_side(A)
    assert torch.equal(LearnedVCycle(A, None, cycle=cycle) @ b, multigrid(cycle=cycle)(A) @ b)


def test_a_network_changes_the_cycle():
    A = jumping()
    b = right_side(A)
    assert not torch.allclose(LearnedVCycle(A, network()) @ b, LearnedVCycle(A, None) @ b, rtol=1e-2)


def test_spd_whatever_the_network_says(A):
    net = network(dim=A.grid.dim, size=2.0)
    check_spd(matrix(LearnedVCycle(A, net, dtype=WIDE, bottom=20)))


@pytest.mark.parametrize("wrong", ["not positive", "restriction by another transfer"])
def test_the_check_of_spd_can_fail(wrong):
    A = jumping(24)
    M = LearnedVCycle(A, network(), dtype=WIDE, bottom=20)
    check_spd(matrix(M))
    if wrong == "not positive":
        M.weights = [-w for w in M.weights]
    else:
        other = LearnedVCycle(A, None, dtype=WIDE, bottom=20)
        M.levels[0].transfer.restrict = other.levels[0].transfer.restrict
    with pytest.raises(AssertionError):
        check_spd(matrix(M))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.1, 1.0, 10.0, 1e3]),
    exponent=st.floats(0, 6),
    n=st.tuples(st.integers(5, 14), st.integers(5, 14)),
)
def test_spd_for_random_coefficients_and_random_networks(seed, size, exponent, n):
    A = jumping(n, 10**exponent, seed)
    check_spd(matrix(LearnedVCycle(A, network(seed, size), dtype=WIDE, bottom=4)))


@pytest.mark.parametrize("islands", [None, Islands()])
@pytest.mark.parametrize("name", ["two-phase", "even", "mixed faces", "cells", "one axis", "three axes"])
def test_differentiable_and_compiled_cycles_agree(name, islands):
    A = OPERATORS[name]()
    net, first, b = network(dim=A.grid.dim), first_coarse(A), right_side(A)
    M = LearnedVCycle(A, net, dtype=WIDE, bottom=30, islands=islands)
    with torch.no_grad():
        levels = set_up(boxed(padded(A)), first, net, bottom=30, islands=islands)
        y = apply_cycle(levels, first, b.reshape(1, 1, *A.grid.shape), M.weights).flatten()
    assert float((M @ b - y).norm()) < 1e-9 * float(y.norm())


def test_coarse_operators_are_variational():
    A = jumping((9, 12))
    first, box = first_coarse(A), boxed(padded(A))
    p = basis(interpolation(box, first), first, box.shape)
    coarse = coarsened(box, p, first)
    P = torch.zeros(9, 12, *coarse.shape, dtype=WIDE)
    for (o0, o1), values in p.items():
        for i in range(coarse.shape[0]):
            for j in range(coarse.shape[1]):
                place = (2 * i + 1 + o0, 2 * j + 1 + o1)
                if place[0] < 9 and place[1] < 12:
                    P[(*place, i, j)] = values[0, i, j]
    P = P.reshape(108, -1)
    torch.testing.assert_close(dense(coarse)[0], P.T @ dense(box)[0] @ P)


def test_a_batch_is_a_loop():
    grid, net = Grid((31, 31)), network().double()  # float32 convolutions round differently in a batch
    k = np.stack([two_phase(grid, 1e3, 0), log_normal(grid, 2.0, 1)])
    M, b = LearnedVCycle(Diffusion(grid, k), net, dtype=WIDE), right_side(Diffusion(grid, k))
    for sample in range(2):
        alone = LearnedVCycle(Diffusion(grid, k[sample]), net, dtype=WIDE) @ b[sample]
        assert float(((M @ b)[sample] - alone).norm()) < 1e-8 * float(alone.norm())


def test_blocks_there_and_back():
    for first, shape in (((1, 1), (7, 8)), ((0, 1), (8, 5)), ((0, 0), (7, 6))):
        x = torch.randn(2, 1, *shape)
        assert torch.equal(from_blocks(to_blocks(x, first), first, shape), x[:, 0])


def test_features_do_not_see_the_scale():
    box = boxed(padded(jumping()))
    big = {o: 1e5 * w for o, w in box.sides.items()}
    torch.testing.assert_close(level_features(1e5 * box.centre, big), level_features(box.centre, box.sides))


def test_corrected_rows_keep_their_sum_and_walls():
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(2, 5, generator=generator)  # noqa: E731
    offsets = [(-1,), (0,), (1,)]
    weights = [(o, torch.rand(2, 5, generator=generator)) for o in offsets]
    weights[1] = (offsets[1], torch.zeros(2, 5))
    after = dict(amend(weights, {o: draw() for o in offsets}, {o: 0.3 * draw() for o in offsets}))
    torch.testing.assert_close(sum(after.values()), sum(w for _, w in weights))
    assert bool((after[(0,)] == 0).all())
    assert not torch.allclose(after[(1,)], weights[2][1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_leave_the_classical_cycle(value):
    net, A = network(), jumping()
    with torch.no_grad():
        net.lift.weight[0, 0] = value
    M = LearnedVCycle(A, net)
    assert M.fallback == "the network gave NaN or infinite numbers"
    assert "network not used" in repr(M)
    assert torch.equal(M @ right_side(A), LearnedVCycle(A, None) @ right_side(A))
    result = solve(LinearSystem(A, right_side(A)), CG(learned_vcycle(net)), stop=Stop(rtol=1e-8))
    assert result.status.name == "CONVERGED"


def test_a_cycle_that_fails_the_probe_is_not_used(monkeypatch):
    A = jumping()
    given = iter([False])
    monkeypatch.setattr(LearnedVCycle, "_positive", lambda self, probes: next(given))
    M = LearnedVCycle(A, network())
    assert M.fallback == "r.Mr > 0 failed for a random r"
    assert torch.equal(M @ right_side(A), LearnedVCycle(A, None) @ right_side(A))


def test_the_probe_sees_an_indefinite_cycle():
    M = LearnedVCycle(jumping(), network())
    assert M._positive(2)
    M.weights = [-w for w in M.weights]
    assert not M._positive(2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.3, 3.0, 1e4, float("inf"), float("nan")]))
def test_broken_networks_never_give_a_wrong_answer(seed, size):
    A = jumping(20, 1e3, seed)
    net = network(seed, 1.0)
    with torch.no_grad():
        net.head.weight.mul_(size)
    b = right_side(A, seed)
    result = solve(LinearSystem(A, b), CG(learned_vcycle(net)), stop=Stop(rtol=1e-9, max_steps=500))
    assert float((b - A @ result.value).norm()) <= 1.01e-9 * float(b.norm())


def test_every_parameter_gets_a_gradient():
    net, A = network(), jumping()
    group = Group(A, 0, 2, torch.Generator().manual_seed(0))
    contraction(group, group.levels(net), [0.5, 1.2]).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_gradients_are_those_of_finite_differences():
    net, A = network(width=3).double(), jumping((9, 9), 10.0)
    group = Group(A, 0, 2, torch.Generator().manual_seed(0))
    start = group.errors
    generator = torch.Generator().manual_seed(1)
    parameters = list(net.parameters())
    direction = [torch.randn(p.shape, dtype=WIDE, generator=generator) for p in parameters]

    def value():
        group.errors = start
        levels = set_up(group.box, group.first, net, bottom=10, islands=Islands())
        draw = torch.Generator().manual_seed(3)
        return contraction(group, levels, [0.5, 1.2]) + reduction(group, levels, [0.5, 1.2], 2, draw)

    def moved(step):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
            return float(value())

    gradient = torch.autograd.grad(value(), parameters)
    slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    step = 1e-6
    ahead = moved(step)
    behind = moved(-2 * step)
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-4)


TINY = Training(
    steps=40, sizes=(31,), batch=2, groups=1, visits=1000, vectors=3, burn_in=8, rate=5e-3, evaluate_every=20
)


def test_training_makes_the_worst_errors_smaller(tmp_path):
    torch.manual_seed(0)
    net, rows = VCycleNetwork(VCycleConfig(width=8, start=0)), []
    trainer = Trainer(net, TINY, folder=tmp_path, report=rows.append)
    trainer.run([jumping()])
    group = trainer.groups[0]
    worst = {}
    for name, used in (("classical", None), ("learned", net)):
        with torch.no_grad():
            for _ in range(20):
                loss = contraction(group, group.levels(used), trainer.sweeps)
        worst[name] = float(loss)
    assert worst["learned"] < worst["classical"] - 0.05
    assert [row["step"] for row in rows] == [20, 40]
    assert (
        json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["zero_output"]
        == rows[0]["zero_output"]
    )


def test_training_can_be_taken_up_again(tmp_path):
    once, again = (Trainer(network(), TINY) for _ in range(2))
    once.advance()
    once.save_state(tmp_path / "state.pt")
    again.load_state(tmp_path / "state.pt")
    assert again.step == 1
    for p, q in zip(once.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(p, q)
    once.groups = []
    assert once.advance() == pytest.approx(again.advance())


def test_iterations_of_the_classical_cycle():
    A = jumping(63)
    plain = solve(LinearSystem(A, right_side(A)), CG(multigrid()), stop=Stop(rtol=1e-8))
    assert iterations(None, [A]) == [plain.steps]


def test_save_and_load(tmp_path):
    net, A = network(), jumping()
    net.save(tmp_path / "part")
    b = right_side(A)
    assert torch.equal(learned_vcycle(tmp_path / "part")(A) @ b, LearnedVCycle(A, net) @ b)


def test_inside_scipy():
    A = jumping(63)
    M = learned_vcycle(network(size=0.1))(A)
    n, b = A.shape[0], right_side(A).numpy()

    def as_scipy(op):
        return spla.LinearOperator((n, n), matvec=lambda v: (op @ torch.as_tensor(v)).numpy(), dtype=float)

    steps = []
    x, info = spla.cg(as_scipy(A), b, rtol=1e-8, M=as_scipy(M), callback=steps.append)
    assert info == 0
    assert len(steps) < 60
    assert np.linalg.norm(b - (A @ torch.as_tensor(x)).numpy()) < 1e-7 * np.linalg.norm(b)


def test_coefficients_of_the_training_cover_both_families():
    grid, rng = Grid((31, 31)), np.random.default_rng(0)
    drawn = [draw_coefficient(grid, rng) for _ in range(20)]
    two = [k for k in drawn if len(np.unique(k)) == 2]
    assert 3 < len(two) < 17
    assert max(k.max() / k.min() for k in two) > 1e4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VCycleConfig(dim=4), "dim 1 to 3"),
        (lambda: VCycleConfig(smoother=1.3), "1 <= smoother < 1.25"),
        (lambda: LearnedVCycle(jumping(boundary="periodic", n=16), network()), "does not know periodic axes"),
        (lambda: LearnedVCycle(jumping((9, 9, 9)), network()), "the network is for 2 axes, the grid has 3"),
        (lambda: LearnedVCycle(jumping(), network(), cycle="F"), "learned F-cycle is not symmetric"),
    ],
)
def test_errors(make, message):
    with pytest.raises((ValueError, NotSupported), match=message):
        make()


def test_needs_a_grid():
    with pytest.raises(NotSupported, match=r"needs a Diffusion, got Identity: use amg\(\)"):
        learned_vcycle(None)(Identity(3, WIDE, torch.device("cpu")))


def test_levels_before_the_start_stay_classical():
    A = jumping(63)
    options = {"bottom": 20, "islands": None, "dtype": WIDE}
    classical, learned = (learned_levels(A, net, **options) for net in (None, network(start=1)))
    same = [
        all(
            torch.equal(v, w)
            for (_, r), (_, s) in zip(p.transfer.classes, q.transfer.classes, strict=True)
            for (_, v), (_, w) in zip(r, s, strict=True)
        )
        for p, q in list(zip(classical, learned, strict=True))[:2]
    ]
    assert same == [True, False]
