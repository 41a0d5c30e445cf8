"""How fast is a training step of a physics-informed network, next to DeepXDE's?

A step is loss, gradient and Adam's update, at equal network (five hidden layers of 100, tanh, the same
weights), equal points, equal loss, in float32:

  laplacian2d       Poisson's equation in two dimensions
  navier-stokes2d   steady incompressible flow: three outputs, all first derivatives, two Laplacians
  fourth-order      Kuramoto-Sivashinsky: u_t + u u_x + u_xx + u_xxxx

`size` is the number of points in the domain; a quarter as many carry conditions.

  deepxde         DeepXDE on torch, in a process of its own, by its public interface, as `Model.train` steps.
                  It differentiates at the points of the conditions too, which is how it is made
  nested          plain torch: nested autograd.grad at the points of the domain alone, torch.optim.Adam
  jets            ours: the steps that `fit` takes, eager
  jets-compiled   the same with PINN(compile=True); set-up is the time to compile, up to minutes: --quick
                  leaves it out unless --methods names it

Before anything is timed every method must give the loss and the gradient that nested differentiation in
float64 gives, to the rounding of float32; one that does not is refused. `error` is how far its gradient is
off, relative, rounded up to a power of ten, since what is below is rounding (`extra.gradient_error` holds the
number). `solve_s` is the seconds of one step: methods take turns in blocks of steps, the first of which does
not count; the median over the blocks of a lap; median and spread over the laps. `extra` holds the seconds of
the processor (`cpu_s`), the loss, and DeepXDE's time over this one's, lap by lap.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pinn_deepxde import DeepXDE, timed
from pinn_equations import (
    EQUATIONS,
    VISCOSITY,
    NestedLoss,
    Start,
    draw,
    flat_gradient,
    put_weights,
    reference,
    tanh_network,
)
from rich import box
from rich.table import Table

from solvus.bench import Case, Method, Options, Outcome, Record, main
from solvus.bench.table import make_console
from solvus.meshes.geometry import Interval, Rectangle
from solvus.solvers.optim.adam import Adam
from solvus.solvers.pinn import MLP, PINN, BoundaryProblem, Data, Phase
from solvus.solvers.pinn import Run as Training
from solvus.solvers.pinn.sampling import FixedPoints
from solvus.solvers.pinn.where import Drawn

AGREE = 1e-5  # relative difference from float64 up to which a float32 loss and gradient are right
SIZES = (512, 2048, 8192)
PEER, COMPILED = "deepxde", "jets-compiled"


class Disagreement(ValueError):
    """A method whose loss or gradient is not that of the others."""


class Run(Protocol):
    """A training run that can be stopped between its steps."""

    setup_s: float
    version: str  # of the package

    def gradient(self) -> tuple[float, NDArray[np.float64]]:
        """Return loss and gradient (P,) at the first weights."""
        ...

    def block(self, steps: int) -> tuple[float, float]:
        """Take steps; return the seconds of one on the clock and of the processor."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Nested:
    """Plain torch: nested `torch.autograd.grad` and `torch.optim.Adam`.

    Args:
        name: of the equation.
        start: points and weights.
        device: of torch.
    """

    setup_s, version = 0.0, str(torch.__version__)

    def __init__(self, name: str, start: Start, device: str) -> None:
        self.network = tanh_network(start).to(device)
        self.loss = NestedLoss(name, start, next(self.network.parameters()))
        self.adam = torch.optim.Adam(self.network.parameters(), 1e-3)

    def gradient(self) -> tuple[float, NDArray[np.float64]]:
        return self._differentiate(), flat_gradient(self.network)

    def block(self, steps: int) -> tuple[float, float]:
        return timed(self._step, steps)

    def close(self) -> None:
        return

    def _differentiate(self) -> float:
        self.adam.zero_grad()
        loss = self.loss(self.network)
        loss.backward()
        return float(loss.detach())

    def _step(self) -> None:
        self.adam.zero_grad()
        self.loss(self.network).backward()
        self.adam.step()


class Jets:
    """The steps that `fit` takes.

    Args:
        name: of the equation.
        start: points and weights.
        device: of torch.
        compiled: by torch.compile; `setup_s` is what that takes.
    """

    version = importlib.metadata.version("solvus")

    def __init__(self, name: str, start: Start, device: str, *, compiled: bool = False) -> None:
        layers = MLP(width=len(start.biases[0]), depth=len(start.biases) - 1, normalise=False)
        phase = Phase(Adam(1e-3), 10**9, sampling=FixedPoints())
        pinn = PINN(layers, (phase,), dtype=torch.float32, compile=compiled, device=device)
        self.training = training = Training(posed(name, start), pinn)
        put_weights(training.model.network, start)
        training.theta = training.model.start()
        domain = training.problem.terms[0]
        drawn = Drawn(start.points.astype(np.float64))
        training.loss.set_cloud(0, training.model.cloud(domain, drawn, training.theta))
        self.setup_s = self._compile() if compiled else 0.0

    def gradient(self) -> tuple[float, NDArray[np.float64]]:
        losses, gradient = self.training.loss.gradient(self.training.theta)
        return float(losses.sum()), gradient.double().cpu().numpy()

    def block(self, steps: int) -> tuple[float, float]:
        return timed(self.training.advance, steps)

    def close(self) -> None:
        torch.compiler.reset()

    def _compile(self) -> float:
        taken = []
        for _ in range(2):
            begin = perf_counter()
            self.gradient()
            taken.append(perf_counter() - begin)
        return max(taken[0] - taken[1], 0.0)


