"""Where bases come from: any matrix, snapshots, trained networks; how they are kept."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.linear.errors import NonFinite, NotSupported, ShapeMismatch
from solvus.operators.neural.deeponet import DeepONetConfig, DeepONetOnGrid
from solvus.operators.neural.fno import FNO, FNOConfig
from solvus.operators.neural.pod import PODDeepONetConfig, PODDeepONetOnGrid
from solvus.operators.pde.fields import log_normal
from solvus.solvers import CG, LinearSystem, Stop, solve, ssor
from solvus.solvers.learned.deflation import (
    Basis,
    DeflatedCG,
    TrunkBasis,
    TrunkConfig,
    deflation,
    network_basis,
)
from solvus.solvers.learned.deflation.trunk import envelope
from solvus.solvers.training import Surrogate, normalisers
from solvus.solvers.training.saving import ChangedWeights, UnknownArchitecture


def span_distance(P, basis):
    """Largest relative part of the columns of P outside of the span of a basis."""
    Q, P = basis.columns, torch.as_tensor(P, dtype=torch.float64)
    return float(((P - Q @ (Q.mT @ P)).norm(dim=0) / P.norm(dim=0)).max())


def orthonormal(basis):
    gram = basis.columns.mT @ basis.columns
    return bool(torch.allclose(gram, torch.eye(basis.size, dtype=torch.float64), atol=1e-12))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 30), m=st.integers(0, 12), rank=st.integers(0, 12), seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-150, 1.0, 1e150]),
)  # fmt: skip
def test_columns_are_orthonormal_and_span_the_matrix(n, m, rank, seed, scale):
    rng = np.random.default_rng(seed)
    P = scale * (rng.standard_normal((n, rank)) @ rng.standard_normal((rank, m)))
    basis = Basis.of(P)
    assert orthonormal(basis)
    assert basis.size <= min(n, m, rank)
    if m and rank:
        assert basis.size == np.linalg.matrix_rank(P / scale, rtol=1e-10)
        assert span_distance(P / scale, basis) < 1e-8


def test_what_is_dropped_is_below_1e_10_of_the_first():
    Q = scipy.linalg.qr(np.random.default_rng(0).standard_normal((20, 4)), mode="economic")[0]
    assert Basis.of(Q * [1.0, 1e-3, 1e-9, 1.1e-10]).size == 4
    assert Basis.of(Q * [1.0, 1e-3, 1e-9, 0.9e-10]).size == 3
    assert Basis.of(torch.zeros(5, 3)).size == 0


def test_zero_marks_rows():
    zero = torch.zeros(12, dtype=torch.bool)
    zero[[0, 5]] = True
    basis = Basis.of(torch.randn(12, 4), zero=zero)
    assert basis.columns[zero].abs().max() == 0
    assert orthonormal(basis)


def test_snapshots_give_the_singular_vectors():
    U = np.random.default_rng(0).standard_normal((9, 30)) * np.linspace(3, 1, 9)[:, None]
    vectors = np.linalg.svd(U)[2]
    for k in (1, 4, 9):
        basis = Basis.from_snapshots(U.reshape(9, 5, 6), columns=k)
        assert basis.size == k
        assert span_distance(vectors[:k].T, basis) < 1e-10
    held = np.cumsum(np.linalg.svd(U)[1] ** 2)
    share = 0.7
    assert Basis.from_snapshots(U, energy=share).size == int(np.searchsorted(held, share * held[-1])) + 1
    assert Basis.from_snapshots(U, energy=1.0).size == 9


REFUSED = {
    "no matrix": (lambda: Basis.of(torch.ones(4)), ShapeMismatch, r"a matrix \(unknowns.*, got \(4,\)"),
    "no finite matrix": (lambda: Basis.of(torch.full((4, 2), torch.nan)), NonFinite, "hold NaN or infinity"),
    "zero of another length": (
        lambda: Basis.of(torch.ones(4, 2), zero=torch.zeros(3)),
        ShapeMismatch,
        r"the 4 unknowns .* got \(3,\)",
    ),
    "one snapshot without an axis": (
        lambda: Basis.from_snapshots(torch.ones(4)), ShapeMismatch, r"\(samples, unknowns\), got \(4,\)",
    ),
    "columns and energy": (
        lambda: Basis.from_snapshots(torch.ones(2, 4), columns=2, energy=0.9),
        ValueError,
        "columns or energy, not both",
    ),
    "an energy of 2": (
        lambda: Basis.from_snapshots(torch.ones(2, 4), energy=2.0), ValueError, r"in \(0, 1\], got 2",
    ),
    "snapshots that failed": (
        lambda: Basis.from_snapshots(torch.full((2, 4), torch.inf)), NonFinite, "leave out those solves",
    ),
    "a network without a trunk": (
        lambda: network_basis(FNO(FNOConfig(1, 1, modes=(2, 2), width=4))), NotSupported, "this is FNO",
    ),
    "several outputs": (
        lambda: network_basis(DeepONetOnGrid(DeepONetConfig(1, 2, (4, 4)))), NotSupported, "has 2 outputs",
    ),
    "several outputs of modes": (
        lambda: network_basis(PODDeepONetOnGrid(PODDeepONetConfig(1, 2, (4, 4), modes=3))),
        NotSupported,
        "has 2 outputs",
    ),
    "a grid of other axes": (
        lambda: TrunkBasis(TrunkConfig(2, (8,), 4)).on(Grid((7,))),
        NotSupported,
        "2 coordinates, the grid has 1 axes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_why(what):
    call, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        call()


def test_saved_and_loaded(tmp_path):
    basis = Basis.from_snapshots(torch.randn(6, 40), columns=5)
    basis.save(tmp_path / "basis", meta={"seed": 0, "seconds": 1.5})
    again = Basis.load(tmp_path / "basis")
    assert torch.equal(again.columns, basis.columns)
    assert again.config == basis.config
    card = (tmp_path / "basis" / "README.md").read_text()
    assert "| source | 6 snapshots |" in card
    assert "| seconds | 1.5 |" in card
    empty = Basis.of(torch.zeros(7, 0))
    empty.save(tmp_path / "empty")
    assert Basis.load(tmp_path / "empty").size == 0
    trunk = TrunkBasis(TrunkConfig(2, (8, 8), 4, fourier=1, upper=(1.0, 2.0)))
    trunk.save(tmp_path / "trunk")
    grid = Grid((6, 7), upper=(1.0, 2.0))
    assert torch.equal(TrunkBasis.load(tmp_path / "trunk").on(grid).columns, trunk.on(grid).columns)
    A, b = Diffusion(grid), torch.ones(42, dtype=torch.float64)
    assert torch.equal(deflation(tmp_path / "trunk")(A) @ b, deflation(trunk)(A) @ b)
    with pytest.raises(UnknownArchitecture, match="TrunkBasis, needed is Basis"):
        Basis.load(tmp_path / "trunk")
    weights = tmp_path / "basis" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"12345678")
    with pytest.raises(ChangedWeights):
        deflation(tmp_path / "basis")
    assert "40 unknowns, 5 columns of 6 snapshots" in repr(basis)


def deeponet(**settings):
    return DeepONetOnGrid(DeepONetConfig(1, 1, (8, 8), trunk=(16,), features=5, **settings))


@pytest.mark.parametrize("options", [{}, {"lower": (0.0, -1.0), "upper": (2.0, 1.0)}, {"fourier": 2}])
def test_outputs_of_a_deeponet_lie_in_the_span_of_its_trunk(options):
    net = deeponet(**options)
    box = {name: options[name] for name in ("lower", "upper") if name in options}
    grid = Grid((11, 9), centring="cell", **box)
    trunk = network_basis(net)
    assert isinstance(trunk, TrunkBasis)
    basis = TrunkBasis.from_network(net, vanish=False).on(grid)
    assert basis.size == 6
    assert orthonormal(basis)
    with torch.no_grad():
        u = net.double().at(torch.randn(7, 1, 8, 8, dtype=torch.float64), torch.as_tensor(grid.points()))
    assert span_distance(u[:, 0].mT, basis) < 1e-6  # the points are held in float32
    assert span_distance(u[:, 0].mT * envelope(grid)[:, None], trunk.on(grid)) < 1e-6


def test_a_copy_of_the_trunk_is_taken():
    net = deeponet()
    trunk = network_basis(net)
    before = trunk.on(Grid((5, 5))).columns.clone()
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    assert torch.equal(trunk.on(Grid((5, 5))).columns, before)
    assert all(p.dtype is torch.float32 for p in trunk.parameters())


def test_the_functions_do_not_depend_on_the_resolution():
    trunk = network_basis(deeponet())
    coarse, fine = Grid((7, 7)), Grid((15, 15))
    shared = torch.zeros(15, 15, dtype=torch.bool)
    shared[1::2, 1::2] = True  # the nodes of the coarse grid
    fine_values = trunk.on(fine).columns[shared.flatten()]
    assert span_distance(trunk.on(coarse).columns, Basis.of(fine_values)) < 1e-8


def test_every_parameter_of_the_trunk_gets_a_gradient():
    trunk = TrunkBasis(TrunkConfig(2, (8, 8), 4))
    trunk.trunk(torch.rand(10, 2)).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in trunk.parameters())


def test_the_leading_functions_are_those_that_hold_the_most():
    trunk = TrunkBasis(TrunkConfig(2, (16,), 8, vanish=False))
    grid = Grid((9, 9))
    with torch.no_grad():
        values = trunk.trunk.double()(torch.as_tensor(grid.points()))
    values = torch.cat([values, torch.ones(81, 1, dtype=torch.float64)], 1)
    left = torch.linalg.svd(values)[0][:, :3]
    trunk.trunk.float()
    assert trunk.on(grid, columns=3).size == 3
    assert span_distance(left, trunk.on(grid, columns=3)) < 1e-6
    assert trunk.on(grid, columns=99).size == 9


def test_functions_vanish_on_dirichlet_faces_and_outside_of_the_mask():
    mixed = Grid((5, 4), boundary=(("neumann", "dirichlet"), ("dirichlet", "dirichlet")))
    x, y = np.meshgrid(*mixed.axes(), indexing="ij")
    np.testing.assert_allclose(envelope(mixed), ((1 - x) * 4 * y * (1 - y)).ravel())
    assert bool((envelope(Grid((5,), boundary="periodic")) == 1).all())
    mask = np.ones((6, 6), dtype=bool)
    mask[2:4, 2:4] = False
    basis = TrunkBasis(TrunkConfig(2, (16,), 8)).on(Grid((6, 6), centring="cell", mask=mask))
    assert basis.columns[~mask.ravel()].abs().max() == 0


@pytest.mark.parametrize("normalised", [False, True])
def test_outputs_of_a_pod_deeponet_lie_in_the_span_of_its_modes(normalised, tmp_path):
    x, y = torch.rand(20, 1, 8, 8), torch.randn(20, 1, 8, 8).cumsum(-1) + 3
    net = PODDeepONetOnGrid(PODDeepONetConfig(1, 1, (8, 8), modes=4, branch=(8,)))
    encode, decode = normalisers((x, y)) if normalised else (None, None)
    net.fit_basis(y if decode is None else decode.encode(y))
    model = Surrogate(net, encode, decode)
    model.save(tmp_path / "model")
    for basis in (network_basis(model), network_basis(tmp_path / "model")):
        assert isinstance(basis, Basis)
        assert basis.size == 5
        assert span_distance(model.predict(x).flatten(1).mT, basis) < 1e-5


def test_snapshots_of_a_family_cut_the_steps_of_its_other_members():
    grid = Grid((40, 40), centring="cell")
    ones = torch.ones(grid.size, dtype=torch.float64)
    draw = lambda seed: Diffusion(grid, log_normal(grid, 1.0, seed, structures=3.0))  # noqa: E731
    stop = Stop(rtol=1e-8)
    training = [solve(LinearSystem(draw(s), ones), CG(ssor(1.5)), stop=stop).value for s in range(1, 33)]
    basis = Basis.from_snapshots(torch.stack(training), columns=16)
    system = LinearSystem(draw(0), ones)
    plain = solve(system, CG(ssor(1.5)), stop=stop).steps
    steps = {form: solve(system, CG(deflation(basis, ssor(1.5), form=form)), stop=stop).steps
             for form in ("additive", "multiplicative")}  # fmt: skip
    deflated = solve(system, DeflatedCG(basis, ssor(1.5)), stop=stop).steps
    assert deflated < 0.7 * plain
    assert steps["additive"] < 0.9 * plain
    assert steps["multiplicative"] < 0.5 * plain
