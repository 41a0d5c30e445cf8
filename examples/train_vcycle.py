"""Train the network that chooses the settings of the learned multigrid cycle, on systems drawn at random.

Run: python examples/train_vcycle.py                      (10 small systems, to see it work)
     python examples/train_vcycle.py 600 out/vcycle-2d    (systems, where to save)
     python examples/train_vcycle.py 300 out/vcycle-3d 3  (three axes)

Most of the time goes into counting steps of conjugate gradients: every setting solves every system once. Four
fifths of the systems train, the others say what the choice is worth: the geometric mean of its cost over that
of the classical W-cycle, below 1 where it helps.
"""

import sys
from time import perf_counter

import torch

from solvus.solvers.learned.vcycle import ChooserConfig, CycleChooser, Systems, chosen_cost, costs, fit

SIZES = {2: (95, 127, 191, 255, 383), 3: (23, 31, 39, 47)}


def main(count: int = 10, folder: str | None = None, dim: int = 2) -> float:
    """Return cost over that of the classical cycle on systems that were not trained on."""
    begin = perf_counter()
    systems = Systems(sizes=(31, 47) if folder is None else SIZES[dim], dim=dim)
    rows = [costs(systems.draw(number)) for number in range(count)]
    seen, table = torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])
    part = max(1, 4 * count // 5)
    torch.manual_seed(0)
    network = CycleChooser(ChooserConfig())
    trained = fit(network, seen[:part], table[:part], epochs=200 if folder is None else 1500)
    held_out = chosen_cost(network, seen[part:], table[part:])
    best = float((table[part:].min(1).values - table[part:, 0]).mean().exp())
    print(
        f"cost over the classical cycle's: {trained:.3f} trained, {held_out:.3f} held out, {best:.3f} at best"
    )
    if folder is not None:
        meta = {"systems": part, "seed": systems.seed, "sizes": systems.sizes, "device": "cpu"}
        meta["seconds"] = round(perf_counter() - begin)
        metrics = {"cost, trained": trained, "cost, held out": held_out, "cost, best choice": best}
        network.save(folder, metrics=metrics, meta=meta, overwrite=True)
    return held_out


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*([int(given[0]), given[1], *map(int, given[2:])] if given else []))
