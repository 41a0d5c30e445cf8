"""Learned parts broken on purpose, inside every solver that takes one: how many answers are wrong?

A row is a part (`problem`) with a defect (`method`), solved on as many random systems (`size`): diffusion in
one to three dimensions with constant, log-normal or two-phase coefficients, masks, Dirichlet and Neumann
faces (singular ones among them), batches of coefficients or right-hand sides, or graph Laplacians; 27 to 225
unknowns, float64 to 1e-8 and float32 to 1e-4, by seed. Every answer is judged without the operators of the
library: residual and distance to a direct solution by SciPy, in float64. `extra` counts

  itself     right, by the part and the method around it
  fallback   right, after the fallback took over
  named      an error of the library, or the part's own, was raised
  unnamed    another error
  wrong      an answer was given out as converged and is not

`intact` is the part without a defect. `converged` says that nothing was wrong or unnamed. Seconds are of all
systems of the row, the judging not counted.

    python benchmarks/broken_parts.py --quick
    python benchmarks/broken_parts.py --out broken-parts.jsonl
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Literal

import torch
from random_systems import Drawn, Kind, draw, mistake
from torch import Tensor, nn

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.operators.linear import SPD, Diffusion, LinearOperator, diagonal
from solvus.solvers import CG, FGMRES, FlexibleCG, Jacobi, LinearSystem, Result, Stop, solve
from solvus.solvers.learned import (
    Budget,
    Chain,
    ConjugateDirections,
    Neural,
    TsallisINF,
    Tuner,
    learned_directions,
    learned_vcycle,
)
from solvus.solvers.learned.corrections import CorrectionConfig, CorrectionNetwork, Hybrid, learned_correction
from solvus.solvers.learned.deflation import Basis, BasisConfig, DeflatedCG, deflation
from solvus.solvers.learned.directions import (
    DCDMConfig,
    DCDMNetwork,
    DirectionNetwork,
    MultilevelConfig,
    MultilevelNetwork,
    SymmetricConfig,
    SymmetricMultilevelNetwork,
)
from solvus.solvers.learned.safeguard import Safeguarded
from solvus.solvers.learned.safeguard_probe import probed
from solvus.solvers.learned.sparse_inverse import (
    SparseInverseConfig,
    SparseInverseNetwork,
    sparse_inverse,
)
from solvus.solvers.learned.vcycle import CycleChooser, VCycleConfig, VCycleNetwork, learned_cycle
from solvus.solvers.preconditioners.inverse import Inverse
from solvus.solvers.training.surrogate import Signature, Surrogate

STEPS, SHORT = 150, Budget(steps=60)

# --- defects ------------------------------------------------------------------------------------------------


class PartFailed(Exception):
    """Raised by a part on purpose."""


class Damage:
    """A defect of what a part gives out, with a memory of how often it was asked."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.calls = kind, 0
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, y: Tensor) -> Tensor:
        """Return what the broken part gives in the place of y."""
        self.calls += 1
        match self.kind:
            case "NaN" | "NaN later":
                return y * float("nan") if self.kind == "NaN" or self.calls > 3 else y
            case "one NaN":
                return torch.where(torch.arange(y.numel()).reshape(y.shape) == 0, float("nan"), y)
            case "infinite":
                return y / 0.0
            case "indefinite":
                return y * torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype)
            case "negated":
                return -y
            case "zeros":
                return torch.zeros_like(y)
            case "constant":
                return torch.sin(1e3 * torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
            case "varying":
                noise = torch.randn(y.shape, generator=self.generator, dtype=torch.float64).to(y.dtype)
                return y + 3 * noise * y.abs().mean()
            case "wrong shape":
                return y[..., :-1]
            case "raises" | "raises later":
                if self.kind == "raises" or self.calls > 3:
                    raise PartFailed("broken on purpose")
        return y


WEIGHTS = ("random weights", "huge weights")  # defects of weights; the others are defects of outputs
DEFECTS = (
    "intact",
    *WEIGHTS,
    "NaN",
    "NaN later",
    "one NaN",
    "infinite",
    "indefinite",
    "negated",
    "zeros",
    "constant",
    "varying",
    "wrong shape",
    "raises",
    "raises later",
)


def break_network(net: Any, method: str, defect: str, seed: int) -> Any:
    """Give a network random or huge weights, or break what a method of it returns."""
    generator = torch.Generator().manual_seed(seed)
    if defect in WEIGHTS:
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * (1e12 if defect == WEIGHTS[1] else 1.0))
        return net
    damage, original = Damage(defect, seed), getattr(net, method)
    setattr(net, method, lambda *args: damage(original(*args)))
    return net


