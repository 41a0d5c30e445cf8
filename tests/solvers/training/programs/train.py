"""Train in a process of its own: `train.py OUT [die STEP]`, alone or under torchrun."""

import json
import os
import signal
import sys

import tiny
import torch

from solvus.solvers.training.distributed import processes, rank
from solvus.solvers.training.fit import fit
from solvus.solvers.training.logs import Callback
from solvus.solvers.training.losses import RelativeL2
from solvus.solvers.training.settings import Training


class Die(Callback):
    def __init__(self, step):
        self.step = step

    def on_batch(self, moment):
        if (moment.epoch - 1) * moment.batches + moment.batch == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


out, *rest = sys.argv[1:]
torch.set_num_threads(1)
accumulate = int(os.environ.get("ACCUMULATE", "1"))
settings = Training(
    epochs=4, batch=7, learning_rate=1e-2, accumulate=accumulate, ema=0.9, checkpoint_seconds=0, clip=1.0
)
dropout = float(os.environ.get("DROPOUT", "0"))
with processes("cpu"):
    net = tiny.make(dropout, seed=rank())  # the first process decides
    callbacks = [Die(int(rest[1]))] if rest else []
    result = fit(
        net,
        tiny.pairs(),
        RelativeL2(),
        settings,
        valid=tiny.pairs(9, seed=2),
        out=out,
        resume=True,
        callbacks=callbacks,
    )
    if rank() == 0:
        curve = [[row["train"], row["valid"]] for row in result.history]
        weights = [p.tolist() for p in net.parameters()]
        with open(os.path.join(out, "told.json"), "w") as file:
            json.dump({"curve": curve, "weights": weights, "outcome": result.outcome.name}, file)
