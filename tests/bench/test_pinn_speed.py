"""The speed benchmark of physics-informed training: all methods do the same, one that does not is refused."""

import importlib
import importlib.metadata
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from solvus.bench import main

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("pinn_equations", "pinn_deepxde", "pinn_speed")
EAGER = ("deepxde", "nested", "jets")
HIDDEN = (8, 8)


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(FOLDER))
    yield [importlib.import_module(name) for name in MODULES]
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def equations(modules):
    return modules[0]


@pytest.fixture
def peer(modules):
    return modules[1]


@pytest.fixture
def script(modules, monkeypatch):
    """The script with a small network."""
    monkeypatch.setattr(modules[2], "draw", lambda name, n: modules[0].draw(name, n, hidden=HIDDEN))
    return modules[2]


@pytest.fixture(autouse=True)
def _threads_kept():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def _with_deepxde():
    pytest.importorskip("deepxde", reason="DeepXDE is not installed")


def pace(script, methods, **more):
    return script.Pace(methods=methods, laps=2, rounds=1, steps=1, **more)


def run(script, name, methods, size=16):
    chosen = pace(script, methods)
    case = next(c for c in script.cases(chosen) if c.problem == name and c.quick)
    built = script.Case(name, size, lambda: script.Race(name, size, chosen), quick=case.quick, ladder=False)
    every = [script.trained(m, chosen) for m in script.STARTERS]
    return main("pinn_speed", "", [built], every, ["--quick", "--threads", "1"])


NAMES = ("laplacian2d", "navier-stokes2d", "fourth-order")


# --- the loss itself ----------------------------------------------------------------------------------------


class Flow(torch.nn.Module):
    """Fields with known derivatives: u = x^2 y, v = x y^2, p = x + 2 y."""

    def forward(self, z):
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x**2 * y, x * y**2, x + 2 * y], dim=1)


def test_residuals_of_navier_stokes_are_those_of_the_textbook(equations):
    z = torch.rand(7, 2, dtype=torch.float64, requires_grad=True)
    x, y, nu = z[:, 0], z[:, 1], equations.VISCOSITY
    u, v = x**2 * y, x * y**2
    wanted = [
        u * 2 * x * y + v * x**2 + 1 - nu * 2 * y,
        u * y**2 + v * 2 * x * y + 2 - nu * 2 * x,
        4 * x * y,
    ]
    found = equations.EQUATIONS["navier-stokes2d"].nested(z, Flow()(z))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_residual_of_fourth_order_is_that_of_the_textbook(equations):
    z = torch.rand(7, 2, dtype=torch.float64, requires_grad=True)
    x, t = z[:, 0], z[:, 1]
    u = torch.sin(2 * x) * torch.exp(t)
    (found,) = equations.EQUATIONS["fourth-order"].nested(z, u[:, None])
    u_x = 2 * torch.cos(2 * x) * torch.exp(t)
    torch.testing.assert_close(found, u + u * u_x - 4 * u + 16 * u)