class BrokenInverse(Inverse):
    """The inverse of the diagonal with a defect, declared positive definite all the same."""

    def __init__(self, A: LinearOperator, *, defect: str, seed: int, tags: Any = SPD) -> None:
        super().__init__(A, tags)
        self.entries, self.damage = 1 / diagonal(A), Damage(defect, seed)
        if defect in WEIGHTS:
            drawn = torch.randn(A.shape[0], generator=torch.Generator().manual_seed(seed))
            self.entries = self.entries * drawn * (1e12 if defect == WEIGHTS[1] else 1.0)

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write the broken product into out."""
        y = self.damage(self.entries * x)
        if y.shape != out.shape:
            raise PartFailed(f"gives {tuple(y.shape)} for {tuple(x.shape)}")
        out.copy_(y)


# --- parts --------------------------------------------------------------------------------------------------

Run = Callable[[LinearSystem, Stop], Result]


@dataclass(frozen=True)
class Part:
    """A learned part inside a solver: `make(defect, seed)` gives what solves a system with it.

    Args:
        safe: solved in any case: no error is allowed either.
    """

    name: str
    kind: Kind
    make: Callable[[str, int], Run]
    safe: bool = False


def _by(solver: Any) -> Run:
    return lambda problem, stop: solve(problem, solver, stop=stop)


def _by_cg(preconditioner: Callable[[LinearOperator], LinearOperator]) -> Run:
    """Return conjugate gradients, whose stats tell the fallback of a preconditioner that probes itself."""

    def run(problem: LinearSystem, stop: Stop) -> Result:
        built: list[Any] = []

        def build(A: LinearOperator) -> LinearOperator:
            built.append(preconditioner(A))
            return built[-1]

        result = solve(problem, CG(build), stop=stop)
        return replace(result, stats={**result.stats, "fallback": getattr(built[-1], "fallback", None)})

    return run


def _chained(defect: str, seed: int) -> Run:
    """Return a chain whose stats tell whether the prediction was not used."""

    def run(problem: LinearSystem, stop: Stop) -> Result:
        result = solve(problem, Chain(Neural(surrogate(defect, seed)), CG()), stop=stop)
        unused = len(result.residuals) > 1 and bool((result.residuals[1] >= result.residuals[0]).all())
        return replace(result, stats={**result.stats, "fallback": "no better than the start" * unused})

    return run


def dcdm(defect: str, seed: int) -> DirectionNetwork:
    """Return a small broken network of deep conjugate directions."""
    torch.manual_seed(seed)
    return break_network(DCDMNetwork(DCDMConfig(4, 1, 1, 1)), "propose", defect, seed)


def multilevel(defect: str, seed: int) -> DirectionNetwork:
    """Return a small broken multilevel network."""
    return break_network(MultilevelNetwork(MultilevelConfig(levels=1)), "propose", defect, seed)


def symmetric(defect: str, seed: int) -> DirectionNetwork:
    """Return a small broken network that is symmetric by construction, and declared so."""
    return break_network(SymmetricMultilevelNetwork(SymmetricConfig(levels=1)), "propose", defect, seed)


def surrogate(defect: str, seed: int) -> Surrogate:
    """Return a small broken surrogate of Darcy's equation."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 1, 3, padding=1))
    net = break_network(nn.Sequential(*layers), "forward", defect, seed)
    return Surrogate(net, signature=Signature(("coefficient",), ("u",)))


def vcycle(defect: str, seed: int) -> Callable[[LinearOperator], LinearOperator]:
    """Return the preconditioner of a broken cycle network, made for the dimension of the operator."""

    def build(A: LinearOperator) -> LinearOperator:
        torch.manual_seed(seed)
        assert isinstance(A, Diffusion)
        net = VCycleNetwork(VCycleConfig(dim=A.grid.dim, width=8, start=0))
        nn.init.normal_(net.head.weight, std=0.3)
        return learned_vcycle(break_network(net, "forward", defect, seed), bottom=20)(A)

    return build


def chosen(defect: str, seed: int) -> Callable[[LinearOperator], LinearOperator]:
    """Return the cycle with the settings that a broken network chooses."""
    torch.manual_seed(seed)
    net = CycleChooser()
    nn.init.normal_(net.head.weight)
    return learned_cycle(break_network(net, "forward", defect, seed), bottom=20)


