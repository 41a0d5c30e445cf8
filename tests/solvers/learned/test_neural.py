import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from solvus.meshes import Grid
from solvus.operators.linear import NotSupported
from solvus.operators.linear.errors import ShapeMismatch
from solvus.operators.neural.base import WrongChannels, WrongResolution
from solvus.operators.pde import Darcy, Poisson
from solvus.solvers import CG, GMRES, Jacobi, LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.direct import SuperLU
from solvus.solvers.learned.chain import Chain
from solvus.solvers.learned.neural import FieldSystem, Neural
from solvus.solvers.multigrid import multigrid
from solvus.solvers.training.surrogate import Signature, Surrogate

GRID = Grid((8, 8), centring="cell")
TIGHT = Stop(rtol=1e-10, max_steps=200)


def _contracts():
    file = Path(__file__).parents[2] / "contracts" / "test_solvers.py"
    spec = importlib.util.spec_from_file_location("contracts_of_chain", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


suite = _contracts()


class Answer(nn.Module):
    """A network that knows the solution, up to a factor."""

    def __init__(self, u, factor=1.0):
        super().__init__()
        self.u, self.factor = u, nn.Parameter(torch.tensor(factor, dtype=torch.float64))
        self.seen = None

    def forward(self, x):
        self.seen = x
        return self.u.reshape(-1, 1, *x.shape[2:]).expand(len(x), -1, -1, -1) * self.factor


class Broken(nn.Module):
    """A network that gives something else than the solution."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        u = x[:, :1]
        return {
            "nan": u * float("nan"),
            "one-nan": torch.where(torch.arange(len(u))[:, None, None, None] == 0, float("nan"), u),
            "infinite": u / 0.0,
            "huge": 1e12 * u,
            "garbage": torch.sin(1e3 * torch.arange(u.numel())).reshape(u.shape).to(u),
        }[self.kind]


def system(batch=()):
    """Darcy's equation, one or several coefficients."""
    k = 1 + 11 * (torch.rand(*batch, *GRID.shape, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    return FieldSystem(Darcy(), GRID, {"coefficient": k})


def surrogate(net):
    return Surrogate(net, signature=Signature(("coefficient",), ("u",)))


def truth(problem):
    return solve(problem, CG(), stop=Stop(rtol=1e-13, max_steps=500)).value


@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_prediction_and_its_true_residual(batch):
    problem = system(batch)
    u = truth(problem)
    net = Answer(u, 1.01)
    result = solve(problem, Neural(surrogate(net)), throw=False)
    assert (result.status, result.steps) == (Status.BREAKDOWN, 1)
    assert torch.allclose(result.value, 1.01 * u)
    assert torch.allclose(result.relative_residual, torch.full(batch, 0.01, dtype=torch.float64), rtol=1e-6)
    assert net.seen.shape == (*(batch or (1,)), 1, 8, 8)
    assert torch.equal(net.seen.squeeze(), problem.fields["coefficient"])
    assert solve(problem, Neural(surrogate(Answer(u))), stop=Stop(rtol=1e-9)).status is Status.CONVERGED


@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_good_start_saves_steps(batch):
    problem = system(batch)
    u = truth(problem)
    plain = solve(problem, CG(), stop=TIGHT)
    network = Neural(surrogate(Answer(u + 1e-7 * torch.sin(torch.arange(64)) * u.norm())))
    chained = solve(problem, Chain(network, CG()), stop=TIGHT)
    assert chained.status is Status.CONVERGED
    assert chained.steps < plain.steps
    assert float(chained.residuals[1].max()) < 1e-3 * float(chained.residuals[0].min())
    assert torch.allclose(chained.value, u, rtol=1e-7)


def test_multigrid_corrects_a_prediction():
    problem = system()
    u = truth(problem)
    result = solve(problem, Chain(Neural(surrogate(Answer(u, 1.1))), CG(multigrid())), stop=TIGHT)
    assert torch.allclose(result.value, u, rtol=1e-7)
    assert float(result.residuals[1] / result.residuals[0]) == pytest.approx(0.1)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("kind", ["nan", "one-nan", "infinite", "huge", "garbage"])
def test_a_broken_network_costs_one_step(kind, batch):
    problem = system(batch)
    plain = solve(problem, CG(), stop=TIGHT)
    result = solve(problem, Chain(Neural(surrogate(Broken(kind))), CG()), stop=TIGHT)
    assert result.status is Status.CONVERGED
    assert torch.allclose(result.value, plain.value, rtol=1e-7)
    if kind not in ("garbage", "one-nan"):  # nothing of it was used
        assert torch.equal(result.value, plain.value)
        assert result.steps == plain.steps + 1


def test_samples_are_judged_one_by_one():
    problem = system((3,))
    u = truth(problem)
    mixed = u.clone()
    mixed[1] = float("nan")
    result = solve(problem, Chain(Neural(surrogate(Answer(mixed))), CG()), stop=TIGHT)
    assert result.sample_steps.tolist()[::2] == [1, 1]
    assert result.sample_steps[1] > 5
    assert torch.allclose(result.value, u, rtol=1e-7)


def test_a_broken_network_alone_is_found_out():
    assert solve(system(), Neural(surrogate(Broken("nan"))), throw=False).status is Status.NONFINITE
    result = solve(system(), Neural(surrogate(Broken("huge"))), throw=False)
    assert float(result.relative_residual) > 1e6
    assert result.status is Status.BREAKDOWN


def test_wrong_shapes_have_names():
    class Two(nn.Module):
        def forward(self, x):
            return x.repeat(1, 2, 1, 1)

    for solver in (Neural(surrogate(Two())), Chain(Neural(surrogate(Two())), CG())):
        with pytest.raises(ShapeMismatch, match="one value per unknown"):
            solve(system(), solver)
    nodes = Grid((8, 8))
    k = torch.ones(nodes.cells, dtype=torch.float64)
    with pytest.raises(WrongResolution, match="cell-centred"):
        solve(FieldSystem(Darcy(), nodes, {"coefficient": k}), Neural(surrogate(Broken("nan"))))


def test_problems_without_fields_are_refused():
    problem = system()
    plain = LinearSystem(problem.A, problem.b)
    for solver in (Neural(surrogate(Broken("nan"))), Chain(Neural(surrogate(Broken("nan"))), CG())):
        with pytest.raises(NotSupported, match="FieldSystem"):
            solve(plain, solver)
    other = FieldSystem(Poisson(), Grid((8, 8)), {"source": torch.ones(8, 8, dtype=torch.float64)})
    with pytest.raises(WrongChannels, match="takes coefficient; the problem has source"):
        solve(other, Neural(surrogate(Broken("nan"))))
    with pytest.raises(WrongChannels, match="without names"):
        solve(other, Neural(Surrogate(Broken("nan"))))


def test_gradients_pass_through_a_chain():
    k = 1 + torch.rand(*GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grads = []
    for solver in (CG(), Chain(Neural(surrogate(Broken("garbage"))), CG())):
        c = k.clone().requires_grad_()
        problem = FieldSystem(Darcy(), GRID, {"coefficient": c})
        solve(problem, solver, stop=Stop(rtol=1e-12)).value.square().sum().backward()
        grads.append(c.grad)
    assert torch.allclose(grads[0], grads[1], rtol=1e-8, atol=1e-14)


# --- a chain is a solver like any other ---------------------------------------------------------------------

CHAINS = [
    (Chain(Jacobi(0.5), CG()), "spd_csr"),
    (Chain(Jacobi(0.5), CG(), steps=3), "batched"),
    (Chain(CG(), GMRES(), steps=2), "neumann"),
    (Chain(GMRES(), GMRES()), "nonsymmetric"),
    (Chain(Jacobi(0.5), SuperLU()), "diffusion"),
]


@pytest.mark.parametrize(
    "contract",
    [
        "converges",
        "reports_the_true_residual",
        "batch_equals_loop",
        "starts_where_told",
        "is_deterministic",
        "stops_early",
        "has_no_scale",
        "has_no_memory",
        "is_settings_only",
    ],
)
@pytest.mark.parametrize(
    ("solver", "name"), CHAINS, ids=[f"{type(c.second).__name__}-{n}" for c, n in CHAINS]
)
def test_contracts(solver, name, contract):
    getattr(suite, contract)(solver, name)


def test_a_chain_refuses_what_one_of_its_parts_refuses():
    suite.rejects_with_advice(Chain(GMRES(), CG()), "nonsymmetric")
    suite.rejects_with_advice(Chain(CG(), GMRES()), "nonsymmetric")


def test_steps_count_over_both():
    problem = suite.system("spd_csr")
    plain = solve(problem, CG(), stop=TIGHT)
    result = solve(problem, Chain(Jacobi(0.5), CG(), steps=4), stop=TIGHT)
    assert 4 < result.steps <= plain.steps + 4
    assert bool((result.residuals[1:5] < result.residuals[:4]).all())
    with pytest.raises(ValueError, match="at least 1 step"):
        Chain(CG(), CG(), steps=0)


def test_a_first_solver_that_breaks_down_or_ends_is_passed_by():
    A = torch.diag(torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64))
    declared = LinearSystem(suite.sparse(A.numpy(), tags=suite.SPD), torch.ones(3, dtype=torch.float64))
    result = solve(declared, Chain(CG(), GMRES(), steps=5), stop=TIGHT)
    assert torch.allclose(result.value, 1 / A.diagonal())


def test_wrong_specimen_a_chain_without_a_guard():
    """Without the comparison a NaN ends the solve: the tests above must see it."""

    class Unguarded(Solver):
        def iterate(self, problem, x):
            yield from Neural(surrogate(Broken("nan"))).iterate(problem, x)

    with pytest.raises(AssertionError):
        assert solve(system(), Unguarded(), throw=False).status is Status.CONVERGED