def posed(name: str, start: Start) -> BoundaryProblem:
    """Return the problem as a user of this library writes it."""

    def poisson(u, x, y):
        return u.laplacian + 2 * math.pi**2 * torch.sin(math.pi * x) * torch.sin(math.pi * y)

    def navier_stokes(u, v, p):
        return (
            u * u.x + v * u.y + p.x - VISCOSITY * u.laplacian,
            u * v.x + v * v.y + p.y - VISCOSITY * v.laplacian,
            u.x + v.y,
        )

    def kuramoto_sivashinsky(u):
        return u.t + u * u.x + u.xx + u.xxxx

    equation = EQUATIONS[name]
    condition = Data(start.edge, start.values, of=equation.outputs[: equation.given])
    if name == "fourth-order":
        return BoundaryProblem(Interval(-1.0, 1.0), kuramoto_sivashinsky, [condition], time=(-1.0, 1.0))
    square, residual = Rectangle((-1, -1), (1, 1)), poisson if name == "laplacian2d" else navier_stokes
    return BoundaryProblem(square, residual, [condition], outputs=equation.outputs)


STARTERS: dict[str, Callable[[str, Start, str], Run]] = {
    PEER: lambda name, start, device: DeepXDE(name, start, device, torch.get_num_threads()),
    "nested": Nested,
    "jets": Jets,
    COMPILED: partial(Jets, compiled=True),
}
PACKAGES = {PEER: "deepxde", "nested": "torch"}


@dataclass(frozen=True)
class Pace:
    """What is timed, and how often.

    Args:
        device: of torch.
        methods: their names.
        laps: numbers behind a median and its spread.
        rounds: turns of every method in a lap.
        steps: at most, of a turn.
    """

    device: str = "cpu"
    methods: tuple[str, ...] = tuple(STARTERS)
    laps: int = 5
    rounds: int = 4
    steps: int = 4


@dataclass(frozen=True)
class Timing:
    """Laps of one method: seconds of a step on the clock and of the processor, and what it computes."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    loss: float
    error: float
    setup_s: float
    version: str


class Race:
    """All methods from the same start, taking turns.

    Args:
        name: of the equation.
        size: points in the domain.
        pace: what is timed.
        starters: how methods begin, by name.
    """

    dtype = "float32"

    def __init__(
        self,
        name: str,
        size: int,
        pace: Pace,
        starters: dict[str, Callable[[str, Start, str], Run]] = STARTERS,
    ) -> None:
        self.start = draw(name, size)
        self.unknowns = self.start.parameters
        self.timings: dict[str, Timing] = {}
        self.failures: dict[str, Exception] = {}
        self._told = dict.fromkeys(pace.methods, 0)
        right = reference(name, self.start)
        with ExitStack() as stack:
            runs: dict[str, tuple[Run, float, float]] = {}
            for method in pace.methods:
                try:
                    run = starters[method](name, self.start, pace.device)
                    stack.callback(run.close)
                    runs[method] = (run, *agreement(method, run.gradient(), right))
                except Exception as error:  # of this method alone; its record says why
                    self.failures[method] = error
            steps = max(1, min(pace.steps, 4 * pace.steps * 512 // size))
            laps = [
                list(_lap({m: r[0] for m, r in runs.items()}, pace.rounds, steps)) for _ in range(pace.laps)
            ]
        for k, (method, (run, loss, error)) in enumerate(runs.items()):
            wall, cpu = zip(*(lap[k] for lap in laps), strict=True)
            self.timings[method] = Timing(wall, cpu, loss, error, run.setup_s, run.version)

    def next_lap(self, method: str) -> float:
        """Return the seconds of a step in one lap after the other, over and over."""
        laps = self.timings[method].wall
        self._told[method] += 1
        return laps[self._told[method] % len(laps)]

    def ratios(self, method: str) -> list[float] | None:
        """Return DeepXDE's time over that of a method, lap by lap."""
        if PEER not in self.timings:
            return None
        pairs = zip(self.timings[PEER].wall, self.timings[method].wall, strict=True)
        return [theirs / ours for theirs, ours in pairs]