def correction(defect: str, seed: int) -> Callable[[LinearOperator], LinearOperator]:
    """Return the corrections of a broken network, made for the dimension of the operator."""

    def build(A: LinearOperator) -> LinearOperator:
        torch.manual_seed(seed)
        assert isinstance(A, Diffusion)
        net = CorrectionNetwork(CorrectionConfig(A.grid.dim, channels=4, layers=1, smoothing=("11", "20")))
        assert isinstance(net.operator.head, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        nn.init.normal_(net.operator.head.weight, std=0.3)
        return learned_correction(break_network(net, "correct", defect, seed))(A)

    return build


def written(defect: str, seed: int) -> Callable[[LinearOperator], LinearOperator]:
    """Return a sparse inverse by a broken network."""
    torch.manual_seed(seed)
    net = SparseInverseNetwork(SparseInverseConfig(width=8, layers=2))
    nn.init.normal_(net.head.weight, std=0.3)
    return sparse_inverse(break_network(net, "forward", defect, seed))


def _deflated(by: Callable[[Basis], Run], defect: str, seed: int) -> Run:
    """Return what solves with a broken basis of four columns."""

    def run(problem: LinearSystem, stop: Stop) -> Result:
        n, generator = problem.n, torch.Generator().manual_seed(seed)
        x = torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)
        Q = torch.stack([torch.sin(j * torch.pi * x) for j in range(1, 5)]) * (2 / n) ** 0.5
        if defect in WEIGHTS:
            Q = torch.randn(4, n, generator=generator) * (1e12 if defect == WEIGHTS[1] else 1.0)
        Q = Damage(defect, seed)(Q.double())
        basis = Basis(BasisConfig(Q.shape[1], Q.shape[0]))
        basis.columns.copy_(Q.mT)
        return by(basis)(problem, stop)

    return run


def declared(defect: str, seed: int) -> Callable[[LinearOperator], LinearOperator]:
    """Return a broken diagonal that claims to be positive definite."""
    return partial(BrokenInverse, defect=defect, seed=seed)


def _started(defect: str, seed: int) -> Run:
    """Return what starts conjugate gradients at a prediction."""

    def run(problem: LinearSystem, stop: Stop) -> Result:
        prediction = solve(problem, Neural(surrogate(defect, seed)), stop=stop, throw=False).value
        return solve(problem, CG(), x0=prediction, stop=stop)

    return run


def _tuned(defect: str, seed: int) -> Run:
    """Return what solves three times by a tuner with broken arms, and gives the last result."""
    arms = {
        "CG": CG(declared(defect, seed)),
        "flexible": FlexibleCG(declared(defect, seed)),
        "directions": ConjugateDirections(declared(defect, seed)),
    }
    tuner = Tuner(arms, TsallisINF(3, floor=1.0), budget=SHORT, seed=seed)

    def run(problem: LinearSystem, stop: Stop) -> Result:
        return [tuner.solve(problem, stop=stop) for _ in range(3)][-1]

    return run


