"""Train a network that corrects residuals, for flexible CG and hybrid iteration; compare with Jacobi-CG.

Every round draws fresh coefficients and gathers the residuals of flexible CG on them: without a
preconditioner at first, then with the network of the rounds before. Stopped and called again, it goes on.

Run: python examples/train_correction.py                       (a few steps, to see it work)
     python examples/train_correction.py out/correction-2d     (some minutes of one core)

The second form is what the weights under solvers/learned/weights/correction-2d come from.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem, Stop, jacobi, solve
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.learned.corrections import (
    CorrectionConfig,
    CorrectionData,
    CorrectionNetwork,
    learned_correction,
    train_correction,
)
from solvus.solvers.preconditioners import identity
from solvus.solvers.training import Cosine, Training
from solvus.solvers.training.saving import read_config


@dataclass(frozen=True)
class Round:
    """Unknowns per axis, systems, epochs, highest rate, whether the residuals are those of the network."""

    size: int
    systems: int
    epochs: int
    rate: float
    looped: bool = False


QUICK = (Round(15, 16, 4, 1e-2),)
ROUNDS = (
    Round(47, 96, 8, 2e-3),
    Round(63, 64, 6, 1e-3, looped=True),
    Round(63, 96, 6, 1e-3, looped=True),
)


def train(network: CorrectionNetwork, rounds: tuple[Round, ...], out: Path) -> None:
    """Train round after round, and save the network with its card in `out`/network."""
    spent, steps, last = 0.0, 0, float("nan")
    for number, this in enumerate(rounds):
        done = out / f"{number}" / "network"
        if done.is_dir():
            network.load_state_dict(CorrectionNetwork.load(done).state_dict())
            record = read_config(done)["meta"]
            spent, steps = spent + record["seconds"], steps + record["steps"]
            last = json.loads((done / "metrics.json").read_text())["valid"]
            continue
        looped = learned_correction(network, sweeps=0) if this.looped else identity
        data = CorrectionData(Grid((this.size,) * 2), this.systems, seed=number, preconditioner=looped)
        valid = CorrectionData(Grid((this.size,) * 2), 8, seed=1000)
        settings = Training(
            this.epochs, 8, this.rate, "adam", 0.0, schedule=Cosine(), clip=1.0, checkpoint_seconds=30
        )
        trained = train_correction(network, data, settings, valid=valid, out=out / f"{number}", resume=True)
        spent, last = spent + trained.seconds, trained.best or last
        steps += trained.history[-1]["step"] if trained.history else 0
        print(f"round {number}, {this.size}^2: validation {last:.4f}, {trained.seconds:.0f} s", flush=True)
    record = {
        "rounds": "; ".join(
            f"{r.size}^2, {r.systems} systems, {r.epochs} epochs at {r.rate:g}" + ", own residuals" * r.looped
            for r in rounds
        ),
        "data": "Poisson and log-normal coefficients, deviation up to 2; seeds 0, 1, ... per round",
        "loss": "NotayLoss with line search",
        "batch": 8,
        "steps": steps,
        "seed": 0,
        "seconds in all": round(spent, 1),
        "device": "cpu, one core shared with other work: seconds are wall time",
    }
    network.save(out / "network", metrics={"validation loss": last}, meta=record, overwrite=True)


def main(folder: str | None = None) -> float:
    """Return the steps of flexible CG with the network over those of CG with Jacobi's preconditioner."""
    torch.manual_seed(0)
    quick = folder is None
    config = CorrectionConfig(channels=6, layers=1, smoothing=("10", "10", "20")) if quick else None
    network = CorrectionNetwork(config)
    with tempfile.TemporaryDirectory() as scratch:
        train(network, QUICK if quick else ROUNDS, Path(folder or scratch))
    A = Diffusion(Grid((31, 31) if quick else (127, 127)))
    system = LinearSystem(A, torch.ones(A.shape[0], dtype=torch.float64))
    steps = solve(system, FlexibleCG(learned_correction(network)), stop=Stop(1e-6)).steps
    classical = solve(system, CG(jacobi), stop=Stop(1e-6)).steps
    print(f"{steps} steps with the network, {classical} with Jacobi's preconditioner")
    return steps / classical


if __name__ == "__main__":
    main(*sys.argv[1:2])
