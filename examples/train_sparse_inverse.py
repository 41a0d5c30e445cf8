"""Train the network that writes sparse inverses, and compare with Jacobi's method on matrices held out.

Run: python examples/train_sparse_inverse.py                            (20 steps, to see it work)
     python examples/train_sparse_inverse.py 1200 out/sparse-inverse    (seconds of training, where to save)

The second form is what the weights under solvers/learned/weights/sparse-inverse come from. Needs scikit-fem.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from solvus.solvers.learned.sparse_inverse import RandomMeshes, SparseInverseNetwork, Trainer, Training


def main(seconds: float | None = None, folder: str | None = None) -> float:
    """Return the steps of CG with the learned inverse over those with Jacobi's, on matrices held out."""
    quick = folder is None
    torch.manual_seed(0)
    network = SparseInverseNetwork()
    settings = Training(
        steps=20 if quick else 10**6,
        seconds=seconds,
        pool=4 if quick else 24,
        evaluate_every=10 if quick else 250,
        rate=1e-2 if quick else 3e-3,
    )
    stream = RandomMeshes((200, 400) if quick else (300, 2500))
    other = RandomMeshes(stream.unknowns, seed=1)
    validation = [other.draw(k) for k in range(2 if quick else 10)]
    rows = []

    def report(row):
        rows.append(row)
        print(f"step {row['step']}: loss {row['loss']:.3f}, CG steps {row['iterations']}", end="")
        print(f" against {row['jacobi']} with Jacobi's method, {row['ratio']:.2f} of them")

    trainer = Trainer(network, settings, draw=stream.draw, folder=folder, report=report)
    trainer.run(validation)
    if folder is not None:
        meta = {
            **asdict(settings),
            "data": f"stiffness matrices drawn by {stream}",
            "steps taken": trainer.step,
            "matrices drawn": trainer.drawn,
            "seconds": round(trainer.spent),
            "device": "cpu, 1 core",
        }
        last = rows[-1] if rows else {}
        network.save(Path(folder) / "part", metrics=last, meta=meta, overwrite=True)
    return rows[-1]["ratio"] if rows else 1.0


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None, sys.argv[2] if len(sys.argv) > 2 else None)