PARTS = [
    Part("DCDM directions", "box", lambda d, s: _by(ConjugateDirections(learned_directions(dcdm(d, s))))),
    Part("DCDM in FlexibleCG", "box", lambda d, s: _by(FlexibleCG(learned_directions(dcdm(d, s))))),
    Part(
        "multilevel directions",
        "box",
        lambda d, s: _by(ConjugateDirections(learned_directions(multilevel(d, s)))),
    ),
    Part(
        "multilevel in FlexibleCG", "box", lambda d, s: _by(FlexibleCG(learned_directions(multilevel(d, s))))
    ),
    Part("multilevel in FGMRES", "box", lambda d, s: _by(FGMRES(learned_directions(multilevel(d, s))))),
    Part("symmetric multilevel in CG", "box", lambda d, s: _by_cg(learned_directions(symmetric(d, s)))),
    Part("V-cycle in CG", "grid", lambda d, s: _by_cg(vcycle(d, s))),
    Part("chosen cycle in CG", "grid", lambda d, s: _by_cg(chosen(d, s))),
    Part("prediction in Chain", "fields", _chained),
    Part("prediction as start", "fields", _started),
    Part("declared SPD in CG", "matrix", lambda d, s: _by(CG(declared(d, s)))),
    Part("correction in FlexibleCG", "grid", lambda d, s: _by(FlexibleCG(correction(d, s)))),
    Part("correction in Hybrid", "grid", lambda d, s: _by(Hybrid(Jacobi(0.8), correction(d, s), every=3))),
    Part("basis in CG", "grid", partial(_deflated, lambda basis: _by_cg(deflation(basis)))),
    Part("basis in DeflatedCG", "grid", partial(_deflated, lambda basis: _by(DeflatedCG(basis)))),
    Part("sparse inverse in CG", "matrix", lambda d, s: _by_cg(written(d, s))),
    Part("arms of Tuner", "matrix", _tuned, safe=True),
    Part("probed in CG", "matrix", lambda d, s: _by_cg(probed(declared(d, s)))),
    Part("safeguarded CG", "matrix", lambda d, s: _by(Safeguarded(CG(declared(d, s)))), safe=True),
    Part(
        "safeguarded probed CG", "grid", lambda d, s: _by(Safeguarded(CG(probed(declared(d, s))))), safe=True
    ),
    Part(
        "safeguarded multilevel",
        "box",
        lambda d, s: _by(Safeguarded(FlexibleCG(learned_directions(multilevel(d, s))), budget=SHORT)),
        safe=True,
    ),
    Part(
        "safeguarded Hybrid",
        "grid",
        lambda d, s: _by(Safeguarded(Hybrid(Jacobi(0.8), correction(d, s), every=3), budget=SHORT)),
        safe=True,
    ),
    Part("safeguarded V-cycle", "grid", lambda d, s: _by(Safeguarded(CG(vcycle(d, s)))), safe=True),
    Part(
        "safeguarded prediction", "fields", lambda d, s: _by(Safeguarded(Neural(surrogate(d, s)))), safe=True
    ),
]

# --- the judge ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What came of a solve: itself, fallback, named, unnamed or wrong; and why."""

    kind: Literal["itself", "fallback", "named", "unnamed", "wrong"]
    why: str = ""
    seconds: float = 0.0


def judge(drawn: Drawn, run: Run) -> Verdict:
    """Solve a system, and hold the answer against SciPy."""
    begin = perf_counter()
    try:
        result = run(drawn.problem, Stop(rtol=drawn.rtol, max_steps=STEPS))
    except Exception as error:  # every failure is a verdict
        ours = isinstance(error, PartFailed) or type(error).__module__.startswith("solvus")
        why = f"{type(error).__name__}: {error}"
        return Verdict("named" if ours else "unnamed", why, perf_counter() - begin)
    seconds = perf_counter() - begin
    fault = mistake(drawn, result.value)
    if fault is not None:
        return Verdict("wrong", fault, seconds)
    taken = result.stats.get("fallback") or result.stats.get("backstop")
    return Verdict("fallback" if taken else "itself", str(taken or ""), seconds)


# --- rows ---------------------------------------------------------------------------------------------------


def count(part: Part, defect: str, systems: int, seed: int = 0) -> tuple[Counter[str], list[Verdict]]:
    """Judge a part with a defect on some systems."""
    place = 100 * PARTS.index(part) + DEFECTS.index(defect)
    seeds = [10_000 * place + 1_000_000_000 * seed + i for i in range(systems)]
    verdicts = [judge(draw(part.kind, s), part.make(defect, s)) for s in seeds]
    return Counter(v.kind for v in verdicts), verdicts


def method(defect: str) -> Method:
    """Return a row of the record."""

    def run(part: Part, case: Case, options: Options) -> Outcome:
        counts, verdicts = count(part, defect, case.size, options.seed)
        bad = counts["wrong"] + counts["unnamed"]
        why = sorted({v.why for v in verdicts if v.kind in ("wrong", "unnamed")})
        kinds = ("itself", "fallback", "named", "unnamed", "wrong")
        return Outcome(
            solve_s=sum(v.seconds for v in verdicts),
            converged=bad == 0,
            extra={**{kind: counts[kind] for kind in kinds}, "reason": "; ".join(why)[:300] or None},
        )

    return Method(defect, "solvus", run, "learned")


def cases() -> list[Case]:
    """Return every part on five systems, and on one."""
    every = [Case(p.name, 5, partial(lambda part: part, p), ladder=False) for p in PARTS]
    return every + [replace(case, size=1, quick=True) for case in every]


if __name__ == "__main__":
    main("broken-parts", __doc__, cases(), [method(defect) for defect in DEFECTS])
