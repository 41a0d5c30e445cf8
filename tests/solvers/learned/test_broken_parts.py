"""Learned parts broken on purpose, in every solver that takes one: no answer is wrong.

Parts, defects, systems and the judge are those of the benchmark broken_parts: a new part is one line there.
"""

import importlib.util
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from solvus.operators.linear import to_scipy
from solvus.solvers import CG, LinearSystem, Result, Solver, Status, Stop, solve


def _load():
    folder = Path(__file__).parents[3] / "benchmarks"
    loaded = []
    for name in ("random_systems", "broken_parts"):  # the second imports the first
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
    return loaded


systems, broken = _load()
PER_CELL = 3  # systems per part and defect in the long test
NAMED = [part.name for part in broken.PARTS]


def hold(part, defects, systems, seed):
    """Judge a part with some defects; return the counts."""
    total = Counter()
    for defect in defects:
        counts, verdicts = broken.count(part, defect, systems, seed)
        total += counts
        forbidden = {"wrong", "unnamed"}
        if part.safe:
            forbidden.add("named")
        found = [f"{v.kind}: {v.why}" for v in verdicts if v.kind in forbidden]
        assert not found, f"{part.name} with {defect}: {found}"
    return total


@pytest.mark.parametrize("part", broken.PARTS, ids=NAMED)
def test_no_answer_is_wrong(part):
    """Every part with every other defect, one system each: some 180."""
    first = broken.PARTS.index(part) % 2
    defects = broken.DEFECTS[first::2]
    assert sum(hold(part, defects, 1, seed=1).values()) == len(defects) >= 7


@pytest.mark.slow
@pytest.mark.parametrize("part", broken.PARTS, ids=NAMED)
def test_no_answer_is_wrong_on_a_thousand_systems(part):
    counts = hold(part, broken.DEFECTS, PER_CELL, seed=0)
    assert sum(counts.values()) == PER_CELL * len(broken.DEFECTS)
    assert counts["itself"] + counts["fallback"] > 0


def test_the_long_test_has_a_thousand_systems():
    assert len(broken.PARTS) * len(broken.DEFECTS) * PER_CELL >= 1000


def test_the_systems_are_of_all_kinds():
    drawn = [systems.draw(kind, seed) for kind in ("box", "grid", "fields", "matrix") for seed in range(25)]
    problems = [d.problem for d in drawn]
    assert {p.A.dtype for p in problems} == {torch.float32, torch.float64}
    assert any(p.A.batch_shape for p in problems)
    assert any(p.batch_shape and not p.A.batch_shape for p in problems)
    assert any(p.A.nullspace is not None for p in problems)
    grids = [p.A.grid for p in problems if hasattr(p.A, "grid")]
    assert {grid.dim for grid in grids} == {1, 2, 3}
    assert any(grid.mask is not None for grid in grids)
    assert {grid.centring.value for grid in grids} == {"node", "cell"}
    for d in drawn:  # the matrices are those of the operators
        if not d.problem.A.batch_shape:
            np.testing.assert_allclose(d.matrices[0].toarray(), to_scipy(d.problem.A).toarray())


@pytest.mark.parametrize("kind", ["box", "grid", "fields", "matrix"])
def test_the_judge_finds_no_fault_in_direct_solutions(kind):
    for seed in range(8):
        drawn = systems.draw(kind, seed)
        x = np.stack([_direct(drawn, i) for i in range(_samples(drawn))])
        assert systems.mistake(drawn, torch.from_numpy(x)) is None


def _samples(drawn):
    return drawn.problem.batch_shape[0] if drawn.problem.batch_shape else 1


def _direct(drawn, i):
    matrix = drawn.matrices[i if len(drawn.matrices) > 1 else 0].toarray()
    b = drawn.problem.b.double().numpy().reshape(-1, drawn.problem.n)
    kernel = drawn.problem.A.nullspace
    rcond = 1e-12 if kernel is None else 1e-6
    return (
        np.linalg.pinv(matrix, rcond=rcond, hermitian=True)
        @ np.broadcast_to(b, (_samples(drawn), b.shape[1]))[i]
    )


# --- deliberately wrong: solves and answers that the judge must catch ---------------------------------------


@dataclass(frozen=True)
class Lying(Solver):
    """Says that it is done, and has done nothing of use."""

    def iterate(self, problem, x):
        yield x, problem.residual_norm(x)
        while True:
            x.add_(1.0)
            yield x, torch.zeros(x.shape[:-1], dtype=x.dtype)


