"""Learned corrections for families of systems: do they beat a classical method, and what taught them that?

Cell-centred n x n unknowns, zero Dirichlet values, relative residual 1e-8, zero start. Five new samples per
case, none of them in the training; steps and seconds are means over them, the residual is the worst.

  darcy        -div(k grad u) = 1, k log-normal, log k smooth of deviation 1 (four structures per side)
  heat         u - 0.01 div(k grad u) = v, an implicit step from a smooth random v; k as above
  inclusions   -div(k grad u) = f, f smooth and random, k = 1 but for twelve discs at fixed places, each with
               a new k between 1e2 and 1e5
  darcy64      -div(k grad u) = 1, k = 12 or 3 by a random field: what the shipped networks were trained on

Bases of K columns inside conjugate gradients with SSOR (omega = 1.5), which is also a row of its own:

  POD-K        principal modes of 128 solutions at the same n
  POD64-K      the same at n = 64, interpolated
  trunk-K      trunk of a DeepONet trained on the 128 samples at n = 64, evaluated at any n
  untrained-K  the trunk of the same network before it was trained
  sine-K       the lowest K products of sines: nothing learned
  network-K    modes of benchmarks/models/darcy64/pod-deeponet

`deflated` is deflated CG, `additive` and `multiplicative` are preconditioners. `data_s` is making and solving
the training samples by multigrid CG, `train_s` the singular vectors, or the training of the network.

    python benchmarks/learned_corrections.py --quick
    python benchmarks/learned_corrections.py --only darcy:128 --out corrections.jsonl
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.neural.deeponet import DeepONetConfig, DeepONetOnGrid
from solvus.operators.pde import TwoPhase
from solvus.operators.pde.fields import gaussian, log_normal
from solvus.solvers import CG, LinearSystem, Solver, Stop, SuperLU, ic0, jacobi, solve, ssor
from solvus.solvers.learned.deflation import Basis, DeflatedCG, TrunkBasis, deflation, network_basis
from solvus.solvers.multigrid import multigrid
from solvus.solvers.training import RelativeL2, Surrogate, Training, fit, normalisers

MODELS = Path(__file__).resolve().parent / "models"
TRAIN, TEST = 128, 5
LEARNED_AT = 64  # where networks are trained
SMOOTHER = ssor(1.5)


@dataclass(frozen=True)
class Drawn:
    """One sample: -div(k grad u) + c u = f on a grid, all (n, n)."""

    k: np.ndarray
    f: np.ndarray
    c: float = 0.0


def cells(n: int) -> Grid:
    """Return the grid of n x n cells."""
    return Grid((n, n), centring="cell")


def darcy(n: int, seed: int) -> Drawn:
    """Draw a smooth log-normal coefficient."""
    return Drawn(log_normal(cells(n), 1.0, seed, structures=4.0), np.ones((n, n)))


def heat(n: int, seed: int) -> Drawn:
    """Draw a coefficient and a state; divided by the time step, so that k is the coefficient itself."""
    v = 1 + gaussian(cells(n), seed + 500_000, structures=4.0)
    return Drawn(darcy(n, seed).k, 100 * v, 100.0)


def inclusions(n: int, seed: int) -> Drawn:
    """Draw the coefficients of twelve fixed discs, and a source."""
    rng = np.random.default_rng(seed)
    x = (np.arange(n) + 0.5) / n
    X, Y = np.meshgrid(x, x, indexing="ij")
    k = np.ones((n, n))
    for i in range(3):
        for j in range(4):
            inside = (X - (i + 0.5) / 3) ** 2 + (Y - (j + 0.5) / 4) ** 2 < 0.1**2
            k[inside] = 10 ** rng.uniform(2, 5)
    return Drawn(k, 1 + gaussian(cells(n), rng, structures=4.0))


def darcy64(n: int, seed: int) -> Drawn:
    """Draw as the shipped networks were trained: seeds below 200 are test samples there."""
    return Drawn(np.asarray(TwoPhase()(cells(n), seed=np.random.default_rng([2026, seed]))), np.ones((n, n)))


FAMILIES: dict[str, Callable[[int, int], Drawn]] = {f.__name__: f for f in (darcy, heat, inclusions, darcy64)}


class Samples:
    """New samples of a family as the problem of a case.

    Args:
        family: its name.
        n: unknowns per axis.
    """

    dtype = "float64"

    def __init__(self, family: str, n: int) -> None:
        self.family, self.n, self.unknowns = family, n, n * n

    @cached_property
    def systems(self) -> list[LinearSystem]:
        """The systems, made once."""
        return [system(FAMILIES[self.family](self.n, seed)) for seed in range(TEST)]

    def check(self, value: Tensor) -> tuple[float, None]:
        """Return the worst relative residual."""
        found = zip(self.systems, value, strict=True)
        return max(float(s.residual_norm(x) / s.scale()) for s, x in found), None


def system(*drawn: Drawn) -> LinearSystem:
    """Return the system of a sample, or of several as a batch."""
    k, f = (torch.as_tensor(np.stack([getattr(d, name) for d in drawn])) for name in ("k", "f"))
    if len(drawn) == 1:
        k, f = k[0], f[0]
    return LinearSystem(Diffusion(cells(f.shape[-1]), k, drawn[0].c), f.flatten(-2))


# --- what is learned, once per family and size ------------------------------------------------------------


@cache
def snapshots(family: str, n: int) -> tuple[list[Drawn], Tensor, float]:
    """Return training samples, their solutions (TRAIN, n * n), and the seconds that this took."""
    begin = perf_counter()
    drawn = [FAMILIES[family](n, seed) for seed in range(1000, 1000 + TRAIN)]
    parts = [system(*drawn[i : i + 16]) for i in range(0, TRAIN, 16)]
    found = torch.cat([solve(part, CG(multigrid()), stop=Stop(rtol=1e-8)).value for part in parts])
    return drawn, found, perf_counter() - begin


Learned = tuple[Basis, Mapping[str, float]]  # and its seconds


@cache
def pod(family: str, n: int, columns: int, *, at: int = 0) -> Learned:
    """Return the principal modes of the training solutions on `at` points per axis (0: n), on n points."""
    at = at or n
    _, found, data_s = snapshots(family, at)
    begin = perf_counter()
    basis = Basis.from_snapshots(found, columns=columns)
    if at != n:
        modes = basis.columns.mT.reshape(1, -1, at, at)
        fine = F.interpolate(modes, size=(n, n), mode="bilinear", align_corners=False)
        basis = Basis.of(fine.reshape(-1, n * n).mT, source=f"modes of {at}^2 points, interpolated")
    return basis, {"data_s": data_s, "train_s": perf_counter() - begin}


@cache
def networks(family: str) -> tuple[TrunkBasis, TrunkBasis, Mapping[str, float]]:
    """Return the trunk of a DeepONet before and after its training at n = 64, and the seconds."""
    drawn, found, data_s = snapshots(family, LEARNED_AT)
    begin, n = perf_counter(), LEARNED_AT
    x = torch.as_tensor(np.stack([(np.log(d.k), d.f) for d in drawn])).float()
    if bool((x[:, 1] == 1).all()):
        x = x[:, :1]
    pairs = x, found.reshape(-1, 1, n, n).float()
    torch.manual_seed(0)
    config = DeepONetConfig(
        x.shape[1], 1, (n, n), branch=(128,), filters=(16, 32), trunk=(128, 128), features=64
    )
    net = DeepONetOnGrid(config)
    net.set_coordinates([torch.as_tensor(axis) for axis in cells(n).axes()])
    untrained = TrunkBasis.from_network(net)
    model = Surrogate(net, *normalisers(pairs))
    fit(model, pairs, RelativeL2(), Training(epochs=100, batch=16, learning_rate=2e-3, select="last"))
    seconds = {"data_s": data_s, "train_s": perf_counter() - begin}
    return untrained, TrunkBasis.from_network(model), seconds


@cache
def on_grid(family: str, n: int, columns: int, *, trained: bool = True) -> Learned:
    """Return the functions of a trunk on n x n points."""
    untrained, trunk, seconds = networks(family)
    basis = (trunk if trained else untrained).on(cells(n), columns=columns)
    return basis, seconds if trained else {}


@cache
def sines(family: str, n: int, columns: int) -> Learned:
    """Return the lowest products of sines, the same for every family."""
    x = (np.arange(n) + 0.5) / n
    waves = sorted((i * i + j * j, i, j) for i in range(1, 20) for j in range(1, 20))[:columns]
    values = [np.outer(np.sin(np.pi * i * x), np.sin(np.pi * j * x)).ravel() for _, i, j in waves]
    return Basis.of(np.stack(values, 1), source="sines"), {}


@cache
def shipped(family: str, n: int, columns: int) -> Learned:
    """Return the modes of the shipped POD-DeepONet."""
    model = Surrogate.load(MODELS / "darcy64" / "pod-deeponet")
    basis = network_basis(model)
    assert isinstance(basis, Basis)
    return basis, {name: model.meta[name] for name in ("data_s", "train_s")}


# --- methods ----------------------------------------------------------------------------------------------

Making = Callable[[Samples], tuple[Solver, Mapping[str, Any]]]  # a solver, and what goes into the record


def each(
    name: str, make: Making, kind: Literal["classical", "learned"], applies: Callable[[Case], bool]
) -> Method:
    """Return the method that solves the samples one after the other."""

    def run(problem: Samples, case: Case, options: Options) -> Outcome:
        solver, extra = make(problem)
        stop = Stop(rtol=options.rtol, max_steps=5000, seconds=options.seconds)
        found = [solve(s, solver, stop=stop, throw=False) for s in problem.systems]
        return Outcome(
            torch.stack([r.value for r in found]),
            mean(r.stats["setup_s"] for r in found),
            mean(r.stats["solve_s"] for r in found),
            round(mean(r.steps for r in found)),
            converged=bool(all(r.converged for r in found)),
            extra={**extra, "all_steps": [r.steps for r in found]},
        )

    return Method(name, "solvus", run, kind, applies)


def classical(name: str, solver: Solver) -> Method:
    """Return a method that knows nothing of the family."""
    return each(name, lambda problem: (solver, {}), "classical", lambda case: True)


Use = Callable[[Basis], Solver]
FORMS: dict[str, Use] = {
    "deflated": lambda basis: DeflatedCG(basis, SMOOTHER),
    "additive": lambda basis: CG(deflation(basis, SMOOTHER)),
    "multiplicative": lambda basis: CG(deflation(basis, SMOOTHER, form="multiplicative")),
}


def deflating(
    word: str,
    columns: int,
    learn: Callable[[str, int, int], Learned],
    form: str = "deflated",
    *,
    kind: Literal["classical", "learned"] = "learned",
    applies: Callable[[Case], bool] = lambda case: True,
) -> Method:
    """Return a method with a basis."""

    def make(problem: Samples) -> tuple[Solver, Mapping[str, Any]]:
        basis, seconds = learn(problem.family, problem.n, columns)
        return FORMS[form](basis), {**seconds, "columns": basis.size}

    return each(f"{word}-{columns} {form}", make, kind, applies)


def methods() -> list[Method]:
    """Return the rows: classical methods, then bases."""
    transferred = lambda case: case.size != LEARNED_AT  # noqa: E731
    return [
        classical("Jacobi-CG", CG(jacobi)),
        classical("SSOR-1.5-CG", CG(SMOOTHER)),
        classical("SSOR-1.8-CG", CG(ssor(1.8))),
        classical("IC(0)-CG", CG(ic0())),
        classical("multigrid-V-CG", CG(multigrid())),
        classical("SuperLU", SuperLU()),
        deflating("POD", 16, pod),
        deflating("POD", 32, pod),
        deflating("POD", 64, pod),
        deflating("POD", 32, pod, "additive"),
        deflating("POD", 32, pod, "multiplicative"),
        deflating("POD64", 32, partial(pod, at=LEARNED_AT), applies=transferred),
        deflating("trunk", 32, on_grid),
        deflating("trunk", 32, on_grid, "additive"),
        deflating("trunk", 32, on_grid, "multiplicative"),
        deflating("untrained", 32, partial(on_grid, trained=False), kind="classical"),
        deflating("sine", 32, sines, kind="classical"),
        deflating("sine", 64, sines, kind="classical"),
        deflating("network", 66, shipped, applies=lambda case: case.problem == "darcy64"),
    ]


def cases() -> list[Case]:
    """Return families at sizes; the samples of different sizes are different ones."""
    sizes = {name: (64,) if name == "darcy64" else (64, 128) for name in FAMILIES}
    return [
        Case(name, n, partial(Samples, name, n), quick=name == "darcy" and n == 64, ladder=False)
        for name, some in sizes.items()
        for n in some
    ]


if __name__ == "__main__":
    main("learned-corrections", __doc__, cases(), methods())
