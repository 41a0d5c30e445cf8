"""Every example runs at a small size and gives the number that it should."""

import importlib.util
import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = {
    "first_solve": (lambda main: main(31), lambda error: 1e-4 < error < 2e-2),
    "jumping_coefficient": (lambda main: main(63), lambda s: s["amg"] < s["ic0"] / 2 < s["jacobi"] / 4),
    "masked_box": (lambda main: main(32), lambda steps: 5 <= steps <= 12),
    "coefficient_from_data": (
        lambda main: main(15),
        lambda found: found == pytest.approx((1.0, 5.0), rel=1e-3),
    ),
    "solve_with_network": (lambda main: main(700), lambda u: u == pytest.approx(0.56, abs=0.05)),
    "find_conductivity": (lambda main: main(150), lambda a: a == pytest.approx(0.15, abs=0.01)),
    "with_scipy": (lambda main: main(63), lambda count: count <= 15),
    "train_dcdm": (lambda main: main(tempfile.mkdtemp(), {8: (3, 1e-3)}), lambda v: 0 < v["dcdm"] < 2),
    "train_vcycle": (lambda main: main(), lambda ratio: 0.5 < ratio < 1.5),
    "train_correction": (lambda main: main(), lambda ratio: 0.1 < ratio < 0.9),
    "train_sparse_inverse": (lambda main: main(), lambda ratio: 0.3 < ratio < 0.8),
    "deflate_family": (lambda main: main(), lambda s: s["deflated CG"] < s["SSOR-CG"] / 2),
    "learned_in_fenics": (lambda main: main(31), lambda s: max(s.values()) <= 10),
    "choose_while_solving": (lambda main: main(15, 40), lambda tuner: sum(tuner.plays.values()) == 40),
    "own_solver": (lambda main: main(31), lambda r: r.status.name == "CONVERGED" and 100 < r.steps < 400),
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CASES)


NEED_FENICS = ("learned_in_fenics",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.fenics] * (name in NEED_FENICS)) for name in CASES]
)
def test_example(name):
    run, right = CASES[name]
    assert right(run(load(name).main))


def test_what_an_example_gives_is_looked_at():
    run, right = CASES["first_solve"]
    assert not right(run(lambda n: 1.0))