def test_residual_of_poisson_vanishes_at_its_solution(equations):
    z = torch.rand(7, 2, dtype=torch.float64, requires_grad=True)
    u = (torch.sin(math.pi * z)).prod(dim=1)
    (found,) = equations.EQUATIONS["laplacian2d"].nested(z, u[:, None])
    assert found.abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_a_start_has_points_inside_conditions_on_the_sides_and_comes_back_from_its_file(
    equations, name, tmp_path
):
    start = equations.draw(name, 64, hidden=HIDDEN)
    assert start.points.shape == (64, 2)
    assert start.edge.shape == (16, 2)
    assert (np.abs(start.points) < 1).all()
    assert (np.abs(start.edge).max(axis=1) == 1).all()
    assert start.values.shape == (16, equations.EQUATIONS[name].given)
    start.save(tmp_path / "start.npz")
    again = equations.load(tmp_path / "start.npz")
    for field in ("points", "edge", "values"):
        assert np.array_equal(getattr(start, field), getattr(again, field))
    assert all(np.array_equal(a, b) for a, b in zip(start.weights, again.weights, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(start.biases, again.biases, strict=True))


def test_fourth_order_has_no_condition_at_its_end(equations):
    start = equations.draw("fourth-order", 64, hidden=HIDDEN)
    assert (start.edge[:, 1] < 1).all()


def test_the_flow_is_driven_by_its_lid_alone(equations):
    start = equations.draw("navier-stokes2d", 64, hidden=HIDDEN)
    lid = start.edge[:, 1] == 1
    assert (start.values[lid, 0] > 0).all()
    assert not start.values[~lid].any()
    assert not start.values[:, 1].any()


def test_weights_do_not_go_into_a_network_of_other_layers(equations):
    start = equations.draw("laplacian2d", 16, hidden=HIDDEN)
    with pytest.raises(ValueError, match=r"other layers: .*\(3, 2\).* in this network"):
        equations.put_weights(torch.nn.Linear(2, 3), start)


# --- all methods train the same -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_our_steps_and_plain_torch_have_the_same_loss_and_gradient(script, name):
    for record in run(script, name, ("nested", "jets")):
        assert record.ok
        assert 0 < record.extra["gradient_error"] < 3e-6
        assert "least" not in record.extra


SOME = [name if name == "fourth-order" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.mark.usefixtures("_with_deepxde")
@pytest.mark.parametrize("name", SOME)
def test_all_methods_have_the_same_loss_and_gradient(script, name):
    records = run(script, name, EAGER)
    assert [r.method for r in records] == list(EAGER)
    assert [r.package for r in records] == ["deepxde", "torch", "solvus"]
    for record in records:
        assert record.reason is None
        assert record.ok
        assert 0 < record.extra["gradient_error"] < 3e-6
        assert record.error in (1e-7, 1e-6, 1e-5)
        assert record.solve_s is not None
        assert record.solve_s > 0
        assert record.setup_s == 0
        assert record.extra["cpu_s"] > 0
        assert record.extra["conditions"] == 4
        assert record.extra["least"] <= record.extra["deepxde_over_this"] <= record.extra["most"]
        assert record.extra["loss"] == pytest.approx(records[0].extra["loss"], rel=1e-5)
    assert records[0].extra["deepxde_over_this"] == 1
    assert records[0].extra["version"] == importlib.metadata.version("deepxde")


@pytest.mark.usefixtures("_with_deepxde")
def test_all_methods_are_at_the_same_place_after_some_steps(equations, script):
    name = "navier-stokes2d"
    start = equations.draw(name, 16, hidden=HIDDEN)
    after = []
    for method in EAGER:
        training = script.STARTERS[method](name, start, "cpu")
        try:
            first = training.gradient()  # of a step that DeepXDE takes
            training.block(3 if method == "deepxde" else 4)  # and a step that does not count
            after.append(training.gradient())
        finally:
            training.close()
        assert abs(after[-1][0] - first[0]) > 1e-4 * first[0]
    for loss, gradient in after[1:]:
        assert loss == pytest.approx(after[0][0], rel=1e-5)
        assert np.linalg.norm(gradient - after[0][1]) < 1e-4 * np.linalg.norm(gradient)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler for torch.compile")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("name", NAMES)
def test_compiled_steps_have_the_same_loss_and_gradient(script, name):
    (record,) = run(script, name, ("jets-compiled",))
    assert record.reason is None
    assert record.setup_s is not None
    assert record.setup_s > 0
    assert record.extra["gradient_error"] < 3e-6
    assert "least" not in record.extra


# --- what differs is refused --------------------------------------------------------------------------------


def test_a_method_with_another_loss_is_refused_and_the_others_are_timed(script):
    class Wrong(script.Nested):
        def gradient(self):
            loss, gradient = super().gradient()
            return loss, gradient * (1 + 1e-4)

    chosen = pace(script, ("nested", "wrong"))
    race = script.Race("laplacian2d", 16, chosen, {"nested": script.Nested, "wrong": Wrong})
    assert set(race.timings) == {"nested"}
    with pytest.raises(
        script.Disagreement, match=r"wrong is not timed: .* gradient by 1\.0e-04 .*another problem"
    ):
        script.trained("wrong", chosen).run(race, None, None)


def test_another_equation_in_the_library_is_refused(script, monkeypatch):
    monkeypatch.setattr(script, "VISCOSITY", 0.0101)
    race = script.Race("navier-stokes2d", 16, pace(script, ("nested", "jets")))
    assert set(race.timings) == {"nested"}
    assert "jets is not timed" in str(race.failures["jets"])


def test_a_method_whose_gradient_is_not_a_number_is_refused(script):
    right = (1.0, np.ones(3))
    with pytest.raises(script.Disagreement, match="off by nan"):
        script.agreement("bad", (math.nan, np.ones(3)), right)
    with pytest.raises(script.Disagreement, match="gradient by nan"):
        script.agreement("bad", (1.0, np.array([1.0, 1.0, math.nan])), right)
    with pytest.raises(script.Disagreement, match=r"bad has a gradient of shape \(2,\), not \(3,\)"):
        script.agreement("bad", (1.0, np.ones(2)), right)
    assert script.agreement("good", right, right) == (1.0, 0.0)


def test_a_method_that_cannot_start_is_a_failure_of_its_own(script):
    def broken(name, start, device):
        raise RuntimeError("out of order")

    race = script.Race(
        "laplacian2d", 16, pace(script, ("broken", "nested")), {"broken": broken, "nested": script.Nested}
    )
    assert str(race.failures["broken"]) == "out of order"
    assert race.ratios("nested") is None


# --- the process of DeepXDE ---------------------------------------------------------------------------------


def test_a_missing_deepxde_says_how_to_install_it(equations, peer, tmp_path, monkeypatch):
    (tmp_path / "deepxde.py").write_text("raise ImportError('No module named deepxde')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ImportError, match=r"No module named deepxde.*pip install deepxde"):
        peer.DeepXDE("laplacian2d", equations.draw("laplacian2d", 16, hidden=HIDDEN), "cpu", 1)


def test_the_last_word_of_a_process_that_ends_is_told(equations, peer, tmp_path, monkeypatch):
    (tmp_path / "deepxde.py").write_text(
        "import sys; print('noise'); sys.stderr.write('no memory'); sys.exit(3)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="the process of DeepXDE ended: no memory"):
        peer.DeepXDE("laplacian2d", equations.draw("laplacian2d", 16, hidden=HIDDEN), "cpu", 1)


def test_deepxde_is_asked_for_a_device_that_it_can_choose(equations, peer):
    with pytest.raises(ValueError, match="DeepXDE runs on cpu or cuda here, got device 'meta'"):
        peer.DeepXDE("laplacian2d", equations.draw("laplacian2d", 16, hidden=HIDDEN), "meta", 1)


# --- the command line ---------------------------------------------------------------------------------------


def test_quick_leaves_compilation_out_unless_it_is_named(script):
    assert script.asked(["--quick"]).methods == EAGER
    assert script.asked([]).methods == (*EAGER, "jets-compiled")
    named = script.asked(
        ["--quick", "--methods", "jets-compiled, jets", "--repeats", "2", "--device", "cuda"]
    )
    assert named.methods == ("jets", "jets-compiled")
    assert (named.laps, named.device) == (2, "cuda")


def test_cases_are_all_equations_at_all_sizes(script):
    chosen = {(c.problem, c.size): c.quick for c in script.cases(script.Pace())}
    assert set(chosen) == {(name, size) for name in NAMES for size in (512, 2048, 8192)}
    assert all(quick == (size == 2048) for (_, size), quick in chosen.items())


def test_the_table_of_ratios_says_what_was_measured(script, capsys):
    records = run(script, "laplacian2d", ("nested",))
    script.print_ratios(records)
    said = capsys.readouterr().out
    assert "DeepXDE's time over it" in said
    assert "laplacian2d:16   nested" in said
    script.print_ratios([])
    assert capsys.readouterr().out == ""


def test_the_script_lists_its_cases():
    command = [sys.executable, str(FOLDER / "pinn_speed.py"), "--list"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout
    assert all(name in said for name in (*NAMES, *EAGER, "2048*"))