def agreement(
    method: str, found: tuple[float, NDArray[np.float64]], right: tuple[float, NDArray[np.float64]]
) -> tuple[float, float]:
    """Return the loss, and how far the gradient is off, relative.

    Raises:
        Disagreement: loss or gradient is further off than rounding explains.
    """
    loss, gradient = found
    if gradient.shape != right[1].shape:
        raise Disagreement(f"{method} has a gradient of shape {gradient.shape}, not {right[1].shape}")
    loss_error = abs(loss - right[0]) / abs(right[0])
    error = float(np.linalg.norm(gradient - right[1]) / np.linalg.norm(right[1]))
    if not (loss_error <= AGREE and error <= AGREE):  # NaN neither
        raise Disagreement(
            f"{method} is not timed: its loss {loss:.6g} is off by {loss_error:.1e} and its gradient by "
            f"{error:.1e} (relative; {AGREE:.0e} is rounding), so it solves another problem"
        )
    return loss, error


def _lap(runs: dict[str, Run], rounds: int, steps: int) -> Iterator[tuple[float, float]]:
    """Yield the median seconds of a step, wall and processor, of every method."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(run.block(steps))
    for blocks in taken.values():
        wall, cpu = zip(*blocks, strict=True)
        yield median(wall), median(cpu)


def trained(name: str, pace: Pace) -> Method:
    """Return the method of a name; one run after the other tells of one lap after the other."""

    def run(race: Race, case: Case, options: Options) -> Outcome:
        if name in race.failures:
            raise race.failures[name]
        t = race.timings[name]
        ratios = race.ratios(name)
        extra = {
            "cpu_s": median(t.cpu),
            "least_s": min(t.wall),
            "loss": t.loss,
            "gradient_error": t.error,
            "conditions": len(race.start.edge),
            "laps": len(t.wall),
            "version": t.version,
        }
        if ratios:
            extra |= {"deepxde_over_this": median(ratios), "least": min(ratios), "most": max(ratios)}
        error = 10.0 ** math.ceil(math.log10(t.error)) if t.error > 0 else 0.0
        return Outcome(setup_s=t.setup_s, solve_s=race.next_lap(name), error=error, extra=extra)

    return Method(name, PACKAGES.get(name, "solvus"), run, applies=lambda case: name in pace.methods)


def cases(pace: Pace) -> list[Case]:
    """Return every equation at every size."""
    return [
        Case(name, size, partial(Race, name, size, pace), quick=size == 2048, ladder=False)
        for name in EQUATIONS
        for size in SIZES
    ]


def asked(argv: Sequence[str]) -> Pace:
    """Return what the command line asks for: all methods are timed when a case is built."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods")
    parser.add_argument("--repeats", type=int)
    given, _ = parser.parse_known_args(argv)
    if given.methods is not None:
        methods = tuple(m for m in STARTERS if m in [word.strip() for word in given.methods.split(",")])
    else:
        methods = tuple(m for m in STARTERS if not given.quick or m != COMPILED)
    if given.quick:
        return Pace(given.device, methods, given.repeats or 3, rounds=3, steps=3)
    return Pace(given.device, methods, given.repeats or 5)


def print_ratios(records: Sequence[Record]) -> None:
    """Print the time of a step of every method beside DeepXDE's."""
    title = (
        "a training step, and DeepXDE's time over it: on the clock (median, least and most), of the processor"
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for word in (
        "problem",
        "method",
        "step ms",
        "cpu ms",
        "compile s",
        "gradient off",
        "DeepXDE / this",
        "by cpu",
    ):
        table.add_column(word, justify="left" if word in ("problem", "method") else "right", no_wrap=True)
    peers = {r.label: r.extra["cpu_s"] for r in records if r.ok and r.method == PEER and r.device == "cpu"}
    for before, r in zip((None, *records), records, strict=False):
        if not r.ok or r.solve_s is None:
            continue
        if before is not None and before.label != r.label:
            table.add_section()
        e = r.extra
        ratio = (
            "" if "least" not in e else f"{e['deepxde_over_this']:.2f} ({e['least']:.2f} - {e['most']:.2f})"
        )
        by_cpu = f"{peers[r.label] / e['cpu_s']:.2f}" if r.label in peers else ""
        times = [f"{1e3 * r.solve_s:.1f}", f"{1e3 * e['cpu_s']:.1f}", f"{r.setup_s:.0f}" if r.setup_s else ""]
        table.add_row(r.label, r.method, *times, f"{e['gradient_error']:.1e}", ratio, by_cpu)
    if table.row_count:
        make_console().print(table)


if __name__ == "__main__":
    chosen = asked(sys.argv[1:])
    print_ratios(main("pinn_speed", __doc__, cases(chosen), [trained(m, chosen) for m in STARTERS]))