def trusting(problem, solver, stop):
    """Solve as nobody should: the residual is the one that the method claims."""
    x = problem.guess()
    for steps, (_, norm) in enumerate(solver.iterate(problem, x)):
        if bool((norm <= stop.rtol * problem.scale()).all()) or steps == stop.max_steps:
            break
    done = torch.ones(problem.batch_shape, dtype=torch.bool)
    return Result(x, Status.CONVERGED, steps, norm[None], norm, norm, done, done.long())


@pytest.mark.parametrize("kind", ["box", "grid", "fields", "matrix"])
def test_wrong_specimen_a_solve_that_trusts_a_claim(kind):
    for seed in range(5):
        drawn = systems.draw(kind, seed)
        if not bool((drawn.problem.scale() > 0).all()):
            continue
        verdict = broken.judge(drawn, lambda problem, stop: trusting(problem, Lying(), stop))
        assert verdict.kind == "wrong"
        assert "residual" in verdict.why
        assert broken.judge(drawn, lambda problem, stop: trusting(problem, CG(), stop)).kind == "itself"


def test_wrong_specimen_in_the_place_of_a_part():
    lying = replace(
        broken.PARTS[0], make=lambda defect, seed: lambda problem, stop: trusting(problem, Lying(), stop)
    )
    with pytest.raises(AssertionError, match="wrong: residual"):
        _hold_as_first(lying)


def _hold_as_first(part):
    broken.PARTS.insert(0, part)
    try:
        return hold(part, ["zeros"], 3, seed=2)
    finally:
        broken.PARTS.pop(0)


def test_the_judge_sees_small_mistakes():
    drawn = systems.draw("matrix", 3)
    x = solve(drawn.problem, CG(), stop=Stop(rtol=1e-12, max_steps=1000)).value
    assert systems.mistake(drawn, x) is None
    assert "residual" in systems.mistake(drawn, x * (1 + 1e-6))
    assert "not finite" in systems.mistake(drawn, x * float("nan"))
    off = x.clone()
    off[..., 0] += 1e-5 * x.norm()
    assert "residual" in systems.mistake(drawn, off)


def test_the_judge_sees_another_matrix():
    """A system whose operator is not the matrix that was asked for: only the direct solution tells."""
    drawn = systems.draw("matrix", 3)
    other = LinearSystem(drawn.problem.A * 2.0, drawn.problem.b)
    x = solve(other, CG(), stop=Stop(rtol=1e-12, max_steps=1000)).value
    assert systems.mistake(drawn, x) is not None


def test_a_kernel_is_not_left_in_a_solution():
    drawn = next(
        d for d in (systems.draw("grid", s) for s in range(200)) if d.problem.A.nullspace is not None
    )
    x = torch.from_numpy(np.stack([_direct(drawn, i) for i in range(_samples(drawn))]))
    assert systems.mistake(drawn, x) is None
    kernel = drawn.problem.A.nullspace.component(torch.ones_like(x))
    assert "direct solution" in systems.mistake(drawn, x + 1e-2 * x.abs().max() * kernel)


def test_errors_are_told_apart():
    drawn = systems.draw("matrix", 0)

    def fail(error):
        def run(problem, stop):
            raise error

        return broken.judge(drawn, run).kind

    assert fail(broken.PartFailed("on purpose")) == "named"
    assert fail(RuntimeError("shapes")) == "unnamed"
    assert broken.judge(drawn, lambda p, s: solve(p, CG(), stop=Stop(max_steps=1))).kind == "named"


@pytest.mark.parametrize("defect", broken.DEFECTS)
def test_a_defect_is_one(defect):
    """What a broken network gives is not what the whole one gives."""
    if defect == "intact":
        return
    r = torch.randn(1, 1, 4, 4, 4)
    intact = broken.multilevel("intact", 0)
    whole = intact.on_box(r, intact.prepared(torch.ones(1, 3, 6, 6, 6)))
    net = broken.multilevel(defect, 0)
    try:
        for _ in range(4):
            found = net.on_box(r, net.prepared(torch.ones(1, 3, 6, 6, 6)))
    except broken.PartFailed:
        assert "raises" in defect
        return
    assert found.shape != whole.shape or not torch.equal(found, whole)
