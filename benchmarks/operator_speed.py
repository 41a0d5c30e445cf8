"""How fast is a training step of FNO, and how much memory does it need, next to neuraloperator's?

Equal configurations: those of neuraloperator 2.0 with its defaults, four layers, float32.

  fno1d    1,024 points, 16 modes, width 64, batches of 16
  fno2d    64 x 64 points, 16 modes, batches of 16: width 32
  wide2d   the same, width 64
  darcy85  85 x 85 points, 12 modes, width 32, batches of 16
  fno3d    32^3 points, 8 modes, width 20, batches of 4

`size` is points per axis. `solve_s` is one training step: forward, relative L2 error, backward, Adam; the
median of `extra.steps` steps after two that do not count. Steps of both packages alternate, so that both meet
the same machine, and the C library keeps freed memory for both. `extra.forward_s` is a forward pass without
gradients. `extra.peak_mb` is by how much the resident memory of a fresh process grows at most in three steps
(on a GPU: the allocator's peak in a step). `error` compares the outputs at equal weights, neuraloperator's
put into our network; not at 85 points, for which that version puts the frequencies of the leading axis one
place off. `compiled` is torch.compile, on a GPU only.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.operators.neural.base import parameter_count
from solvus.operators.neural.fno import FNO, FNOConfig
from solvus.operators.neural.layers import weight_from_centred
from solvus.solvers.allocator import keep_freed_memory
from solvus.solvers.training import RelativeL2

QUICK = "--quick" in sys.argv
STEPS = 10 if QUICK else 30
OURS, PEER = "FNO", "neuraloperator FNO"


@dataclass(frozen=True)
class Setting:
    """One configuration.

    Args:
        n_modes: as neuraloperator counts them, both signs.
        space: points.
        width: hidden channels.
        batch: samples of a step.
    """

    n_modes: tuple[int, ...]
    space: tuple[int, ...]
    width: int
    batch: int

    def network(self, name: str) -> nn.Module:
        """Make one of the two networks."""
        if name == OURS:
            return FNO(FNOConfig.like_neuraloperator(self.n_modes, 1, 1, self.width))
        try:
            from neuralop import models
        except ImportError:
            raise ImportError("neuraloperator is not installed: pip install solvus[compare]") from None
        return models.FNO(n_modes=self.n_modes, in_channels=1, out_channels=1, hidden_channels=self.width)

    def fields(self, device: str) -> tuple[Tensor, Tensor]:
        """Draw a batch."""
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(2, self.batch, 1, *self.space, generator=generator).to(device)
        return x, y


SETTINGS = {
    "fno1d": Setting((32,), (1024,), 64, 16),
    "fno2d": Setting((32, 32), (64, 64), 32, 16),
    "wide2d": Setting((32, 32), (64, 64), 64, 16),
    "darcy85": Setting((24, 24), (85, 85), 32, 16),
    "fno3d": Setting((16, 16, 16), (32, 32, 32), 20, 4),
}


class Race:
    """Both networks with equal weights, and the times of their steps, taken in turn.

    Args:
        name: of the setting.
    """

    dtype = "float32"

    def __init__(self, name: str) -> None:
        self.name, self.setting = name, SETTINGS[name]
        self.peer = self.setting.network(PEER)
        self.ours = self.setting.network(OURS)
        assert parameter_count(self.ours) == parameter_count(self.peer)
        put_weights(self.peer, self.ours)
        self._times: dict[tuple[str, bool], dict[str, tuple[float, float]]] = {}

    @property
    def unknowns(self) -> int:
        """Points of a field."""
        return int(torch.tensor(self.setting.space).prod())

    def times(self, device: str, *, compiled: bool) -> dict[str, tuple[float, float]]:
        """Return by network the seconds of a step and of a forward pass, measured once for both."""
        key = (device, compiled)
        if key not in self._times:
            self._times[key] = alternate(
                {OURS: self.ours, PEER: self.peer}, *self.setting.fields(device), compiled=compiled
            )
        return self._times[key]

    def check(self, value: tuple[Tensor, Tensor] | None) -> tuple[None, float | None]:
        """Return the relative difference of the outputs at equal weights."""
        if value is None:
            return None, None
        ours, peer = (v.double() for v in value)
        return None, float((ours - peer).norm() / peer.norm())


def put_weights(peer: nn.Module, ours: nn.Module) -> None:
    """Give our network the weights of neuraloperator's."""
    theirs = {name: t.detach() for name, t in peer.named_parameters()}
    own = dict(ours.named_parameters())
    taken: dict[str, Tensor] = {}
    for end in ("lifting", "projection"):
        for i, layer in enumerate(("first", "second")):
            for part in ("weight", "bias"):
                taken[f"{end}.{layer}.{part}"] = theirs[f"{end}.fcs.{i}.{part}"]
    for i in range(len(ours.blocks)):  # type: ignore[arg-type]
        block, inner = f"blocks.{i}", f"blocks.{i}.inner"
        taken[f"{inner}.spectral.weight.values"] = weight_from_centred(
            theirs[f"fno_blocks.convs.{i}.weight.tensor"]
        )
        taken[f"{inner}.skip.weight"] = theirs[f"fno_blocks.fno_skips.{i}.conv.weight"]
        taken[f"{inner}.skip.bias"] = theirs[f"fno_blocks.convs.{i}.bias"]
        for k, layer in enumerate(("first", "second")):
            for part in ("weight", "bias"):
                taken[f"{block}.mlp.{layer}.{part}"] = theirs[f"fno_blocks.channel_mlp.{i}.fcs.{k}.{part}"]
        taken[f"{block}.gate.weight"] = theirs[f"fno_blocks.channel_mlp_skips.{i}.weight"]
    assert set(taken) == set(own), (sorted(set(own) - set(taken)), sorted(set(taken) - set(own)))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(taken[name].reshape(parameter.shape))


