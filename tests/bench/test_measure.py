import time

import numpy as np
import pytest
import scipy.sparse.linalg as spla
import torch

from solvus.bench import Case, Method, Options, Outcome, Settings, SystemCase, measure, ours
from solvus.bench.case import to_device
from solvus.meshes import Grid
from solvus.operators.linear import CSR, Diffusion, sparse, to_scipy
from solvus.solvers import CG, LinearSystem

A = Diffusion(Grid((15, 15)))
B = torch.randn(225, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PROBLEM = SystemCase(LinearSystem(A, B))
CASE = Case("poisson2d", 15, lambda: PROBLEM, tags=("t",))
OPTIONS = Options()


def scripted(totals, **kw):
    """A method that reports given times, and how often it ran."""
    calls = []

    def run(problem, case, options):
        calls.append(options)
        total = totals[min(len(calls), len(totals)) - 1]
        return Outcome(residual=1e-9, setup_s=0.25 * total, solve_s=0.75 * total, **kw)

    return Method("scripted", "x", run), calls


def test_ours_is_recorded_with_a_recomputed_residual():
    record = measure("b", CASE, PROBLEM, ours("CG", CG), OPTIONS, Settings(repeats=2))
    assert record.ok
    assert record.converged
    assert 0 < record.residual <= 1e-8
    assert (record.method, record.package, record.dtype, record.unknowns) == ("CG", "solvus", "float64", 225)
    assert (record.tags, record.repeats, record.spread_kind, record.rtol) == (("t",), 2, "range", 1e-8)
    assert record.steps > 10
    assert record.train_s is None


def test_the_first_run_warms_up_and_median_and_quartiles_describe_the_rest():
    method, calls = scripted([100.0, 1.0, 2.0, 3.0, 4.0, 50.0])
    record = measure("b", CASE, PROBLEM, method, OPTIONS, Settings(repeats=5))
    assert len(calls) == 6
    assert record.total_s == 3.0
    assert (record.setup_s, record.solve_s) == (0.75, 2.25)
    assert (record.spread, record.spread_kind) == (2.0, "iqr")


def test_three_repeats_give_the_range():
    method, _ = scripted([9.0, 1.0, 2.0, 4.0])
    record = measure("b", CASE, PROBLEM, method, OPTIONS, Settings(repeats=3))
    assert (record.spread, record.spread_kind) == (3.0, "range")


def test_a_long_first_run_is_the_measurement():
    def run(problem, case, options):
        time.sleep(0.02)
        return Outcome(residual=0.0, solve_s=0.02)

    record = measure("b", CASE, PROBLEM, Method("m", "x", run), OPTIONS, Settings(repeats=3, long_s=0.01))
    assert (record.repeats, record.spread, record.converged) == (1, None, True)


def test_the_method_cannot_talk_its_way_to_convergence():
    liar = Method("liar", "x", lambda p, c, o: Outcome(np.zeros(225), converged=True, residual=1e-12))
    record = measure("b", CASE, PROBLEM, liar, OPTIONS)
    assert record.residual == pytest.approx(1.0)
    assert record.converged is False
    assert record.reason == "residual 1.0e+00 misses the tolerance 1e-08"


def test_a_failure_is_kept_with_its_reason_and_without_folders():
    def run(problem, case, options):
        raise OSError("cannot read /srv/data/matrix.mtx\nat all")

    record = measure("b", CASE, PROBLEM, Method("m", "x", run), OPTIONS)
    assert (record.converged, record.ok, record.total_s, record.repeats) == (False, False, None, 0)
    assert record.reason == "OSError: cannot read matrix.mtx at all"


def test_a_solve_that_does_not_converge_keeps_its_numbers_and_says_why():
    record = measure("b", CASE, PROBLEM, ours("CG", CG, max_steps=3), OPTIONS)
    assert record.converged is False
    assert record.steps == 3
    assert record.reason.startswith("MAX_STEPS: ")
    assert record.repeats == 1


def test_nonfinite_values_become_null_and_fail():
    nan = Method("nan", "x", lambda p, c, o: Outcome(np.full(225, np.nan)))
    record = measure("b", CASE, PROBLEM, nan, OPTIONS)
    assert (record.residual, record.converged) == (None, False)


def test_extra_values_become_plain_and_costs_get_their_fields():
    extra = {
        "train_s": 7.0,
        "data_s": 3.0,
        "levels": torch.tensor([1, 2]),
        "bad": float("nan"),
        "dtype": "float32",
    }
    method, _ = scripted([1.0], extra=extra)
    record = measure("b", CASE, PROBLEM, method, OPTIONS, Settings(repeats=1))
    assert (record.train_s, record.data_s, record.dtype) == (7.0, 3.0, "float32")
    assert record.extra == {"levels": [1, 2], "bad": None}


def test_system_case_checks_float32_systems_in_float64():
    A32 = Diffusion(Grid((15, 15)), dtype=torch.float32)
    case = SystemCase(LinearSystem(A32, B.float()))
    x = spla.spsolve(case.matrix.astype(np.float64).tocsc(), case.rhs.astype(np.float64))
    residual, error = case.check(x)
    assert residual < 1e-13
    assert error is None


def test_system_case_gives_matrix_rhs_and_error():
    exact = torch.linspace(1, 2, 225, dtype=torch.float64)
    case = SystemCase(LinearSystem(A, A @ exact), exact)
    assert np.allclose(case.matrix @ exact.numpy(), case.rhs)
    residual, error = case.check(2 * exact)
    assert residual == pytest.approx(1.0)
    assert error == pytest.approx(1.0)


@pytest.mark.parametrize("operator", [A, sparse(to_scipy(A))])
def test_a_system_moves_to_a_device_whole(operator):
    moved = to_device(operator, torch.device("meta"))
    assert moved.device.type == "meta"
    tensors = moved.parameters() + ((moved.crow, moved.col) if isinstance(moved, CSR) else ())
    assert {t.device.type for t in tensors} == {"meta"}
    assert operator.device.type == "cpu"


def test_repeats_must_be_positive():
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        Settings(repeats=0)
