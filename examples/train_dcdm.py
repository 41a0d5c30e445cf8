"""Train the search directions that come with the package: DCDM on a closed box, multilevel on obstacles.

Small boxes first, because a step on 16^3 cells costs a tenth of one on 32^3; the weights fit every size.
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
    MultilevelNetwork,
    Residuals,
    random_obstacles,
    train_directions,
)
from solvus.solvers.training import Cosine, Training

Stages = dict[int, tuple[int, float]]  # cells per axis -> optimiser steps, highest learning rate


def scenes(network: DirectionNetwork, n: int, seed: int) -> list[Grid]:
    """Return boxes of n^3 cells: one without obstacles, or several with some."""
    if isinstance(network, DCDMNetwork):
        return [Grid((n, n, n), centring="cell", boundary="neumann")]
    generator = torch.Generator().manual_seed(seed)
    return [random_obstacles(n, 1 + i % 4, generator) for i in range(16)]


def train(network: DirectionNetwork, stages: Stages, out: Path, batch: int = 10) -> float:
    """Train on boxes of each size, save the network with its card, and return the last validation loss."""
    best, spent = float("nan"), 0.0
    for n, (steps, rate) in stages.items():
        per_epoch = min(steps, 100)
        settings = Training(
            steps // per_epoch, batch, rate, "adam", 0.0, schedule=Cosine(), clip=1.0, checkpoint_seconds=60
        )
        trained = train_directions(
            network,
            Residuals(scenes(network, n, seed=1), per_epoch * batch),
            settings,
            valid=Residuals(scenes(network, n, seed=2), 4 * batch, seed=1),
            out=out / f"{n}",
            resume=True,
        )
        best, spent = trained.best or best, spent + trained.seconds
        print(f"{type(network).__name__} on {n}^3: validation {best:.4f}, {trained.seconds:.0f} s")
    record = {
        "boxes": ", ".join(f"{n}^3: {k} steps at rate {r:g}" for n, (k, r) in stages.items()),
        "batch": batch,
        "right-hand sides": f"{100 * batch} per size from the modes of the box, all in every epoch",
        "data": "closed box without obstacles" if isinstance(network, DCDMNetwork) else "1 to 4 obstacles",
        "seconds in all": round(spent, 1),
        "device": str(next(network.parameters()).device),
        "budget": "reduced: published are 1,000 epochs of 20,000 right-hand sides on 64^3 or 128^3",
    }
    network.save(out / "network", metrics={"validation loss": best}, meta=record, overwrite=True)
    return best


def main(out: str = "trained-directions", stages: Stages | None = None) -> dict[str, float]:
    """Return the validation losses of both networks; one core takes about ten minutes for the default.

    The published budget is a thousand passes over 20,000 right-hand sides, two million steps: far more.
    """
    torch.manual_seed(0)
    stages = stages or {16: (1600, 1e-3), 32: (100, 3e-4)}
    folder = Path(out)
    return {
        "dcdm": train(DCDMNetwork(), stages, folder / "dcdm"),
        "multilevel": train(MultilevelNetwork(), stages, folder / "multilevel"),
    }


if __name__ == "__main__":
    main(*sys.argv[1:2])
