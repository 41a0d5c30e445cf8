"""Train the network of the learned V-cycle on fresh coefficients, and compare with the classical cycle.

Run: python examples/train_vcycle.py                       (20 steps, to see it work)
     python examples/train_vcycle.py 1500 out/vcycle-2d    (seconds of training, where to save)

The second form is what the weights under solvers/learned/weights/vcycle-2d come from.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from solvus.solvers.learned.vcycle import Trainer, Training, VCycleConfig, VCycleNetwork, validation


def main(seconds: float | None = None, folder: str | None = None) -> float:
    """Return the iterations of the learned cycle over those of the classical one, on held-out systems."""
    quick = folder is None
    torch.manual_seed(0)
    network = VCycleNetwork(VCycleConfig(width=8 if quick else 32))
    settings = Training(
        steps=20 if quick else 10**6,
        seconds=seconds,
        sizes=(63,) if quick else (63, 95, 127),
        batch=2 if quick else 8,
        groups=1 if quick else 8,
        rate=3e-3,
        evaluate_every=10 if quick else 100,
    )
    rows = []

    def report(row):
        rows.append(row)
        print(f"step {row['step']}: loss {row['loss']:.3f}, iterations {row['iterations']}", end="")
        print(f" against {row['zero_output']} of the classical cycle")

    trainer = Trainer(network, settings, folder=folder, report=report)
    trainer.run(validation(63 if quick else 127))
    if folder is not None:
        last = rows[-1] if rows else {}
        meta = {**asdict(settings), "steps taken": trainer.step, "seconds": round(trainer.spent)}
        network.save(Path(folder) / "part", metrics=last, meta=meta, overwrite=True)
    return rows[-1]["ratio"] if rows else 1.0


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None, sys.argv[2] if len(sys.argv) > 2 else None)