def stepper(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return what makes one training step."""
    optimiser, loss = torch.optim.Adam(network.parameters(), 1e-3), RelativeL2()

    def step() -> None:
        optimiser.zero_grad()
        loss(network(x), y).mean().backward()
        optimiser.step()

    return step


def alternate(
    networks: dict[str, nn.Module], x: Tensor, y: Tensor, *, compiled: bool
) -> dict[str, tuple[float, float]]:
    """Time steps and forward passes of networks in turn; return the medians by name."""
    runs: dict[str, list[Callable[[], Any]]] = {}
    for name, network in networks.items():
        moved: Any = network.to(x.device)
        moved = torch.compile(moved) if compiled else moved
        runs[name] = [stepper(moved, x, y), torch.no_grad()(partial(moved, x))]
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runs}
    for k in range(STEPS + 2):
        for name, calls in runs.items():
            for call, seconds in zip(calls, taken[name], strict=True):
                begin = perf_counter()
                call()
                if x.is_cuda:
                    torch.cuda.synchronize()
                if k >= 2:
                    seconds.append(perf_counter() - begin)
    return {name: (median(steps), median(passes)) for name, (steps, passes) in taken.items()}


def peak_mb(name: str, network: str, options: Options) -> float:
    """Return by how much memory grows at most in three training steps."""
    setting = SETTINGS[name]
    if options.device != "cpu":
        x, y = setting.fields(options.device)
        step = stepper(setting.network(network).to(options.device), x, y)
        step()
        torch.cuda.reset_peak_memory_stats(options.device)
        before = torch.cuda.memory_allocated(options.device)
        step()
        return (torch.cuda.max_memory_allocated(options.device) - before) / 1e6
    command = [sys.executable, str(Path(__file__).resolve()), "--peak", name, network, str(options.threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def grown(name: str, network: str, threads: int) -> float:
    """Take three steps in this process, and return how much its resident memory grew at most, in MB."""
    keep_freed_memory()  # as `main` does for the timings
    torch.set_num_threads(threads)
    setting = SETTINGS[name]
    x, y = setting.fields("cpu")
    step = stepper(setting.network(network), x, y)
    small = Setting((4,) * len(setting.space), (8,) * len(setting.space), 4, 2)
    stepper(small.network(network), *small.fields("cpu"))()  # libraries start up
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    for _ in range(3):
        step()
    return (_status("VmHWM") - before) / 1e3


def _status(word: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(word))


def trained(network: str, *, compiled: bool = False) -> Method:
    """Return the method that makes training steps."""

    def run(race: Race, case: Case, options: Options) -> Outcome:
        value = None
        if network == OURS and not compiled and all(n % 2 == 0 for n in race.setting.space):
            fresh = race.setting.network(PEER)
            ours = race.setting.network(OURS)
            put_weights(fresh, ours)
            x, _ = race.setting.fields("cpu")
            with torch.no_grad():
                value = (ours(x), fresh(x))
        step_s, forward_s = race.times(options.device, compiled=compiled)[network]
        extra = {
            "forward_s": forward_s,
            "peak_mb": None if compiled else round(peak_mb(race.name, network, options), 1),
            "parameters": parameter_count(race.ours),
            "steps": STEPS,
        }
        return Outcome(value, solve_s=step_s, extra=extra)

    name = f"{network} compiled" if compiled else network
    package = "solvus" if network == OURS else "neuraloperator"
    on_gpu = any(word.startswith("cuda") for word in sys.argv)
    return Method(name, package, run, "learned", lambda case: on_gpu or not compiled)


def cases() -> list[Case]:
    """Return every configuration."""
    return [
        Case(name, setting.space[0], partial(Race, name), quick=True, ladder=False)
        for name, setting in SETTINGS.items()
    ]


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="neuralop")
    if sys.argv[1:2] == ["--peak"]:
        print(grown(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        methods = [trained(n, compiled=c) for c in (False, True) for n in (OURS, PEER)]
        main("operator_speed", __doc__, cases(), methods)
