"""Training steps of DeepXDE in a process of its own, driven by lines of JSON.

DeepXDE chooses a default device for all of torch when it is imported and prints as it goes; here it harms
nobody. `DeepXDE` starts the process and asks it; run as a script this file is the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from math import pi
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pinn_equations import EQUATIONS, VISCOSITY, Start, flat_gradient, load, put_weights

from solvus.solvers.allocator import keep_freed_memory


class DeepXDE:
    """A training run of DeepXDE, stopped between its steps.

    Args:
        name: of the equation.
        start: points and weights.
        device: cpu or cuda.
        threads: of torch.

    Attributes:
        version: of DeepXDE.

    Raises:
        ImportError: DeepXDE is not installed.
        RuntimeError: the process ended; the message is its last word.
    """

    setup_s = 0.0

    def __init__(self, name: str, start: Start, device: str, threads: int) -> None:
        environment = {**os.environ, "DDE_BACKEND": "pytorch", **_visible(device)}
        self._folder = tempfile.TemporaryDirectory(prefix="pinn-speed-")
        folder = Path(self._folder.name)
        start.save(folder / "start.npz")
        self._words = (folder / "words").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(folder / "start.npz"), name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
            env=environment,
        )
        try:
            self.version = self._reply()["version"]
        except BaseException:
            self.close()
            raise

    def gradient(self) -> tuple[float, NDArray[np.float64]]:
        """Return the loss at the first weights, and the gradient (P,) that its first step takes there."""
        answer = self._ask(do="gradient")
        return answer["loss"], np.array(answer["gradient"])

    def block(self, steps: int) -> tuple[float, float]:
        """Take steps; return the seconds of one on the clock and of the processor."""
        answer = self._ask(do="steps", steps=steps)
        return answer["wall_s"], answer["cpu_s"]

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()  # the end of its input ends the process
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()
        self._folder.cleanup()

    def _ask(self, **what: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the reply says why
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._words.seek(0)
            last = (self._words.read().strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"the process of DeepXDE ended: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise ImportError(f"DeepXDE cannot be imported ({answer['missing']}): pip install deepxde")
        return answer


def _visible(device: str) -> dict[str, str]:
    """Return the environment in which DeepXDE, which takes a GPU where it sees one, uses the device."""
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    if device == "cuda":
        return {}
    raise ValueError(f"DeepXDE runs on cpu or cuda here, got device {device!r}")


def residual(dde: Any, name: str) -> Callable[[Any, Any], Any]:
    """Return the equation as a user of DeepXDE writes it."""

    def poisson(x: Any, y: Any) -> Any:
        u_xx = dde.grad.hessian(y, x, i=0, j=0)
        u_yy = dde.grad.hessian(y, x, i=1, j=1)
        return u_xx + u_yy + 2 * pi**2 * torch.sin(pi * x[:, 0:1]) * torch.sin(pi * x[:, 1:2])

    def navier_stokes(x: Any, y: Any) -> Any:
        u, v = y[:, 0:1], y[:, 1:2]
        u_x, u_y = (dde.grad.jacobian(y, x, i=0, j=j) for j in (0, 1))
        v_x, v_y = (dde.grad.jacobian(y, x, i=1, j=j) for j in (0, 1))
        p_x, p_y = (dde.grad.jacobian(y, x, i=2, j=j) for j in (0, 1))
        u_xx, u_yy = (dde.grad.hessian(y, x, component=0, i=j, j=j) for j in (0, 1))
        v_xx, v_yy = (dde.grad.hessian(y, x, component=1, i=j, j=j) for j in (0, 1))
        return [
            u * u_x + v * u_y + p_x - VISCOSITY * (u_xx + u_yy),
            u * v_x + v * v_y + p_y - VISCOSITY * (v_xx + v_yy),
            u_x + v_y,
        ]

    def kuramoto_sivashinsky(x: Any, y: Any) -> Any:
        u_x = dde.grad.jacobian(y, x, i=0, j=0)
        u_t = dde.grad.jacobian(y, x, i=0, j=1)
        u_xx = dde.grad.hessian(y, x, i=0, j=0)
        u_xxxx = dde.grad.hessian(u_xx, x, i=0, j=0)
        return u_t + y * u_x + u_xx + u_xxxx

    written = (poisson, navier_stokes, kuramoto_sivashinsky)
    return dict(zip(EQUATIONS, written, strict=True))[name]


def model(dde: Any, name: str, start: Start) -> Any:
    """Return the compiled model of DeepXDE with our points and weights."""
    equation, sizes = EQUATIONS[name], [2, *(len(b) for b in start.biases)]
    pde, square = residual(dde, name), dde.geometry.Rectangle([-1, -1], [1, 1])
    given: Any = 0 if equation.given == 1 else list(range(equation.given))
    condition = dde.icbc.PointSetBC(start.edge, start.values, component=given)
    data = dde.data.PDE(square, pde, [condition], anchors=start.points)
    network = dde.nn.FNN(sizes, "tanh", "Glorot normal")
    put_weights(network, start)
    out = dde.Model(data, network)
    terms = 3 if name == "navier-stokes2d" else 1
    # its condition on several outputs is the mean over all of them: ours is the sum of their means
    out.compile("adam", lr=1e-3, loss_weights=[1] * terms + [equation.given], verbose=0)
    out.train_state.set_data_train(*data.train_next_batch())
    return out


def serve(path: str, name: str, threads: str) -> None:
    """Answer one line of standard input after the other."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever DeepXDE prints

    def say(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    torch.set_num_threads(int(threads))
    keep_freed_memory()  # as `main` does for the other methods
    start = load(Path(path))
    try:
        import deepxde as dde
    except ImportError as error:
        say(missing=str(error))
        return
    trained = model(dde, name, start)
    say(version=dde.__version__)

    def step() -> None:  # what `Model.train` does in an iteration that displays nothing
        trained.train_state.set_data_train(*trained.data.train_next_batch(None))
        state = trained.train_state
        trained.train_step(state.X_train, state.y_train, state.train_aux_vars)

    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "gradient":
            state = trained.train_state
            _, losses = trained.outputs_losses_train(state.X_train, state.y_train, state.train_aux_vars)
            step()  # leaves the gradient in the parameters
            say(loss=float(losses.sum().detach()), gradient=flat_gradient(trained.net).tolist())
        else:
            wall_s, cpu_s = timed(step, asked["steps"])
            say(wall_s=wall_s, cpu_s=cpu_s)


def timed(step: Callable[[], object], steps: int) -> tuple[float, float]:
    """Take one step that does not count, then `steps`; return seconds per step, wall and processor."""
    step()
    wait()
    wall, cpu = perf_counter(), process_time()
    for _ in range(steps):
        step()
    wait()
    return (perf_counter() - wall) / steps, (process_time() - cpu) / steps


def wait() -> None:
    """Wait for the GPU, where one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


if __name__ == "__main__":
    serve(*sys.argv[1:])
    os._exit(0)  # nothing is left to be written, and tidying up takes seconds
