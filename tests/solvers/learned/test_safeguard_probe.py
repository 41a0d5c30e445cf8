"""Learned preconditioners that are tried out at set-up: every fault, and what no probe can see."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.meshes import Grid
from solvus.operators.linear import SPD, Diffusion, NotSupported, ShapeMismatch, dense
from solvus.operators.linear.algebra import Diagonal
from solvus.solvers import CG, FlexibleCG, LinearSystem, Status, Stop, solve
from solvus.solvers.learned.directions import MultilevelConfig, MultilevelNetwork, learned_directions
from solvus.solvers.learned.safeguard import Safeguarded
from solvus.solvers.learned.safeguard_probe import probed
from solvus.solvers.learned.vcycle import VCycleNetwork, learned_vcycle
from solvus.solvers.preconditioners import identity, jacobi, ssor
from solvus.solvers.preconditioners.inverse import Inverse

TIGHT = Stop(rtol=1e-9, max_steps=600)


def system():
    b = torch.randn(144, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return LinearSystem(Diffusion(Grid((12, 12))), b)


class Map(Inverse):
    """Any function as a preconditioner, declared positive definite."""

    def __init__(self, A, function, tags=SPD):
        super().__init__(A, tags)
        self.function = function

    def apply(self, x, out):
        out.copy_(self.function(x))


def by(function, tags=SPD):
    return lambda A: Map(A, function, tags)


def _refuse(r):
    raise KeyError("weights")


_NOISE = torch.Generator().manual_seed(5)
FAULTS = {
    "NaN": (lambda r: r * float("nan"), "M r is not finite"),
    "one NaN": (lambda r: torch.where(torch.arange(r.shape[-1]) == 3, float("nan"), r), "M r is not finite"),
    "infinite": (lambda r: r / 0.0, "M r is not finite"),
    "zero": (lambda r: 0 * r, r"r.M r > 0 failed"),
    "negated": (lambda r: -r, r"r.M r > 0 failed"),
    "indefinite": (lambda r: r * torch.linspace(-1, 0.9, r.shape[-1], dtype=r.dtype), r"r.M r > 0 failed"),
    "nonsymmetric": (lambda r: r + 0.5 * r.roll(1, -1), r"r.M s = s.M r failed"),
    "nonlinear": (lambda r: torch.sign(r), r"r.M s = s.M r failed"),
    "bias": (lambda r: r + 0.01, r"r.M s = s.M r failed"),
    "saturates": (lambda r: torch.tanh(r), r"r.M s = s.M r failed"),
    "varies": (
        lambda r: r * (1 + 0.1 * torch.rand(1, generator=_NOISE, dtype=r.dtype)),
        "another one the second time",
    ),
    "raises": (_refuse, "KeyError: 'weights'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_leads_to_the_fallback(name):
    batch = (3,) if name in ("NaN", "indefinite", "varies") else ()
    function, reason = FAULTS[name]
    k = torch.ones(*batch, 13, 13, dtype=torch.float64)
    A = Diffusion(Grid((12, 12)), k)
    M = probed(by(function))(A)
    assert reason in M.fallback
    assert M.positive_definite
    assert "not used" in repr(M)
    r = torch.randn(*batch, 144, dtype=torch.float64)
    assert torch.equal(M @ r, jacobi(A) @ r)
    problem = LinearSystem(A, r)
    found = solve(problem, CG(probed(by(function))), stop=TIGHT).value
    assert torch.allclose(found, r @ torch.linalg.inv(dense(system().A)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "good", [identity, jacobi, ssor(1.5), learned_vcycle(None), learned_vcycle(VCycleNetwork())]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_good_preconditioner_is_used(good, dtype):
    for boundary in ("dirichlet", "neumann"):
        A = Diffusion(Grid((20, 21), centring="cell", boundary=boundary), dtype=dtype)
        M = probed(good)(A)
        assert M.fallback is None
        r = torch.randn(420, dtype=dtype)
        assert torch.equal(M @ r, good(A) @ r)
        assert torch.equal(M.T @ r, good(A).T @ r)


def test_one_bad_sample_of_a_batch_is_enough():
    A = Diffusion(Grid((5, 4)), torch.ones(3, 6, 5, dtype=torch.float64))
    signs = torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64)
    assert "r.M r > 0 failed" in probed(by(lambda r: signs * r))(A).fallback


def test_only_what_is_declared_is_asked_for():
    A = system().A
    assert probed(by(torch.sign, frozenset()))(A).fallback is None  # for FlexibleCG
    result = solve(system(), FlexibleCG(probed(by(torch.sign, frozenset()))), stop=TIGHT)
    assert result.status is Status.CONVERGED
    with pytest.raises(NotSupported, match="CG needs a symmetric positive definite preconditioner"):
        solve(system(), CG(probed(by(torch.sign, frozenset()))))


def test_other_operators_and_errors():
    A = system().A
    small = lambda A: Diagonal(torch.ones(3, dtype=torch.float64))  # noqa: E731
    assert probed(small)(A).fallback.startswith("M is (3, 3) in torch.float64")

    def refuse(A):
        raise NotSupported("not for me")

    assert probed(refuse)(A).fallback == "NotSupported: not for me"
    with pytest.raises(NotSupported, match="not for me"):
        probed(refuse, refuse)(A)
    assert probed(refuse, identity)(A).inner.shape == A.shape
    with pytest.raises(ValueError, match="at least 1 pair of vectors, got 0"):
        probed(jacobi, probes=0)


def test_what_a_probe_cannot_see():
    """One negative eigenvalue among many passes; CG breaks down, and a safeguard goes on."""
    matrix = sp.diags_array(np.linspace(1, 2, 400)).tocsr()
    problem = LinearSystem(matrix, torch.ones(400, dtype=torch.float64))
    signs = torch.ones(400, dtype=torch.float64)
    signs[7] = -1.0
    sly = probed(by(lambda r: signs * r))
    assert sly(problem.A).fallback is None
    reasons = []
    for size in (1.0, 5.0, 15.0, 30.0):
        b = torch.where(torch.arange(400) == 7, size, 1.0).double()
        plain = solve(LinearSystem(problem.A, b), CG(sly), stop=TIGHT, throw=False)
        reasons += [plain.reason] if plain.status is not Status.CONVERGED else []
        watched = solve(LinearSystem(problem.A, b), Safeguarded(CG(sly)), stop=TIGHT)
        for result in (plain, watched):
            if result.status is Status.CONVERGED:
                assert np.allclose(matrix @ result.value.numpy(), b.numpy(), atol=1e-6)
    assert any("the preconditioner is not positive definite" in reason for reason in reasons)


def test_wrong_specimen_without_a_probe():
    with pytest.raises(Exception, match="weights"):
        solve(system(), CG(by(_refuse)))
    assert solve(system(), CG(by(lambda r: -r)), throw=False).status is Status.BREAKDOWN


def test_a_direction_network_of_a_wrong_shape_has_a_name():
    net = MultilevelNetwork(MultilevelConfig(levels=1))
    net.propose = lambda r, prepared: r[..., :-1]
    A = Diffusion(Grid((4, 4, 4), centring="cell"))
    with pytest.raises(ShapeMismatch, match="a direction has one value per cell"):
        learned_directions(net)(A) @ torch.ones(64, dtype=torch.float64)
