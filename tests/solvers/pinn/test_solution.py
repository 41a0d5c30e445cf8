"""A solution in a folder: what is loaded is what was saved, or an error that says what differs."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from solvus.meshes.geometry import Interval
from solvus.solvers.optim import Adam
from solvus.solvers.pinn import (
    MLP,
    PINN,
    BadProblem,
    BoundaryProblem,
    Dirichlet,
    Hard,
    Phase,
    Points,
    Solution,
    Unknown,
    fit,
)
from solvus.solvers.pinn.model import Model
from solvus.solvers.pinn.networks import Custom, Fourier, WrongSettings
from solvus.solvers.pinn.solution import build

FEW = Points(domain=12, boundary=4, initial=4, least=2)
STEPS = (Phase(Adam(), 4),)
POINTS = np.linspace(0, 1, 7)[:, None]


def problem(**starts):
    unknowns = {name: Unknown(start) for name, start in starts.items()}
    return BoundaryProblem(Interval(0.0, 1.0), lambda u: u.xx + 1, [Dirichlet(0.0)], unknowns=unknowns)


def saved(folder, posed, architecture):
    network = build(architecture, posed, 0, torch.empty(0, dtype=torch.float64))
    model = Model(posed, network)
    solution = Solution(model, model.start(), architecture)
    solution.save(folder)
    return solution


def module(width=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)).double()


def frozen():
    found = module()
    found[0].weight.requires_grad_(False)
    found[0].weight.data.fill_(0.7)
    return found


# --- unknowns -------------------------------------------------------------------------------------


def test_unknowns_keep_their_names(tmp_path):
    solution = saved(tmp_path, problem(a=2.0, b=5.0), MLP(4, 1))
    loaded = Solution.load(tmp_path, problem(b=0.0, a=0.0))
    assert loaded.unknowns == {"b": 5.0, "a": 2.0}
    assert torch.equal(loaded(POINTS), solution(POINTS))


@pytest.mark.parametrize("other", [{}, {"c": 1.0}, {"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}])
def test_other_unknowns_are_refused(other, tmp_path):
    saved(tmp_path, problem(a=2.0, b=5.0), MLP(4, 1))
    with pytest.raises(BadProblem, match=r"has unknowns \['a', 'b'\], the problem has .* its own problem"):
        Solution.load(tmp_path, problem(**other))


# --- buffers --------------------------------------------------------------------------------------


def test_another_form_is_another_function(tmp_path):
    def formed(lift):
        form = {"u": Hard(lift=lift, factor=lambda x: x)}
        return BoundaryProblem(Interval(0.0, 1.0), lambda u: u.xx + 1, [Dirichlet(0.0)], constraint=form)

    u = saved(tmp_path, formed(lambda x: 1 + x), MLP(5, 1))
    assert torch.equal(Solution.load(tmp_path, formed(lambda x: 1 + x))(POINTS), u(POINTS))
    for other in (formed(lambda x: 1 - x), problem()):
        with pytest.raises(BadProblem, match=r"the functions in .* are others with this problem.*`hard` of"):
            Solution.load(tmp_path, other)


def test_other_weights_are_another_function(tmp_path):
    u = saved(tmp_path, problem(), MLP(5, 1))
    path = tmp_path / "solution.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save({**tensors, "theta": tensors["theta"] * 1.1}))
    with pytest.raises(BadProblem, match="the functions in"):
        Solution.load(tmp_path, problem())
    record = json.loads((tmp_path / "solution.json").read_text())
    del record["check"]  # as written before there was one
    (tmp_path / "solution.json").write_text(json.dumps(record))
    assert Solution.load(tmp_path, problem()).model.size == u.model.size


def test_buffers_are_loaded(tmp_path):
    solution = saved(tmp_path, problem(), MLP(4, 1, embedding=Fourier(3)))
    loaded = Solution.load(tmp_path, problem())
    assert torch.equal(loaded(POINTS), solution(POINTS))
    tensors = safetensors.torch.load((tmp_path / "solution.safetensors").read_bytes())
    name = next(k for k in tensors if k.startswith("buffer."))
    tensors.pop(name)
    (tmp_path / "solution.safetensors").write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(BadProblem, match=r"has the fixed tensors .* with its own network"):
        Solution.load(tmp_path, problem())


def test_a_file_without_shapes_is_read(tmp_path):
    """As they were written before the shapes of the parameters were."""
    solution = saved(tmp_path, problem(a=2.0), MLP(4, 1))
    path = tmp_path / "solution.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record.pop("parameters")
    path.write_text(json.dumps(record), encoding="utf-8")
    assert torch.equal(Solution.load(tmp_path, problem(a=0.0))(POINTS), solution(POINTS))
    record["architecture"]["width"] = 5
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadProblem, match=r"has 14 parameters.*the network has 17"):
        Solution.load(tmp_path, problem(a=0.0))


# --- networks that are code -----------------------------------------------------------------------


def test_a_network_of_ones_own_is_saved_and_loaded(tmp_path):
    network = Custom(module())
    fitted = fit(problem(a=2.0), PINN(network, STEPS, FEW), out=tmp_path)
    assert not torch.equal(fitted.solution.theta[:6], module()[0].weight.detach().flatten())
    loaded = Solution.load(tmp_path, problem(a=0.0), Custom(module()))
    assert torch.equal(loaded(POINTS), fitted.solution(POINTS))
    assert loaded.unknowns == fitted.solution.unknowns
    with pytest.raises(WrongSettings, match=r"is code, its weights alone were saved: pass it"):
        Solution.load(tmp_path, problem(a=0.0))
    with pytest.raises(BadProblem, match=r"has 20 parameters.*has 23.*its own network"):
        Solution.load(tmp_path, problem(a=0.0), Custom(module(7)))
    turned = nn.Sequential(
        nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1, bias=False), nn.Linear(1, 1, bias=False)
    )
    with pytest.raises(BadProblem, match=r"20 parameters.*20"):  # as many numbers, in another order
        Solution.load(tmp_path, problem(a=0.0), Custom(turned))
    with pytest.raises(BadProblem, match="has the network Custom, got MLP"):
        Solution.load(tmp_path, problem(a=0.0), MLP())


def test_a_network_of_the_library_may_be_given_as_well(tmp_path):
    solution = saved(tmp_path, problem(), MLP(4, 1))
    assert torch.equal(Solution.load(tmp_path, problem(), MLP(4, 1))(POINTS), solution(POINTS))
    with pytest.raises(BadProblem, match=r"the network \{'kind': 'MLP', 'width': 4.*got MLP\(width=5"):
        Solution.load(tmp_path, problem(), MLP(5, 1))


def test_frozen_parameters_stay(tmp_path):
    fitted = fit(problem(), PINN(Custom(frozen()), STEPS, FEW), out=tmp_path)
    assert fitted.solution.model.size == 13
    kept = fitted.solution.model.fixed()["module.0.weight"]
    assert torch.equal(kept, torch.full((6, 1), 0.7, dtype=torch.float64))
    other = frozen()
    other[0].weight.data.fill_(-0.2)
    assert torch.equal(Solution.load(tmp_path, problem(), Custom(other))(POINTS), fitted.solution(POINTS))
    assert float(other[0].weight[0]) == -0.2
    with pytest.raises(BadProblem, match="its own network"):
        Solution.load(tmp_path, problem(), Custom(module()))


def test_an_unknown_is_found_with_a_network_that_stays():
    whole = module().requires_grad_(False)
    posed = BoundaryProblem(Interval(0.0, 1.0), lambda u, a: (a - 3) * u, [], unknowns={"a": Unknown(2.9)})
    fitted = fit(posed, PINN(Custom(whole), (Phase(Adam(1e-2), 200),), FEW))
    assert fitted.solution.unknowns["a"] == pytest.approx(3.0, abs=2e-2)
    assert fitted.solution.theta.shape == (1,)
    with pytest.raises(BadProblem, match="nothing can be trained: all parameters of the network"):
        fit(problem(), PINN(Custom(whole), STEPS, FEW))


def test_the_module_is_the_trained_network():
    found = fit(problem(), PINN(MLP(6, 1), STEPS, FEW)).solution
    module = found.module()
    assert torch.equal(module(torch.as_tensor(POINTS)).detach(), found(POINTS))
    assert not torch.equal(found.model.network(torch.as_tensor(POINTS)).detach(), found(POINTS))
