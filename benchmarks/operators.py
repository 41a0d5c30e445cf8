"""Neural operators beside classical solvers: what accuracy does a second buy, and what does training cost?

  reference-darcy16   Darcy flow on 16 x 16 points that neuraloperator publishes: two phases (0 and 1) to
                      pressure, 1,000 pairs to train on and 50 to test. The points are every 26th or so of a
                      finer grid, so that the phases between them are not known to anybody.
  darcy64             -div(a grad u) = 1, a = 12 or 3 on each of 64 x 64 cells, u = 0 on the boundary. Truth
                      are cell means of a solution on 256 x 256 cells, to 1e-8; 1,000 pairs and 200 to test.

`error` is the mean over the test pairs of ||p - u|| / ||u|| in physical units, and the mean over trainings
(seeds 0, 1, 2; one in quick runs and for darcy64), each in `extra.errors`. `solve_s` is seconds per sample:
of learned methods predicted all at once (`extra.single_s`: one at a time), of classical ones solved one after
the other, matrices assembled within. `train_s` is one training, `data_s` making its data. Same loss
(relative L2), optimiser (AdamW), schedule (one cycle) and batches (20) for all; `extra` has the epochs.

  reference-darcy16   `FNO` has neuraloperator's architecture, parameters, epochs and loss; `FNO same start`
                      its first weights too. The others are the best of ours within its training time.
                      "mirrored": each pair also reflected at the diagonal. "6 numbers" fits both phases, the
                      ends and a scale to finite volumes, without a network.
  darcy64             every architecture, trained for about as long; multigrid CG on 16^2 to 128^2 cells to
                      three tolerances (coarser: geometric means of a; finer: the same a), SuperLU, PyAMG, and
                      linear elements. Quick runs solve 40 samples and read shipped weights.
  darcy64-start       a prediction as the start of multigrid CG to 1e-8, against zero. `steps` is the mean.
                      "from 32^2 cells" is a start by a coarser grid, which nobody had to train.

neuraloperator is installed by `pip install solvus[compare]`; the published files are looked for in the folder
`SOLVUS_REFERENCE`, else in shared/reference beside the checkout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from operator_speed import put_weights  # beside this file
from torch import Tensor, nn
from torch.nn import functional as F

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.datasets.generation.executors import one_thread
from solvus.meshes import Grid, grid_mesh
from solvus.operators.linear import Diffusion, to_scipy
from solvus.operators.neural.architectures import architecture
from solvus.operators.neural.base import NeuralOperator, parameter_count
from solvus.operators.neural.fno import FNO, FNOConfig
from solvus.operators.neural.learned_fluxes import LearnedFluxes
from solvus.operators.neural.pod import PODOnGrid
from solvus.operators.neural.pod_regression import PODRegression
from solvus.operators.pde import Darcy, TwoPhase
from solvus.solvers import CG, LinearSystem, Solver, Stop, solve
from solvus.solvers.fem import ScikitFem, VariableDiffusion
from solvus.solvers.learned import Chain, FieldSystem, Neural
from solvus.solvers.multigrid import multigrid
from solvus.solvers.training import RelativeL2, Signature, Surrogate, Training, fit, normalisers

HERE = Path(__file__).resolve().parent
SHIPPED = HERE / "models"  # of quick runs
MADE = HERE.parent / "out" / "models"  # of full runs
QUICK = "--quick" in sys.argv
RECIPE = Training(epochs=30, batch=20, learning_rate=2e-3, select="last")
Pair = tuple[Tensor, Tensor]
CELLS, FINE = 64, 4
TWIN = FNOConfig.like_neuraloperator((16, 16), 1, 1, 32)
TRAIN, TEST, FEW = 1000, 200, 40


class Fields:
    """Pairs to train on and to test, and the mean relative error of predictions.

    Args:
        train, test: pairs (x, y), (N, 1, n, n).
        seeds: trainings of every method.
        data_s: seconds that making the training pairs took.
    """

    dtype = "float32"

    def __init__(self, train: Pair, test: Pair, seeds: int, data_s: float | None = None) -> None:
        self.train, self.test, self.seeds, self.data_s = train, test, seeds, data_s

    @property
    def unknowns(self) -> int:
        """Points of a field."""
        return self.test[1][0].numel()

    def check(self, value: Sequence[Tensor]) -> tuple[None, float]:
        """Return the mean over trainings of the mean relative error."""
        return None, mean(self.error(prediction) for prediction in value)

    def error(self, prediction: Tensor) -> float:
        """Return the mean relative error of one prediction of the test fields."""
        y = self.test[1].double()
        assert prediction.shape == y.shape
        return float(((prediction.double() - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)).mean())

    @cached_property
    def grid(self) -> Grid:
        """Cells of the fields."""
        return Grid(tuple(self.test[1].shape[2:]), centring="cell")  # type: ignore[arg-type]


def reference_darcy() -> Fields:
    """Read the published pairs."""
    folder = Path(os.environ.get("SOLVUS_REFERENCE", HERE.parents[1] / "shared" / "reference"))
    path = folder / "neuraloperator"
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} does not exist: set SOLVUS_REFERENCE to the folder of published data"
        )
    pairs = []
    for split in ("train", "test"):
        data = torch.load(path / f"darcy_{split}_16.pt", weights_only=True)
        pairs.append((data["x"][:, None].float(), data["y"][:, None].float()))
    return Fields(*pairs, seeds=1 if QUICK else 3)


def truth(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one coefficient, and solve on finer cells."""
    a = TwoPhase()(Grid((CELLS, CELLS), centring="cell"), seed=np.random.default_rng([2026, seed]))
    u = by_volumes(torch.as_tensor(a), FINE * CELLS, CG(multigrid()), 1e-8)
    return a.astype(np.float32), u.numpy().astype(np.float32)


