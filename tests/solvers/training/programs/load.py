"""Load a model in a process of its own and predict: `load.py FOLDER IN.pt OUT.pt`."""

import sys

import tiny
import torch

from solvus.solvers.training.surrogate import Surrogate

folder, given, wanted = sys.argv[1:]
torch.set_num_threads(1)
model = Surrogate.load(folder, architectures={"Tiny": tiny.Tiny})
torch.save(model.predict(torch.load(given, weights_only=True)), wanted)
