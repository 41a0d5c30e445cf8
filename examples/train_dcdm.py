"""Train the search directions that come with the package: DCDM, multilevel, and symmetric multilevel.

Small boxes first, because a step on 32^3 cells costs an eighth of one on 64^3; the weights fit every size.
Stopped and called again, it goes on from its checkpoints.
Run: python examples/train_dcdm.py FOLDER
"""

import sys
from pathlib import Path

import torch

from solvus.meshes import Grid
from solvus.solvers.learned.directions import (
    DCDMNetwork,
    DirectionNetwork,
    KnownErrors,
    MultilevelNetwork,
    Residuals,
    SymmetricMultilevelNetwork,
    UnrolledCG,
    random_obstacles,
    train_directions,
)
from solvus.solvers.training import Cosine, Training

Stages = dict[int, tuple[int, float]]  # cells per axis -> optimiser steps, highest learning rate
PLAN: dict[str, Stages] = {
    "dcdm": {16: (1600, 1e-3), 32: (1300, 5e-4)},
    "multilevel": {16: (1600, 1e-3), 32: (100, 3e-4)},
    "multilevel-spd": {32: (210, 3e-4), 64: (80, 2e-4)},
}


def scenes(n: int, seed: int, count: int = 16) -> list[Grid]:
    """Return boxes of n^3 cells, a quarter without obstacles, the others with up to four."""
    generator = torch.Generator().manual_seed(seed)
    box = Grid((n, n, n), centring="cell", boundary="neumann")
    return [random_obstacles(n, 1 + i % 4, generator) if i % 4 else box for i in range(count)]


def batch_size(n: int) -> int:
    """Return how many right-hand sides make a step."""
    return 10 if n <= 16 else 4 if n <= 32 else 2


def train(network: DirectionNetwork, stages: Stages, out: Path) -> float:
    """Train on boxes of each size, save the network with its card, and return the last validation loss."""
    kind = KnownErrors if network.symmetric else Residuals
    best, spent = float("nan"), 0.0
    for n, (steps, rate) in stages.items():
        batch, epochs = batch_size(n), min(steps, 4)
        settings = Training(
            epochs,
            batch,
            rate,
            "adam",
            0.0,
            schedule=Cosine(),
            clip=1.0,
            checkpoint_seconds=60,
            select="last",
        )
        trained = train_directions(
            UnrolledCG(network) if network.symmetric else network,
            kind(scenes(n, seed=11), steps * batch // epochs, seed=100 + n),
            settings,
            valid=kind(scenes(n, seed=12), 8 * batch, seed=200 + n),
            out=out / f"{n}",
            resume=True,
        )
        best, spent = trained.history[-1]["valid"], spent + trained.seconds
        print(f"{type(network).__name__} on {n}^3: validation {best:.4f}, {trained.seconds:.0f} s")
    record = {
        "boxes": ", ".join(
            f"{n}^3: {k} steps of {batch_size(n)} at rate {r:g}" for n, (k, r) in stages.items()
        ),
        "data": f"{kind.__name__}; 16 scenes per size, 4 without obstacles, the others with 1 to 4",
        "seed": 0,
        "seconds in all": round(spent, 1),
        "device": str(next(network.parameters()).device),
        "budget": "reduced: published are 1,000 epochs of 20,000 right-hand sides on 64^3 or 128^3",
    }
    network.save(out / "network", metrics={"validation loss": best}, meta=record, overwrite=True)
    return best


def main(out: str = "trained-directions", stages: Stages | None = None) -> dict[str, float]:
    """Return the validation losses of the networks; one core takes about half an hour for the default.

    Stages that are given hold for all networks, in place of those of each.

    The published budget is a thousand passes over 20,000 right-hand sides, two million steps: far more.
    """
    networks = {
        "dcdm": DCDMNetwork,
        "multilevel": MultilevelNetwork,
        "multilevel-spd": SymmetricMultilevelNetwork,
    }
    losses = {}
    for name, plan in PLAN.items():
        torch.manual_seed(0)
        losses[name] = train(networks[name](), stages or plan, Path(out) / name)
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:2])