def darcy64() -> Fields:
    """Draw and solve all samples, on all cores; the first ones are for the test, in quick runs too."""
    begin = perf_counter()
    samples = range(FEW) if QUICK else range(TEST + TRAIN)
    context = get_context("spawn")
    with ProcessPoolExecutor(
        torch.get_num_threads(), context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        drawn = list(pool.map(truth, samples, chunksize=8))
    x, y = (torch.as_tensor(np.stack(part))[:, None] for part in zip(*drawn, strict=True))
    took = perf_counter() - begin
    test = FEW if QUICK else TEST
    share = 0.0 if QUICK else took * TRAIN / len(samples)
    return Fields((x[test:], y[test:]), (x[:test], y[:test]), 1, share or None)


def by_volumes(a: Tensor, n: int, solver: Solver, rtol: float) -> Tensor:
    """Solve on n x n cells for a coefficient (m, m); return cell means, or interpolated values, (m, m)."""
    system = LinearSystem(*Darcy().problem(Grid((n, n), centring="cell"), {"coefficient": on_cells(a, n)}))
    return to_cells(solve(system, solver, stop=Stop(rtol=rtol), throw=False).value, n, len(a))


def on_cells(a: Tensor, n: int) -> Tensor:
    """Return a coefficient (m, m) on n x n cells: the same on finer ones, geometric means on coarser ones."""
    m = len(a)
    if n < m:
        return F.avg_pool2d(a.log()[None], m // n)[0].exp()
    return a.repeat_interleave(n // m, 0).repeat_interleave(n // m, 1)


def to_cells(values: Tensor, n: int, m: int) -> Tensor:
    """Return values on n x n cells as means over, or interpolated to, m x m cells."""
    u = values.reshape(1, 1, n, n)
    if n > m:
        return F.avg_pool2d(u, n // m)[0, 0]
    return F.interpolate(u, size=(m, m), mode="bilinear")[0, 0] if n < m else u[0, 0]


def by_elements(a: Tensor) -> Tensor:
    """Solve by linear elements on the triangles of the cells, and return the means of the corners."""
    n = len(a)
    mesh = grid_mesh(Grid((n - 1, n - 1)))
    k = a.numpy()

    def coefficient(x: np.ndarray) -> np.ndarray:
        i = np.minimum((x * n).astype(int), n - 1)
        return k[i[:, 0], i[:, 1]]

    problem = VariableDiffusion(mesh, lambda x: np.ones(len(x)), degree=1, coefficient=coefficient)
    nodal = torch.as_tensor(np.asarray(ScikitFem().solve(problem).value))
    order = np.lexsort((mesh.points[:, 1], mesh.points[:, 0]))
    u = nodal[torch.as_tensor(order)].reshape(1, 1, n + 1, n + 1)
    return F.avg_pool2d(u, 2, stride=1)[0, 0]


def assembled(a: Tensor) -> tuple[sp.csr_array, np.ndarray]:
    """Return the matrix of finite volumes."""
    A = Diffusion(Grid(tuple(a.shape), centring="cell"), a)  # type: ignore[arg-type]
    return to_scipy(A), np.ones(a.numel())


def by_superlu(a: Tensor, n: int) -> Tensor:
    """Solve on n x n cells with SciPy's direct method in its mode for symmetric matrices."""
    A, b = assembled(on_cells(a, n))
    factor = spla.splu(
        A.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return to_cells(torch.as_tensor(factor.solve(b)), n, len(a))


def by_pyamg(a: Tensor) -> Tensor:
    """Solve with PyAMG's classical multigrid in CG."""
    A, b = assembled(a)
    hierarchy = pyamg.ruge_stuben_solver(sp.csr_matrix(A))
    return torch.as_tensor(hierarchy.solve(b, tol=1e-6, accel="cg")).reshape(a.shape)


def classical(name: str, package: str, method: Callable[[Tensor], Tensor]) -> Method:
    """Return the method that solves the test samples of darcy64 one by one, on one thread."""

    def run(problem: Fields, case: Case, options: Options) -> Outcome:
        with one_thread():
            fields = problem.test[0][:, 0].double()
            method(fields[0])
            begin = perf_counter()
            found = torch.stack([method(a) for a in fields])[:, None]
            took = perf_counter() - begin
        extra = {"samples": len(found), "device": "cpu", "dtype": "float64"}
        return Outcome([found], solve_s=took / len(found), extra=extra)

    return Method(name, package, run, applies=lambda case: case.problem == "darcy64")


@dataclass(frozen=True)
class Plan:
    """How a network is made and trained.

    Args:
        make: the network, given the training pairs, normalised.
        training: all but its seed.
        mirrored: train on every pair and its mirror image at the diagonal.
        calibrate: epochs before, for the few numbers of the whole field of `LearnedFluxes`.
    """

    make: Callable[[Pair], nn.Module]
    training: Training = RECIPE
    mirrored: bool = False
    calibrate: int = 0

    def train(self, pairs: Pair, seed: int, device: str) -> Surrogate:
        """Train a model."""
        torch.manual_seed(seed)
        if self.mirrored:
            pairs = (torch.cat((pairs[0], pairs[0].mT)), torch.cat((pairs[1], pairs[1].mT)))
        encode, decode = normalisers(pairs)
        encoded = encode.encode(pairs[0]), decode.encode(pairs[1])
        net = self.make(encoded)
        if isinstance(net, PODOnGrid):
            net.fit_basis(encoded[1])
        grid = [((np.arange(n) + 0.5) / n).tolist() for n in pairs[0].shape[2:]]
        signature = Signature(("coefficient",), ("u",), grid, ("dirichlet",) * 2)
        model = Surrogate(net, encode, decode, signature=signature).to(device)
        training = replace(self.training, seed=seed)
        if self.calibrate:
            assert isinstance(net, LearnedFluxes)
            net.train_network(False)
            first = replace(training, epochs=self.calibrate, learning_rate=2e-2, weight_decay=0.0)
            fit(model, pairs, RelativeL2(), first)
            net.train_network(True)
        if any(p.requires_grad for p in net.parameters()):
            fit(model, pairs, RelativeL2(), training)
        return model.eval()


def learned(
    name: str, plan: Plan, problem_name: str, package: str = "solvus", *, quick: bool = True
) -> Method:
    """Return the method that trains networks (quick runs of darcy64 read shipped ones) and predicts."""
    word = name.lower().replace(" ", "-")

    def run(problem: Fields, case: Case, options: Options) -> Outcome:
        models, train_s, metrics = [], [], {}
        for seed in range(problem.seeds):
            if problem_name == "darcy64" and QUICK:
                models.append(Surrogate.load(SHIPPED / case.problem / word, device=options.device))
                train_s.append(models[-1].meta["train_s"])
                continue
            begin = perf_counter()
            models.append(plan.train(problem.train, options.seed + seed, options.device))
            train_s.append(perf_counter() - begin)
        x = problem.test[0].to(options.device)
        found, batch_s, single_s = [], [], []
        for model in models:
            model.predict(x)
            for _ in range(5):
                begin = perf_counter()
                y = model.predict(x, batch=50).cpu()
                batch_s.append((perf_counter() - begin) / len(x))
            found.append(y)
            for one in x[:20]:
                begin = perf_counter()
                model.predict(one[None]).cpu()
                single_s.append(perf_counter() - begin)
        errors = [problem.error(y) for y in found]
        data_s = models[0].meta.get("data_s") if QUICK and problem_name == "darcy64" else problem.data_s
        count = parameter_count(models[0].net)
        if problem_name == "darcy64" and not QUICK and isinstance(models[0].net, NeuralOperator):
            models[0].meta.update(
                data=f"darcy64 of benchmarks/operators.py, {TRAIN} pairs",
                seed=options.seed, device=options.device, threads=options.threads, 
                train_s=round(train_s[0], 1), data_s=round(data_s or 0.0, 1),
                training=plan.training.values(),
            )  # fmt: skip
            metrics = {"test relative L2": errors[0]}
            models[0].save(MADE / case.problem / word, metrics=metrics, overwrite=True)
        extra = {
            "train_s": mean(train_s), "data_s": data_s, "errors": errors, "single_s": median(single_s),
            "parameters": count, "epochs": plan.training.epochs, "pairs": len(problem.train[0]) or TRAIN,
        }  # fmt: skip
        return Outcome(found, solve_s=median(batch_s), extra=extra)

    def applies(case: Case) -> bool:
        shipped = not QUICK or problem_name != "darcy64" or (SHIPPED / case.problem / word).is_dir()
        return case.problem == problem_name and shipped and (quick or not QUICK)

    return Method(name, package, run, "learned", applies)


def neuraloperator_fno(pairs: Pair) -> nn.Module:
    """Return neuraloperator's FNO with its defaults."""
    try:
        from neuralop import models
    except ImportError:
        raise ImportError("neuraloperator is not installed: pip install solvus[compare]") from None
    return models.FNO(n_modes=(16, 16), in_channels=1, out_channels=1, hidden_channels=32)


def same_start(pairs: Pair) -> nn.Module:
    """Return our FNO with the weights that neuraloperator's starts with."""
    peer = neuraloperator_fno(pairs)  # drawn first, as where it is trained itself
    ours = FNO(TWIN)
    put_weights(peer, ours)
    return ours


def network(name: str, /, **settings: Any) -> Callable[[Pair], nn.Module]:
    """Return what makes a network of ours with one channel in and out."""
    return lambda pairs: architecture(name).from_settings({"in_channels": 1, "out_channels": 1, **settings})


def pod_regression(pairs: Pair) -> nn.Module:
    """Return the linear baseline; a tenth of the pairs chooses its ranks."""
    held = len(pairs[0]) // 10
    x, y = pairs
    return PODRegression.from_data((x[held:], y[held:]), (x[:held], y[:held]))


def reference_methods() -> list[Method]:
    """Return what is trained on the published pairs."""
    made = partial(learned, problem_name="reference-darcy16")
    mgno = network("mgno", channels=16, layers=3, smoothing=("10", "10", "20"))
    half = replace(RECIPE, epochs=15)  # of twice the pairs
    fluxes = replace(RECIPE, epochs=20, learning_rate=6e-3)
    return [
        made("neuraloperator FNO", Plan(neuraloperator_fno), package="neuraloperator"),
        made("FNO", Plan(lambda _: FNO(TWIN))),
        made("FNO same start", Plan(same_start), quick=False),
        made("neuraloperator FNO mirrored", Plan(neuraloperator_fno, half, mirrored=True),
             package="neuraloperator", quick=False),
        made("FNO mirrored", Plan(lambda _: FNO(TWIN), half, mirrored=True), quick=False),
        made("MgNO mirrored", Plan(mgno, half, mirrored=True)),
        made("learned fluxes 6 numbers",
             Plan(network("learned-fluxes", layers=0), replace(RECIPE, epochs=10, learning_rate=2e-2))),
        made("learned fluxes", Plan(network("learned-fluxes"), fluxes, calibrate=3)),
    ]  # fmt: skip


def darcy_methods() -> list[Method]:
    """Return every architecture, trained for about as long, and the classical methods."""
    cells = (CELLS, CELLS)
    epochs = lambda n, rate=2e-3: replace(RECIPE, epochs=n, learning_rate=rate)  # noqa: E731
    fno = {"modes": (12, 12), "width": 32}
    plans = {
        "FNO": Plan(network("fno", **fno), epochs(8)),
        "F-FNO": Plan(network("fno", modes=(12, 12), width=20, block="factorised", expansion=2.0), epochs(6)),
        "FNO 3x3 skip": Plan(network("fno", modes=(8, 8), width=24, skip_kernel=3), epochs(6)),
        "TFNO": Plan(network("tfno", **fno, rank=0.1), epochs(9)),
        "FNO on 2x2 patches": Plan(
            network("patched", patches=(2, 2), network="fno", levels=1, boundary=("replicate",), halo=(8, 8),
                    settings={"in_channels": 2, "out_channels": 1, "modes": (8, 8), "width": 24}), epochs(4)),
        "MgNO": Plan(network("mgno", channels=16, smoothing=("10", "10", "10", "10", "20")), epochs(7)),
        "U-Net": Plan(network("unet", width=16, levels=3), epochs(9)),
        "DeepONet": Plan(network("deeponet", size=cells), epochs(80, 1e-3)),
        "MultiONet": Plan(network("multionet", size=cells, initial=0.1), epochs(35, 1e-3)),
        "POD-DeepONet": Plan(network("pod-deeponet", size=cells, modes=64), epochs(120, 1e-3)),
        "POD regression": Plan(pod_regression, epochs(1)),
        "low-rank operator": Plan(network("low-rank", width=16, kernel=(32,)), epochs(3)),
        "graph operator": Plan(network("gno", width=8, layers=2, kernel=(32,), radius=0.08, neighbours=12),
                               epochs(2)),
        "multipole graph operator": Plan(
            network("multipole", width=8, layers=2, kernel=(32,), radii=(0.05, 0.2, 0.6), neighbours=8),
            epochs(1)),
        "learned fluxes": Plan(network("learned-fluxes"), epochs(8, 6e-3), calibrate=2),
    }  # fmt: skip
    grids = [(16, (1e-2,)), (32, (1e-2, 1e-4)), (64, (1e-1, 1e-2, 1e-4)), (128, (1e-2, 1e-4))]
    cycles = CG(multigrid(islands=None))
    return [
        *(learned(name, plan, "darcy64") for name, plan in plans.items()),
        *(
            classical(
                f"multigrid-CG {n}^2 to {rtol:.0e}",
                "solvus",
                partial(by_volumes, n=n, solver=cycles, rtol=rtol),
            )
            for n, tolerances in grids
            for rtol in tolerances
        ),
        classical("linear elements 64^2", "scikit-fem", by_elements),
        classical("SuperLU 64^2", "scipy", partial(by_superlu, n=64)),
        classical("SuperLU 128^2", "scipy", partial(by_superlu, n=128)),
        classical("RS-CG 64^2 to 1e-6", "pyamg", by_pyamg),
    ]


class Starts(Fields):
    """Systems of finite volumes, to be solved to a tolerance from any start."""

    dtype = "float64"

    @cached_property
    def systems(self) -> list[FieldSystem]:
        """One system per test sample."""
        fields = self.test[0][:FEW, 0].double()
        return [FieldSystem(Darcy(), self.grid, {"coefficient": a}) for a in fields]

    def check(self, value: Sequence[Tensor]) -> tuple[float, None]:
        """Recompute the largest relative residual."""
        pairs = zip(self.systems, value, strict=True)
        return max(float(system.residual_norm(u) / system.scale()) for system, u in pairs), None


def started(name: str, start: str | int | None) -> Method:
    """Return multigrid CG from zero, from a solution on fewer cells, or from a trained network."""

    def run(problem: Starts, case: Case, options: Options) -> Outcome:
        cycles, steps, values = CG(multigrid(islands=None)), [], []
        folder = (SHIPPED if QUICK else MADE) / "darcy64"
        model = Surrogate.load(folder / start) if isinstance(start, str) else None
        solver = Chain(Neural(model), cycles) if model else cycles
        with one_thread():
            for counts in (False, True):
                begin = perf_counter()
                for system in problem.systems[: None if counts else 1]:
                    x0 = None
                    if isinstance(start, int):
                        x0 = by_volumes(system.fields["coefficient"], start, cycles, 1e-2).flatten()
                    result = solve(system, solver, x0=x0, stop=Stop(rtol=options.rtol))
                    if counts:
                        steps.append(result.steps - (model is not None))
                        values.append(result.value)
                took = perf_counter() - begin
        extra = {
            "samples": len(values), "mean_steps": mean(steps), "device": "cpu",
            "train_s": model.meta["train_s"] if model else None,
            "data_s": model.meta["data_s"] if model else None,
        }  # fmt: skip
        return Outcome(values, solve_s=took / len(values), steps=round(mean(steps)), extra=extra)

    kind = "learned" if isinstance(start, str) else "classical"
    return Method(name, "solvus", run, kind, lambda case: case.problem == "darcy64-start")


def start_methods() -> list[Method]:
    """Return what multigrid CG starts from."""
    return [
        started("multigrid-CG from zero", None),
        started("multigrid-CG from 32^2 cells", 32),
        started("multigrid-CG from MgNO", "mgno"),
        started("multigrid-CG from TFNO", "tfno"),
        started("multigrid-CG from learned fluxes", "learned-fluxes"),
    ]


def cases() -> list[Case]:
    """Return the three problems."""
    drawn: list[Fields] = []

    def darcy(kind: type[Fields]) -> Fields:
        if not drawn:
            drawn.append(darcy64())
        known = drawn[0]
        return kind(known.train, known.test, known.seeds, known.data_s)

    return [
        Case("reference-darcy16", 16, reference_darcy, quick=True),
        Case("darcy64", CELLS, partial(darcy, Fields), quick=True),
        Case("darcy64-start", CELLS, partial(darcy, Starts), quick=True),
    ]


if __name__ == "__main__":
    main("operators", __doc__, cases(), [*reference_methods(), *darcy_methods(), *start_methods()])
